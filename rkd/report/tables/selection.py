"""The table of selection rules: the optimistic best epoch on dev beside rules that do not use dev."""

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

RULES = ("best", "held-out", "held-out-loss", "last")
# What the rules on held-out examples read of a history, and which end of it is good.
HELD_OUT = {"held-out": ("held_out", 1), "held-out-loss": ("held_out_loss", -1)}


@dataclass(frozen=True)
class Selection:
    """Primary scores in points by (variant, task, rule), over seeds, and the history files behind them."""

    spec: ReportSpec
    scores: dict[tuple[str, str, str], Interval]
    files: dict[tuple[str, str], tuple[str, ...]]

    @property
    def rules(self) -> tuple[str, ...]:
        """The selection rules of the table; those on held-out examples only if runs have any."""
        return tuple(rule for rule in RULES if any(rule == key[2] for key in self.scores) or rule not in HELD_OUT)

    def frame(self) -> pd.DataFrame:
        """Return one score per row: row, task, selection, mean, std, low, high, n."""
        lines = [(*key, one.mean, one.sd, one.low, one.high, one.n) for key, one in self.scores.items()]
        return pd.DataFrame(lines, columns=["row", "task", "selection", "mean", "std", "low", "high", "n"])

    def sidecar(self) -> dict[str, object]:
        """Return the history files behind each mean."""
        cells = [
            {**line, "files": list(self.files[line["row"], line["task"]])} for line in self.frame().to_dict("records")
        ]
        return {"caption": self._caption(), "unit": "points", "cells": cells}

    def grid(self) -> Grid:
        """Return the printed table: a line per variant, and for every task a column per rule."""
        groups = tuple((get(task).title, self.rules) for task in self.spec.tasks)
        lines = tuple((Cell(label), *self._line(name)) for name, label in self._labels().items())
        return Grid((*groups, ("", ("Seeds",))), (Section("", lines),), self._caption(), tuple(self._notes()))

    def _labels(self) -> dict[str, str]:
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
            yield Note("Held-out: the dev score of the epoch that is best on held-out training examples.")
        if "held-out-loss" in self.rules:
            yield Note("Held-out-loss: the dev score of the epoch with the lowest loss on held-out training examples.")
        yield Note(
            "Best: the highest dev score of any epoch, which is optimistic, because dev both selects and evaluates. "
            "Last: the score after the last epoch. All are from the same runs, whatever rule selected the saved model."
        )


def selection(spec: ReportSpec, histories: pd.DataFrame) -> Selection:
    """Return the dev score of every variant and task under each selection rule.

    The untrained start (step 0) is not a candidate. A mean is NaN if a seed has no defined score.

    Args:
        spec: variants and tasks of the table.
        histories: the students' histories, from `rkd.report.inputs.read_histories`; runs may be missing.

    Raises:
        RkdError: `histories` has runs that the spec does not name.
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
            by_epoch = [100 * run["primary_score"].to_numpy(dtype=np.float64) for _, run in runs]
            best = [np.nan if np.isnan(found).all() else np.nanmax(found) for found in by_epoch]
            scores[variant.name, task, "best"] = seed_interval(best)
            for rule, (column, sign) in HELD_OUT.items():
                if column in trained and all(run[column].notna().any() for _, run in runs):
                    chosen = [
                        run["primary_score"].to_numpy(dtype=np.float64)[(sign * run[column]).argmax()]
                        for _, run in runs
                    ]
                    scores[variant.name, task, rule] = seed_interval([100 * score for score in chosen])
            scores[variant.name, task, "last"] = seed_interval([found[-1] for found in by_epoch])
    return Selection(spec, scores, files)
