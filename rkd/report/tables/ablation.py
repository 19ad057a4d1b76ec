"""The table of one ablation axis."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from rkd.report.captions import data_text, model_text, selection_text
from rkd.report.inputs import PRIMARY
from rkd.report.names import score_name
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.statistics.intervals import Interval, seed_interval
from rkd.report.tables.base import MISSING, count_range, score_cell
from rkd.specs.report import Axis, ReportSpec, is_number
from rkd.tasks import get


@dataclass(frozen=True)
class AblationTable:
    """Primary scores in points by (variant, task), over seeds, and the metrics files behind them."""

    spec: ReportSpec
    axis: Axis
    scores: dict[tuple[str, str], Interval]
    files: dict[tuple[str, str], tuple[str, ...]]

    def frame(self) -> pd.DataFrame:
        """Return one score per row: axis, value, variant, task, mean, std, low, high, n."""
        names = ["axis", "value", "variant", "task", "mean", "std", "low", "high", "n"]
        lines = [
            (self.axis.name, value_text(value), variant, task, one.mean, one.sd, one.low, one.high, one.n)
            for value, variant, task, one in self.cells()
        ]
        return pd.DataFrame(lines, columns=names)

    def sidecar(self) -> dict[str, object]:
        """Return the metrics files behind each mean."""
        cells = [
            {**line, "files": list(self.files[line["variant"], line["task"]])}
            for line in self.frame().to_dict("records")
        ]
        return {"caption": self._caption(), "unit": "points", "cells": cells}

    def grid(self) -> Grid:
        """Return the printed table: a line per value, a column per task."""
        groups = tuple((get(task).title, (score_name(get(task)),)) for task in self.axis.tasks)
        texts = axis_texts(self.axis)
        lines = tuple(
            (Cell(text), *self._line(variant)) for text, (_, variant) in zip(texts, self.axis.values, strict=True)
        )
        notes = tuple(map(Note, self._remarks()))
        return Grid((*groups, ("", ("Seeds",))), (Section("", lines),), self._caption(), notes, self.axis.name)

    def cells(self) -> Iterator[tuple[Any, str, str, Interval]]:
        """Yield (value, variant, task, scores) for each combination with at least one run."""
        for value, variant in self.axis.values:
            for task in self.axis.tasks:
                if one := self.scores.get((variant, task)):
                    yield value, variant, task, one

    def _line(self, variant: str) -> Iterator[Cell]:
        found = [self.scores.get((variant, task)) for task in self.axis.tasks]
        yield from map(score_cell, found)
        yield Cell(count_range(sorted({one.n for one in found if one})))

    def _caption(self) -> str:
        what = f"Ablation of {self.axis.name}: GLUE {{split}} primary scores (×100)"
        spread = "Mean ± sample standard deviation over seeds."
        data = data_text(replace(self.spec, tasks=self.axis.tasks), what)
        return f"{data} {model_text(self.spec)} {spread} {selection_text(self.spec)}"

    def _remarks(self) -> Iterator[str]:
        variants = {variant for _, variant in self.axis.values}
        planned = len(variants) * len(self.axis.tasks) * len(self.spec.seeds)
        found = sum(len(self.files.get((variant, task), ())) for variant in variants for task in self.axis.tasks)
        if found < planned:
            yield f"{planned - found} of {planned} runs are missing; a cell without any run is {MISSING}."
        yield "Other settings are those of the config's student section; differences are not tested here."


def ablation_table(spec: ReportSpec, metrics: pd.DataFrame) -> AblationTable:
    """Return primary scores by value and task.

    Args:
        spec: variants, tasks and the ablation axis of the report.
        metrics: the result of `read_metrics`; runs may be missing, and runs of variants off the axis are ignored.

    Raises:
        RkdError: `metrics` has runs that the spec does not name, or the spec has no axis.
    """
    axis = spec.ablation
    spec.admit(metrics)
    scores, files = {}, {}
    for (variant, task), runs in metrics[metrics["metric"] == PRIMARY].sort_values("seed").groupby(["variant", "task"]):
        scores[str(variant), str(task)] = seed_interval(100 * runs["value"].to_numpy(dtype=float))
        files[str(variant), str(task)] = tuple(runs["file"])
    return AblationTable(spec, axis, scores, files)


def axis_texts(axis: Axis) -> list[str]:
    """Return the printed forms of an axis' values; those of a grid name their parameters."""
    if not axis.parameters:
        return value_texts([value for value, _ in axis.values])
    columns = [value_texts(column) for column in zip(*(value for value, _ in axis.values), strict=True)]
    pairs = [zip(axis.parameters, texts, strict=True) for texts in zip(*columns, strict=True)]
    return [", ".join(f"{name} {text}" for name, text in pair) for pair in pairs]


def value_text(value: Any) -> str:
    """Return the printed form of a value: short numbers, lists as JSON."""
    if isinstance(value, bool | None.__class__ | list):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def value_texts(values: Sequence[Any]) -> list[str]:
    """Return the printed forms of the values of one axis, with all numbers in the same notation.

    >>> value_texts([0.00001, 0.001]), value_texts([0.5, 1.0])
    (['1e-5', '1e-3'], ['0.5', '1'])
    """
    texts = [value_text(value) for value in values]
    if any(re.fullmatch(r"[\d.]+e-?\d+", text) for text in texts) and all(map(is_number, values)):
        texts = [re.sub(r"\.?0*e([+-]?)0*(\d)", r"e\1\2", f"{value:.6e}").replace("e+", "e") for value in values]
    return texts
