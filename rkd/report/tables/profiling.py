"""The tables of efficiency (models) and cost (methods), from files of `rkd.profiling.measure`. Imports no torch."""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.tables.base import MISSING
from rkd.runs.task import CUSTOM_TASK, task_of
from rkd.tasks import get, register
from rkd.utils.json_values import checked, object_schema, read_json

PAPER_SPEEDUP = 1.94  # Ma et al. (2022): 6 layers, 66M parameters, against BERT-base
MODEL_NUMBERS = ("parameters", "parameters_without_embeddings", "flops", "latency_ms", "throughput")
METHOD_NUMBERS = ("seconds", "memory_mib", "student_forwards", "teacher_forwards", "backwards", "flops")
_RATIO = ("metadistil", "reptile")


@dataclass(frozen=True)
class Measurement:
    """One measurement file: its task and its content, with the machine and the rows."""

    file: str
    task: str
    content: dict[str, Any]

    @property
    def machine(self) -> str:
        """Name of the GPU, or name and number of threads of the processor."""
        found = self.content
        threads = found.get("threads")
        where = found.get("gpu") or f"{found.get('processor', 'unknown')}, {threads} thread{'s' * (threads != 1)}"
        return str(where)


def read_measurements(paths: Iterable[str | Path], numbers: tuple[str, ...]) -> list[Measurement]:
    """Read JSON files of `measure_efficiency` or `measure_cost`.

    Args:
        paths: the files.
        numbers: keys that every row must have, `MODEL_NUMBERS` or `METHOD_NUMBERS`.

    Raises:
        RkdError: a file is missing, broken or lacks a key.
    """
    schema = _schema(numbers)
    result = []
    for file in map(str, paths):
        content = checked(schema, read_json(file), file)
        result.append(Measurement(file, register(task_of(content, file)).name, content))
    return result


def _schema(numbers: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON Schema of a measurement with these numbers in its rows."""
    text, size = {"type": "string"}, {"type": "integer", "minimum": 1}
    number: dict[str, Any] = {"type": "number", "minimum": 0}
    row: dict[str, Any] = {"row": text} | {
        name: {**number, "type": ["number", "null"]} if name == "memory_mib" else number for name in numbers
    }
    above: dict[str, Any] = {"length": number}
    if numbers == METHOD_NUMBERS:
        row |= {"method": text}
        above = {"batch": {"type": "array", "items": size, "minItems": 2, "maxItems": 2}}
    rows = {"type": "array", "items": object_schema(**row), "minItems": 1}
    where = {"processor": text, "gpu": text, "threads": size}
    return object_schema(["task", "rows", *above], task=text, custom_task=CUSTOM_TASK, rows=rows, **above, **where)


@dataclass(frozen=True)
class EfficiencyTable:
    """Size and speed of teacher and students, by task."""

    measurements: tuple[Measurement, ...]

    def frame(self) -> pd.DataFrame:
        """Return one model per row; speedup is the teacher's latency / the model's, NaN without a teacher."""
        lines = []
        for one in self.measurements:
            rows = one.content["rows"]
            teacher = next((line["latency_ms"] for line in rows if line["row"] == "teacher"), math.nan)
            for line in rows:
                found = {name: line[name] for name in MODEL_NUMBERS}
                speedup = teacher / line["latency_ms"] if line["latency_ms"] else math.nan
                lines.append(
                    {"row": line["row"], "task": one.task, "length": one.content["length"], **found}
                    | {"speedup": speedup}
                )
        return pd.DataFrame(lines, columns=["row", "task", "length", *MODEL_NUMBERS, "speedup"])

    def sidecar(self) -> dict[str, object]:
        """Return the measurement files."""
        return {"caption": self._caption(), "files": {one.file: one.content for one in self.measurements}}

    def grid(self) -> Grid:
        """Return the printed table."""
        heads = ("Params, M", "w/o emb., M", "GFLOPs", "Latency, ms", "Examples/s", "Speed-up")
        sections = []
        frame = self.frame()
        for task, group in frame.groupby("task", sort=False):
            title = f"{get(str(task)).title} ({group['length'].iloc[0]:.0f} tokens)"
            sections.append(Section(title, tuple(_model_line(line, title) for line in group.to_dict("records"))))
        return Grid((("", ("Task", *heads)),), tuple(sections), self._caption(), tuple(map(Note, self._remarks())))

    def _caption(self) -> str:
        machines = "; ".join(dict.fromkeys(one.machine for one in self.measurements))
        return (
            "Size and speed of teacher and student on dev examples of real lengths, float32. Latency: median of one "
            f"example at a time; examples/s: in batches of 32, padded to their longest example. Measured on {machines}."
        )

    def _remarks(self) -> Iterator[str]:
        yield "Speed-up: the teacher's latency / the model's."
        yield (
            f"The paper quotes {PAPER_SPEEDUP:.2f}× for a 6-layer student of 66M parameters against BERT-base, on its "
            "own hardware: context, not a comparison."
        )
        yield "GFLOPs: matrix products of a forward pass (2 per multiply-add), mean over dev examples without padding."


@dataclass(frozen=True)
class CostTable:
    """Cost of one training step of every method on the same batch."""

    measurement: Measurement
    labels: Mapping[str, str]

    def frame(self) -> pd.DataFrame:
        """Return one method per row: row, method, the numbers, and seconds relative to kd (NaN without kd)."""
        frame = pd.DataFrame(self.measurement.content["rows"])[["row", "method", *METHOD_NUMBERS]]
        frame["memory_mib"] = frame["memory_mib"].astype(float)
        kd = frame.loc[frame["method"] == "kd", "seconds"]
        return frame.assign(relative=frame["seconds"] / (kd.iloc[0] if len(kd) else math.nan))

    def ratio(self) -> dict[str, float]:
        """Return MetaDistil's cost / Reptile's: seconds, memory_mib, flops; empty unless both were measured."""
        rows = {line["method"]: line for line in reversed(self.frame().to_dict("records"))}  # the first of each method
        if not set(_RATIO) <= set(rows):
            return {}
        metadistil, reptile = (rows[name] for name in _RATIO)
        return {
            name: float(metadistil[name] / reptile[name]) if reptile[name] else math.nan
            for name in ("seconds", "memory_mib", "flops")
        }

    def sidecar(self) -> dict[str, object]:
        """Return the measurement, and MetaDistil's cost / Reptile's."""
        return {
            "caption": self._caption(),
            "metadistil_by_reptile": self.ratio(),
            "files": {self.measurement.file: self.measurement.content},
        }

    def grid(self) -> Grid:
        """Return the printed table."""
        heads = ("s/step", "relative to kd", "Memory, MiB", "Student fwd", "Teacher fwd", "Backward", "GFLOPs")
        lines = tuple(self._line(line) for line in self.frame().to_dict("records"))
        return Grid((("", heads),), (Section("", lines),), self._caption(), tuple(map(Note, self._remarks())))

    def _line(self, line: Mapping[Hashable, Any]) -> tuple[Cell, ...]:
        return (
            Cell(self.labels.get(line["row"], line["row"])),
            Cell(_number(line["seconds"], 3)),
            Cell(_number(line["relative"], 2)),
            Cell(_number(line["memory_mib"], 0)),
            *(Cell(str(line[name])) for name in ("student_forwards", "teacher_forwards", "backwards")),
            Cell(_number(line["flops"] / 1e9, 1)),
        )

    def _caption(self) -> str:
        size, length = self.measurement.content["batch"]
        return (
            f"Cost of one training step on one batch of {get(self.measurement.task).title} ({size} examples padded to "
            f"{length} tokens), the same for every method. Measured on {self.measurement.machine}."
        )

    def _remarks(self) -> Iterator[str]:
        yield (
            "s/step: median. Memory: peak above the memory of the process before the models were loaded. Fwd, "
            "backward: passes in one step; kd runs its teacher, as in the first epoch, and reptile's two gradients "
            "share a backward pass where a task has two classes or a score. GFLOPs: matrix products of the whole step."
        )
        if ratio := self.ratio():
            yield (
                f"MetaDistil / Reptile: {ratio['seconds']:.2f} × the time, "
                f"{ratio['memory_mib']:.2f} × the memory, {ratio['flops']:.2f} × the FLOPs."
            )


def _model_line(line: Mapping[Hashable, Any], title: str) -> tuple[Cell, ...]:
    millions = (_short(line[name] / 1e6) for name in ("parameters", "parameters_without_embeddings"))
    return (
        Cell(str(line["row"]).capitalize() if line["row"] in ("teacher", "student") else str(line["row"])),
        Cell(title),
        *map(Cell, millions),
        Cell(_short(line["flops"] / 1e9)),
        Cell(_number(line["latency_ms"], 1)),
        Cell(_number(line["throughput"], 0)),
        Cell(MISSING if math.isnan(line["speedup"]) else f"{line['speedup']:.2f}×"),
    )


def _short(value: float) -> str:
    """Format with three significant digits; models of 1 and of 100 million parameters share a column."""
    return f"{value:#.3g}".rstrip(".")


def _number(value: float, digits: int) -> str:
    return MISSING if math.isnan(value) else f"{value:.{digits}f}"
