"""The table of tuning: the held-out score of every value that was tried, and the overlay with the chosen ones."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from rkd.report.captions import data_text, model_text
from rkd.report.names import score_name
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.tables.ablation import value_text
from rkd.report.tables.base import MISSING
from rkd.runs.history import read_history
from rkd.runs.paths import Run, run_of
from rkd.specs.jobs import TEACHER
from rkd.specs.tuning import Tried, TuningSpec
from rkd.tasks import get

_CHOSEN = "*"


@dataclass(frozen=True)
class Tuning:
    """Held-out primary scores in points by candidate, and the history files behind them."""

    spec: TuningSpec
    scores: Mapping[Run, float]
    files: Mapping[Run, str]

    def frame(self) -> pd.DataFrame:
        """Return one candidate per row: task, row, values, held_out, chosen."""
        chosen = {id(one) for one in self.chosen()}
        lines = [
            (one.task, one.row, _values_text(one), self.scores.get(self._run(one), math.nan), id(one) in chosen)
            for one in self.spec.tried
        ]
        return pd.DataFrame(lines, columns=["task", "row", "values", "held_out", "chosen"])

    def sidecar(self) -> dict[str, object]:
        """Return the history file behind each score."""
        lines = self.frame().astype(object).where(lambda frame: frame.notna(), None).to_dict("records")
        files = [self.files.get(self._run(one)) for one in self.spec.tried]
        cells = [{**line, "file": file} for line, file in zip(lines, files, strict=True)]
        return {"caption": self._caption(), "unit": "points", "cells": cells}

    def grid(self) -> Grid:
        """Return the printed table: a section per task, a line per row, a column per candidate."""
        labels, chosen = self.spec.labels(), {id(one) for one in self.chosen()}
        heads = tuple(dict.fromkeys(map(_values_text, self.spec.tried)))
        sections = []
        for task in self.spec.tasks:
            lines = [
                (Cell(labels[row]), *(self._cell(one, chosen) for one in self._of(task, row)))
                for row in dict.fromkeys(one.row for one in self.spec.tried)
            ]
            sections.append(Section(f"{get(task).title} ({score_name(get(task))})", tuple(lines)))
        return Grid((("", heads),), tuple(sections), self._caption(), tuple(self._notes()))

    def chosen(self) -> list[Tried]:
        """Return the best candidate of each row on each task: among equal ones the first, and none if all are equal."""
        return [max(known, key=self._score) for known in self._known() if self._differ(known)]

    def _known(self) -> Iterator[list[Tried]]:
        """Yield the candidates with a score of each row on each task."""
        for task in self.spec.tasks:
            for row in dict.fromkeys(one.row for one in self.spec.tried):
                yield [one for one in self._of(task, row) if not math.isnan(self._score(one))]

    def _differ(self, known: Sequence[Tried]) -> bool:
        return len(known) == 1 or len({*map(self._score, known)}) > 1

    def overlay(self, made_by: str) -> str:
        """Return the overlay for the config: its settings per task with the chosen values.

        Args:
            made_by: the target that made it, for the comment at its top.
        """
        settings: dict[str, Any] = copy.deepcopy(self.spec.per_task)
        for one in self.chosen():
            own = settings.setdefault(one.task, {})
            place = own.setdefault("teacher", {}) if one.row == TEACHER else own.setdefault("variants", {})
            place.update(one.values) if one.row == TEACHER else place.setdefault(one.row, {}).update(one.values)
        seed = self.spec.seeds[0]
        return (
            f"# Written by `snakemake {made_by}`: for each task and row, the values with the highest score on\n"
            f"# held-out training examples (seed {seed}). Pass this file after the config that was tuned.\n"
            + yaml.safe_dump({"per_task": settings}, sort_keys=False, allow_unicode=True)
        )

    def _of(self, task: str, row: str) -> list[Tried]:
        return [one for one in self.spec.tried if (one.task, one.row) == (task, row)]

    def _run(self, one: Tried) -> Run:
        return Run(one.task, one.variant, self.spec.seeds[0], one.digest)

    def _score(self, one: Tried) -> float:
        return self.scores.get(self._run(one), math.nan)

    def _cell(self, one: Tried, chosen: set[int]) -> Cell:
        score = self._score(one)
        return Cell(MISSING if math.isnan(score) else f"{score:z.1f}", mark=_CHOSEN if id(one) in chosen else "")

    def _caption(self) -> str:
        what = "GLUE primary scores (×100) of tuning, on held-out training examples,"
        seed = f"One seed ({self.spec.seeds[0]}), so a small difference may be chance."
        return f"{data_text(self.spec, what)} {model_text(self.spec)} {seed}"

    def _notes(self) -> Iterator[Note]:
        if self.chosen():
            yield Note("chosen: the highest score of the row on the task; among equal ones the first", _CHOSEN)
        if equal := [known[0] for known in self._known() if not self._differ(known) and known]:
            yield Note(f"All values have the same score for {self._places(equal)}: nothing is chosen there.")
        if absent := sum(math.isnan(self._score(one)) for one in self.spec.tried):
            yield Note(f"{absent} of {len(self.spec.tried)} runs are missing or have no defined score: {MISSING}.")
        for text in self._at_the_edge():
            yield Note(text)

    def _at_the_edge(self) -> Iterator[str]:
        """Say where the best of several numbers is the lowest or the highest: a wider list may have a better one."""
        for key in dict.fromkeys(key for one in self.spec.tried for key in one.values):
            tried = sorted({one.values[key] for one in self.spec.tried})
            ends = [one for one in self.chosen() if one.values[key] in (tried[0], tried[-1])]
            if len(tried) > 2 and ends:
                where = self._places(ends)
                yield f"The lowest or highest {key} was best for {where}: a wider range may have a better one."

    def _places(self, found: Sequence[Tried]) -> str:
        return ", ".join(f"{self.spec.labels()[one.row]} on {get(one.task).title}" for one in found)


def tuning(spec: TuningSpec, histories: Sequence[str]) -> Tuning:
    """Return the held-out scores of the candidates.

    Args:
        spec: what was tried.
        histories: history.jsonl files of the candidates' runs.

    Raises:
        RkdError: a file is of another run, or has no held-out scores.
    """
    scores: dict[Run, float] = {}
    files: dict[Run, str] = {}
    for file in histories:
        trained = [line for line in read_history(file) if line["step"] > 0]
        found = [line["held_out"] for line in trained if line.get("held_out") is not None]
        run = run_of(file)
        scores[run], files[run] = 100 * max(found) if found else math.nan, file
    return Tuning(spec, scores, files)


def _values_text(one: Tried) -> str:
    return ", ".join(f"{key} {value_text(value)}" for key, value in one.values.items())
