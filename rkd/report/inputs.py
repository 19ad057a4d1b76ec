"""What a report is about, and the files it is made from, as tidy data frames."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jsonschema import Draft202012Validator

from rkd.errors import RkdError
from rkd.runs.history import read_history
from rkd.runs.metrics import read_metrics as read_metrics_file
from rkd.runs.paths import TEACHER, run_of
from rkd.runs.task import task_of
from rkd.tasks import get
from rkd.utils.json_values import NON_EMPTY, checked, object_schema, parse_json

PRIMARY = "primary_score"  # stands for the primary score among the metrics of a task


def _schema(**properties: Any) -> Draft202012Validator:
    return Draft202012Validator(object_schema(**properties))


_SPEC = _schema(
    tasks={"type": "array", "items": NON_EMPTY, "minItems": 1, "uniqueItems": True},
    variants={
        "type": "array",
        "items": _schema(name=NON_EMPTY, method=NON_EMPTY, label=NON_EMPTY).schema,
        "minItems": 1,
    },
    seeds={"type": "array", "items": {"type": "integer"}, "minItems": 1, "uniqueItems": True},
    synthetic={"type": "boolean"},
    teacher_model=NON_EMPTY,
    student_model=NON_EMPTY,
    selection=_schema(teacher=NON_EMPTY, student=NON_EMPTY).schema,
)


@dataclass(frozen=True)
class Variant:
    """One row of students: its name in paths, its method and its name in print."""

    name: str
    method: str
    label: str


@dataclass(frozen=True)
class ReportSpec:
    """What a table or figure shows, and what its caption has to say."""

    tasks: tuple[str, ...]
    variants: tuple[Variant, ...]  # in the order of the config
    seeds: tuple[int, ...]
    synthetic: bool  # that of GLUE's tasks; a task of one's own never is
    teacher_model: str
    student_model: str
    teacher_selection: str
    student_selection: str

    @classmethod
    def from_json(cls, text: str) -> "ReportSpec":
        """Read the JSON that the workflow hands to report scripts; `RkdError` if it is not one."""
        found = checked(_SPEC, parse_json(text, "report spec"), "report spec")
        variants = tuple(Variant(v["name"], v["method"], v["label"]) for v in found["variants"])
        names = [variant.name for variant in variants]
        if TEACHER in names or len(set(names)) < len(names):
            raise RkdError(f"report spec: variants must have different names other than '{TEACHER}'; found {names}")
        for task in found["tasks"]:
            get(task, found.get("custom_tasks", {}).get(task))
        return cls(
            tasks=tuple(found["tasks"]),
            variants=variants,
            seeds=tuple(found["seeds"]),
            synthetic=found["synthetic"],
            teacher_model=found["teacher_model"],
            student_model=found["student_model"],
            teacher_selection=found["selection"]["teacher"],
            student_selection=found["selection"]["student"],
        )

    def labels(self) -> dict[str, str]:
        """Row names in print by variant name, the teacher first."""
        return {TEACHER: "Teacher"} | {variant.name: variant.label for variant in self.variants}

    def is_synthetic(self, task: str) -> bool:
        """Whether a task's data are made up by our own grammar."""
        return self.synthetic and not get(task).own

    @property
    def heading(self) -> str:
        """What a figure says above its panels: which of them show synthetic data."""
        made_up = [get(task).title for task in self.tasks if self.is_synthetic(task)]
        if not made_up:
            return ""
        whose = "" if len(made_up) == len(self.tasks) else f"{', '.join(made_up)}: "
        return f"{whose}{'s' if whose else 'S'}ynthetic data, not GLUE."

    def admit(self, runs: pd.DataFrame) -> None:
        """Refuse runs that the report is not about: a stale file must not slip into a mean."""
        allowed = {"task": self.tasks, "variant": tuple(self.labels()), "seed": self.seeds}
        for column, values in allowed.items():
            alien = runs[~runs[column].isin(values)]
            if not alien.empty:
                first = alien.iloc[0]
                expected = ", ".join(map(str, values))
                raise RkdError(f"{first['file']}: {column} is {first[column]}; this report is about {expected}")
        if "synthetic" in runs:
            alien = runs[runs["synthetic"].astype(bool) != runs["task"].map(self.is_synthetic).astype(bool)]
            if not alien.empty:
                found = alien.iloc[0]
                expected = str(self.is_synthetic(found["task"]))
                raise RkdError(f"{found['file']}: synthetic is {found['synthetic']}; this report is about {expected}")


def read_metrics(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read metrics files, one row per number.

    Returns:
        A frame with the columns task, variant, method, seed, split, metric, value (a fraction, NaN where
        undefined), rows (examples scored), synthetic and file. The primary number is the metric
        "primary_score" of the task's primary split.

    Raises:
        RkdError: a file is missing or broken, lacks a dev split or metric of its task, or repeats a run.
    """
    columns = ["task", "variant", "method", "seed", "split", "metric", "value", "rows", "synthetic", "file"]
    records = [record for path in paths for record in _metrics_records(str(path))]
    frame = pd.DataFrame(records, columns=columns)
    _refuse_repeated(frame)
    return frame


def read_histories(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read history.jsonl files, one row per evaluation.

    Task, variant and seed come from the path: …/students/{task}/{variant}/seed-{seed}/history.jsonl, or
    …/teachers/{task}/seed-{seed}/history.jsonl, whose variant is "teacher".

    Returns:
        A frame with the columns task, variant, seed, file, epoch, step, primary_score (a fraction, NaN where
        undefined) and, where the files have them, nested values under dotted names: train.loss,
        dev.validation.accuracy, teacher.distance, ….

    Raises:
        RkdError: a file is missing, empty or broken (with the line), lies elsewhere, or repeats a run.
    """
    frames = [_history(str(path)) for path in paths]
    if not frames:
        return pd.DataFrame(columns=["task", "variant", "seed", "file", "epoch", "step", "primary_score"])
    frame = pd.concat(frames, ignore_index=True)
    _refuse_repeated(frame)
    return frame


def _metrics_records(file: str) -> list[dict[str, Any]]:
    found = read_metrics_file(file)
    task = task_of({"task": found["task"]}, file)
    run = {key: found[key] for key in ("task", "variant", "method", "seed", "synthetic")} | {"file": file}
    records = []
    for split in task.dev_splits:
        scores = found["splits"].get(split, {})
        if absent := [name for name in (*task.metrics, "rows") if name not in scores]:
            raise RkdError(f"{file}: splits/{split} has no '{absent[0]}'; found {', '.join(scores) or 'nothing'}")
        values = {name: scores[name] for name in task.metrics}
        if split == task.primary_split:
            values[PRIMARY] = found["primary_score"]
        records += [
            {**run, "split": split, "metric": name, "value": _number(value), "rows": scores["rows"]}
            for name, value in values.items()
        ]
    return records


def _history(file: str) -> pd.DataFrame:
    place = run_of(file)
    frame = pd.json_normalize(read_history(file))
    for column in {"primary_score", "held_out"} & set(frame):
        frame[column] = pd.to_numeric(frame[column])
    run = pd.DataFrame({**place._asdict(), "file": file}, index=frame.index)
    return pd.concat([run, frame], axis="columns")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _refuse_repeated(frame: pd.DataFrame) -> None:
    runs = frame[["task", "variant", "seed", "file"]].drop_duplicates()
    repeated = runs[runs.duplicated(["task", "variant", "seed"], keep=False)]
    if not repeated.empty:
        first, second = repeated.sort_values(["task", "variant", "seed"])["file"].iloc[:2]
        raise RkdError(f"{first} and {second} are the same task, variant and seed; expected each run once")
