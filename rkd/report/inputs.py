"""Readers of metrics and history files, as tidy data frames."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from jsonschema import Draft202012Validator

from rkd.errors import RkdError
from rkd.metrics.facts import PROBABILISTIC
from rkd.runs.history import read_history
from rkd.runs.metrics import read_metrics as read_metrics_file
from rkd.runs.paths import run_of
from rkd.runs.task import task_of
from rkd.utils.json_values import object_schema

PRIMARY = "primary_score"  # the name of the primary score in the column metric


def _schema(**properties: Any) -> Draft202012Validator:
    return Draft202012Validator(object_schema(**properties))


def read_metrics(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read metrics files, one row per number.

    Returns:
        A frame with the columns task, variant, method, seed, split, metric, value (a fraction, or nats; NaN where
        undefined), rows (examples scored), synthetic and file. The primary score is the metric "primary_score" of the
        task's primary split. The measures of PROBABILISTIC are there where the file has them.

    Raises:
        RkdError: a file is missing or broken, lacks a split or metric of its task, or repeats a run.
    """
    columns = ["task", "variant", "method", "seed", "split", "metric", "value", "rows", "synthetic", "file"]
    records = [record for path in paths for record in _metrics_records(str(path))]
    frame = pd.DataFrame(records, columns=columns)
    _refuse_repeated(frame)
    return frame


def read_histories(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read history.jsonl files, one row per evaluation.

    Task, variant and seed come from the path: …/runs/{task}/{variant}-{digest}/seed-{seed}/history.jsonl.

    Returns:
        A frame with the columns task, variant, seed, file, epoch, step, primary_score (a fraction, NaN where
        undefined) and, where the files have them, nested values under dotted names: train.loss,
        dev.validation.accuracy, teacher.distance, ….

    Raises:
        RkdError: a file is missing or empty, has a broken line, is not in a run's folder, or repeats a run.
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
    for split in task.compared_splits:
        scores = found["splits"].get(split, {})
        if absent := [name for name in (*task.metrics, "rows") if name not in scores]:
            raise RkdError(f"{file}: splits/{split} has no '{absent[0]}'; found {', '.join(scores) or 'nothing'}")
        values = {name: scores[name] for name in task.metrics}
        if split == task.primary_split:
            values[PRIMARY] = found["primary_score"]
            measured = found.get("probabilistic", {}).get(split, {})
            values |= {name: measured[name] for name in PROBABILISTIC if name in measured}
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
    run = pd.DataFrame({**place.columns(), "file": file}, index=frame.index)
    return pd.concat([run, frame], axis="columns")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _refuse_repeated(frame: pd.DataFrame) -> None:
    runs = frame[["task", "variant", "seed", "file"]].drop_duplicates()
    repeated = runs[runs.duplicated(["task", "variant", "seed"], keep=False)]
    if not repeated.empty:
        first, second = repeated.sort_values(["task", "variant", "seed"])["file"].iloc[:2]
        raise RkdError(f"{first} and {second} are the same task, variant and seed; expected each run once")
