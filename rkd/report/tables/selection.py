"""The table of selection: the best epoch on dev, which flatters, beside choices that do not look at dev."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rkd.report.captions import data_text, model_text
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.statistics.intervals import Interval, seed_interval
from rkd.report.tables.base import MISSING, count_range, score_cell
from rkd.specs.report import ReportSpec
from rkd.tasks import get

RULES = ("best", "held-out", "last")


@dataclass(frozen=True)
class Selection:
    """Primary scores in points by (row, task, rule), over seeds, and the files that they come from."""

    spec: ReportSpec
    scores: dict[tuple[str, str, str], Interval]
    files: dict[tuple[str, str], tuple[str, ...]]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that some run can be judged by."""
        return tuple(rule for rule in RULES if any(rule == key[2] for key in self.scores) or rule != "held-out")

    def frame(self) -> pd.DataFrame:
        """One number per line: row, task, selection, mean, std, low, high, n."""
        lines = [(*key, one.mean, one.sd, one.low, one.high, one.n) for key, one in self.scores.items()]
        return pd.DataFrame(lines, columns=["row", "task", "selection", "mean", "std", "low", "high", "n"])

    def sidecar(self) -> dict[str, object]:
        """Return the history files that each number is the mean of."""
        cells = [
            {**line, "files": list(self.files[line["row"], line["task"]])} for line in self.frame().to_dict("records")
        ]
        return {"caption": self._caption(), "unit": "points", "cells": cells}

    def grid(self) -> Grid:
        """Return the printed table: a line per row, a column per rule of every task."""
        groups = tuple((get(task).title, self.rules) for task in self.spec.tasks)
        lines = tuple((Cell(label), *self._line(name)) for name, label in self._rows().items())
        return Grid((*groups, ("", ("Seeds",))), (Section("", lines),), self._caption(), tuple(self._notes()))

    def _rows(self) -> dict[str, str]:
        return {variant.name: variant.label for variant in self.spec.variants}

    def _line(self, name: str) -> Iterator[Cell]:
        found = [self.scores.get((name, task, rule)) for task in self.spec.tasks for rule in self.rules]
        yield from map(score_cell, found)
        yield Cell(count_range(sorted({one.n for one in found if one})))

    def _caption(self) -> str:
        return f"{data_text(self.spec, 'GLUE dev primary scores (×100) by selection rule,')} {model_text(self.spec)}"

    def _notes(self) -> Iterator[Note]:
        planned = len(self.spec.tasks) * len(self.spec.variants) * len(self.spec.seeds)
        found = sum(len(files) for files in self.files.values())
        if found < planned:
            yield Note(f"{planned - found} of {planned} runs are missing; a cell without any run is {MISSING}.")
        if "held-out" in self.rules:
            yield Note("Held-out: the dev score of the epoch that is best on training examples set aside.")
        yield Note(
            "Best: the highest dev score of any epoch, an optimistic choice, as dev chooses and judges; last: the "
            "score after the last epoch. All are read from the same runs, whatever rule chose the model that was kept."
        )


def selection(spec: ReportSpec, histories: pd.DataFrame) -> Selection:
    """Dev score of every row and task under each selection rule.

    The untrained start (step 0) is no candidate. A mean is NaN if a seed has no defined score.

    Args:
        spec: what the table is about.
        histories: what `collect.read_histories` returns for the students; runs may be missing.

    Raises:
        RkdError: `histories` holds runs that the spec does not name.
    """
    spec.admit(histories)
    trained = histories[histories["step"] > 0].sort_values(["seed", "step"])
    scores: dict[tuple[str, str, str], Interval] = {}
    files: dict[tuple[str, str], tuple[str, ...]] = {}
    for variant in spec.variants:
        for task in spec.tasks:
            runs = trained[(trained["variant"] == variant.name) & (trained["task"] == task)].groupby("seed")
            if not len(runs):
                continue
            files[variant.name, task] = tuple(runs["file"].first())
            heads = [100 * run["primary_score"].to_numpy(dtype=np.float64) for _, run in runs]
            best = [np.nan if np.isnan(head).all() else np.nanmax(head) for head in heads]
            scores[variant.name, task, "best"] = seed_interval(best)
            if "held_out" in trained and all(run["held_out"].notna().any() for _, run in runs):
                chosen = [run["primary_score"].to_numpy(dtype=np.float64)[run["held_out"].argmax()] for _, run in runs]
                scores[variant.name, task, "held-out"] = seed_interval([100 * head for head in chosen])
            scores[variant.name, task, "last"] = seed_interval([head[-1] for head in heads])
    return Selection(spec, scores, files)
