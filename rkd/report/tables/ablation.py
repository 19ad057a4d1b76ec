"""Ablations: the axes and one table each."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from jsonschema import Draft202012Validator

from rkd.errors import RkdError
from rkd.report.inputs import ReportSpec, score_name
from rkd.report.rendering.grid import Grid, Note, Part, Section
from rkd.report.statistics.intervals import Interval, seed_interval
from rkd.report.tables.main import MISSING, PRIMARY, count_range, data_text, model_text, score_part, selection_text
from rkd.runs import checked, parse_json
from rkd.tasks import get

_VALUE = {"type": ["string", "number", "boolean", "null", "array"]}
_SCHEMA = Draft202012Validator(
    {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["axis", "value", "variant"],
            "properties": {
                "axis": {"type": "string", "minLength": 1},
                "value": _VALUE,
                "variant": {"type": "string", "minLength": 1},
                "tasks": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
            "additionalProperties": False,
        },
    }
)


@dataclass(frozen=True)
class Axis:
    """One axis of ablation: its values in order, each the variant that was trained with it."""

    name: str
    values: tuple[tuple[Any, str], ...]  # (value, variant)
    tasks: tuple[str, ...]

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers, which have a place on a scale."""
        return all(_is_number(value) for value, _ in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether the numbers spread over more than a factor of 10: equal ratios then are equal distances."""
        numbers = [value for value, _ in self.values] if self.numeric else []
        return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= 10


def read_axes(text: str, spec: ReportSpec) -> dict[str, Axis]:
    """The axes in a JSON list of {"axis", "value", "variant"} and perhaps "tasks" (all of the report by default).

    Values of one axis keep their order, numbers are sorted.

    Raises:
        RkdError: not such a list, a variant or task that the report is not about, or a value twice on an axis.

    >>> read_axes('[{"axis": "alpha", "value": 0.5, "variant": "kd"}]', spec)["alpha"].values
    ((0.5, 'kd'),)
    """
    entries = checked(_SCHEMA, parse_json(text, "ablations"), "ablations")
    axes: dict[str, Axis] = {}
    for entry in entries:
        name, value, tasks = entry["axis"], entry["value"], tuple(entry.get("tasks", spec.tasks))
        if entry["variant"] not in spec.labels():
            raise RkdError(
                f"ablations: {name} has variant {entry['variant']}; expected one of {', '.join(spec.labels())}"
            )
        if alien := [task for task in tasks if task not in spec.tasks]:
            raise RkdError(f"ablations: {name} has task {alien[0]}; expected one of {', '.join(spec.tasks)}")
        known = axes.get(name, Axis(name, (), tasks))
        if value in [other for other, _ in known.values]:
            raise RkdError(f"ablations: {name} has the value {value_text(value)} twice")
        axes[name] = Axis(name, (*known.values, (value, entry["variant"])), known.tasks)
    return {name: Axis(name, _ordered(axis), axis.tasks) for name, axis in axes.items()}


def read_axis(text: str, spec: ReportSpec, name: str) -> Axis:
    """One axis of `read_axes`; `RkdError` with the known ones if there is none of this name."""
    axes = read_axes(text, spec)
    if name not in axes:
        raise RkdError(f"ablations: no axis {name!r}; found {', '.join(axes)}")
    return axes[name]


@dataclass(frozen=True)
class AblationTable:
    """Headline scores in points by (variant, task), over seeds."""

    spec: ReportSpec
    axis: Axis
    scores: dict[tuple[str, str], Interval]
    files: dict[tuple[str, str], tuple[str, ...]]

    def frame(self) -> pd.DataFrame:
        """One number per line: axis, value, variant, task, mean, std, low, high, n."""
        names = ["axis", "value", "variant", "task", "mean", "std", "low", "high", "n"]
        lines = [
            (self.axis.name, value_text(value), variant, task, one.mean, one.sd, one.low, one.high, one.n)
            for value, variant, task, one in self.cells()
        ]
        return pd.DataFrame(lines, columns=names)

    def sidecar(self) -> dict[str, object]:
        """The metrics files that each number is the mean of."""
        cells = [
            {**line, "files": list(self.files[line["variant"], line["task"]])}
            for line in self.frame().to_dict("records")
        ]
        return {"caption": self._caption(), "unit": "points", "cells": cells}

    def grid(self) -> Grid:
        """The table as it is printed: a line per value, a column per task."""
        groups = tuple((get(task).title, (score_name(get(task)),)) for task in self.axis.tasks)
        texts = value_texts([value for value, _ in self.axis.values])
        lines = tuple(
            (Part(text), *self._line(variant)) for text, (_, variant) in zip(texts, self.axis.values, strict=True)
        )
        notes = tuple(map(Note, self._remarks()))
        return Grid((*groups, ("", ("Seeds",))), (Section("", lines),), self._caption(), notes, self.axis.name)

    def cells(self) -> Iterator[tuple[Any, str, str, Interval]]:
        """(value, variant, task, scores) of all that was run."""
        for value, variant in self.axis.values:
            for task in self.axis.tasks:
                if one := self.scores.get((variant, task)):
                    yield value, variant, task, one

    def _line(self, variant: str) -> Iterator[Part]:
        found = [self.scores.get((variant, task)) for task in self.axis.tasks]
        yield from map(score_part, found)
        yield Part(count_range(sorted({one.n for one in found if one})))

    def _caption(self) -> str:
        what = f"Ablation of {self.axis.name}: GLUE dev primary scores (×100)"
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


def ablation_table(spec: ReportSpec, axis: Axis, metrics: pd.DataFrame) -> AblationTable:
    """Headline scores by value and task.

    Args:
        spec: what the report is about; names the axis's variants among others.
        axis: what `read_axes` returns.
        metrics: what `collect.read_metrics` returns; runs may be missing, others are left alone.

    Raises:
        RkdError: `metrics` holds runs that the spec does not name.
    """
    spec.admit(metrics)
    scores, files = {}, {}
    for (variant, task), runs in metrics[metrics["metric"] == PRIMARY].sort_values("seed").groupby(["variant", "task"]):
        scores[str(variant), str(task)] = seed_interval(100 * runs["value"].to_numpy(dtype=float))
        files[str(variant), str(task)] = tuple(runs["file"])
    return AblationTable(spec, axis, scores, files)


def value_text(value: Any) -> str:
    """A value as it is printed: numbers short, lists as JSON."""
    if isinstance(value, bool | None.__class__ | list):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def value_texts(values: Sequence[Any]) -> list[str]:
    """Values of one axis as they are printed: numbers all in the same notation.

    >>> value_texts([0.00001, 0.001]), value_texts([0.5, 1.0])
    (['1e-5', '1e-3'], ['0.5', '1'])
    """
    texts = [value_text(value) for value in values]
    if any(re.fullmatch(r"[\d.]+e-?\d+", text) for text in texts) and all(map(_is_number, values)):
        texts = [re.sub(r"\.?0*e([+-]?)0*(\d)", r"e\1\2", f"{value:.6e}").replace("e+", "e") for value in values]
    return texts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ordered(axis: Axis) -> tuple[tuple[Any, str], ...]:
    return tuple(sorted(axis.values, key=lambda pair: pair[0])) if axis.numeric else axis.values
