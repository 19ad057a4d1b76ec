"""The table of classes: precision, recall and F1 of every row on every class of every task."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rkd.metrics.by_class import by_class
from rkd.metrics.facts import MOST_CLASSES
from rkd.report.captions import data_text, model_text, selection_text, split_text
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.statistics.intervals import Interval, seed_interval
from rkd.report.statistics.predictions import Predictions
from rkd.report.tables.base import MISSING
from rkd.runs.paths import run_of
from rkd.specs.report import ReportSpec
from rkd.tasks import get

MEASURES = ("precision", "recall", "f1")
_HEADS = ("Precision", "Recall", "F1", "Mostly taken for", "Seeds")
# Task and class id, then the row.
Key = tuple[str, int, str]


@dataclass(frozen=True)
class Classes:
    """Measures over seeds, in percent, by task, class id and row, and the predictions files behind them.

    Attributes:
        measures: the interval of each of MEASURES; NaN where it is undefined for a seed.
        confusion: numbers of examples, summed over seeds, by task and row: a row per label, a column per prediction.
        support: the number of dev examples by task and class id.
        files: predictions files by task and row.
    """

    spec: ReportSpec
    measures: Mapping[Key, Mapping[str, Interval]]
    confusion: Mapping[tuple[str, str], NDArray[np.int64]]
    support: Mapping[tuple[str, int], int]
    files: Mapping[tuple[str, str], tuple[str, ...]]

    def frame(self) -> pd.DataFrame:
        """Return one task, class and row per line; scores in percent."""
        lines = []
        for (task, code, row), found in self.measures.items():
            line = {"task": task, "class": get(task).labels[code], "support": self.support[task, code], "row": row}
            for name in MEASURES:
                line |= {name: found[name].mean, f"{name}_std": found[name].sd}
            other, share = self._taken_for(task, code, row)
            line |= {"taken_for": other, "taken_for_percent": share}
            lines.append(line | {"seeds": len(self.files[task, row])})
        columns = ["task", "class", "support", "row", *(f"{name}{end}" for name in MEASURES for end in ("", "_std"))]
        return pd.DataFrame(lines, columns=[*columns, "taken_for", "taken_for_percent", "seeds"])

    def _taken_for(self, task: str, code: int, row: str) -> tuple[str | None, float]:
        """Return the class that examples of another are most often taken for, and their percentage; None if never."""
        if (task, row) not in self.confusion:
            return None, math.nan
        counts = self.confusion[task, row][code]
        wrong = counts.copy()
        wrong[code] = 0
        most = int(wrong.argmax())
        if not wrong[most]:
            return None, 0.0
        return get(task).labels[most], 100 * float(wrong[most] / counts.sum())

    def sidecar(self) -> dict[str, object]:
        """Return the predictions files behind each line, and the confusion matrices."""
        cells = [
            {**line, "files": list(self.files[line["task"], line["row"]])} for line in self.frame().to_dict("records")
        ]
        confusion: dict[str, dict[str, object]] = {}
        for (task, row), counts in self.confusion.items():
            confusion.setdefault(task, {"labels": list(get(task).labels)})[row] = counts.tolist()
        return {"caption": self._caption(), "unit": "percent", "cells": cells, "confusion": confusion}

    def grid(self) -> Grid:
        """Return the printed table: a section per task and class, a line per row."""
        sections = []
        for (task, code), rows in self.support.items():
            title = f"{get(task).title}: {get(task).labels[code]} (n = {rows})"
            sections.append(Section(title, tuple(self._lines(task, code))))
        return Grid((("", _HEADS),), tuple(sections), self._caption(), tuple(self._notes()))

    def _lines(self, task: str, code: int) -> Iterator[tuple[Cell, ...]]:
        for row, label in self.spec.labels().items():
            if (found := self.measures.get((task, code, row))) is None:
                continue
            cells = (
                Cell(MISSING) if math.isnan(one.mean) else Cell(f"{one.mean:.1f}", f"{one.sd:.1f}" if one.n > 1 else "")
                for one in (found[name] for name in MEASURES)
            )
            other, share = self._taken_for(task, code, row)
            taken = Cell(MISSING) if other is None else Cell(f"{other} ({share:.1f})")
            yield (Cell(label), *cells, taken, Cell(str(len(self.files[task, row]))))

    def _caption(self) -> str:
        what = "Scores of every class on GLUE {split} (×100),"
        tasks = tuple(task for task in self.spec.tasks if (task, 0) in self.support)
        data = data_text(replace(self.spec, tasks=tasks or self.spec.tasks), what)
        return f"{data} {model_text(self.spec)} {selection_text(self.spec)}"

    def _notes(self) -> Iterator[Note]:
        yield Note(f"Mean ± sample standard deviation over seeds. n: {split_text(self.spec.tasks)} rows of the class.")
        yield Note(f"{MISSING}: undefined for a seed, as precision is where the class is never predicted.")
        yield Note(
            "Mostly taken for: the wrong class that examples of this one get most often, in percent of them over all "
            f"seeds; {MISSING} if none gets a wrong one, or texts may have several. The confusion matrices are in "
            "classes.json."
        )


def classes(spec: ReportSpec, predictions: Iterable[str]) -> Classes:
    """Score every row on every class of the classification tasks with up to `MOST_CLASSES` classes.

    Args:
        spec: variants and tasks of the table.
        predictions: predictions.parquet files of teachers and students; runs may be missing.

    Raises:
        RkdError: a file is of a run that the spec does not name, or is damaged.
    """
    files = [str(file) for file in predictions]
    places = pd.DataFrame([{**run_of(file).columns(), "file": file} for file in files])
    if files:
        spec.admit(places)
    measures: dict[Key, dict[str, Interval]] = {}
    support: dict[tuple[str, int], int] = {}
    confusion: dict[tuple[str, str], NDArray[np.int64]] = {}
    read: dict[tuple[str, str], Predictions] = {}
    for task in (get(name) for name in spec.tasks):
        if task.regression or len(task.labels) > MOST_CLASSES or not files:
            continue
        for row in spec.labels():
            own = places[(places["task"] == task.name) & (places["variant"] == row)]["file"]
            if own.empty:
                continue
            found = read[task.name, row] = Predictions.read(own)
            scored = [
                by_class(task.labels, line, found.labels, multi_label=task.multi_label) for line in found.predictions
            ]
            matrices = [one.confusion for one in scored if one.confusion is not None]
            if matrices:
                confusion[task.name, row] = np.sum(matrices, axis=0)
            seeds = [one.classes for one in scored]
            for code in range(len(task.labels)):
                support[task.name, code] = seeds[0][code].support
                measures[task.name, code, row] = {
                    name: seed_interval(100 * np.array([getattr(seed[code], name) for seed in seeds]))
                    for name in MEASURES
                }
    return Classes(spec, measures, confusion, support, {key: one.files for key, one in read.items()})
