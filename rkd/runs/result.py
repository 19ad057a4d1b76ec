"""A finished run as a whole: its scores, predictions and history."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.runs.history import read_history
from rkd.runs.paths import check_finished
from rkd.runs.predictions import read_predictions
from rkd.runs.record import OUTPUTS, unchanged
from rkd.runs.task import task_of
from rkd.tasks import Task, label_text


@dataclass(frozen=True)
class Result:
    """The result of a finished run.

    Attributes:
        folder: the run's folder, with model/, predictions.parquet, logits.parquet, history.jsonl and run.json.
        metrics: `splits` (metrics by split), `primary_score`, and `teacher`, the teacher's primary score before the
            first step, where there is a teacher.
        predictions: columns split, idx (row of its file or table, from 0), label, prediction (names, or scores) and
            one logit per label.
        history: an evaluation per epoch, the first before any step.
    """

    folder: Path
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: list[dict[str, Any]]


def read_result(folder: str | Path) -> Result:
    """Read a finished run, a workflow's or the student of a distillation.

    Raises:
        RkdError: no finished run is there, or a part of it is missing, damaged or not as its training left it.

    >>> read_result("distilled/student").metrics["primary_score"]
    0.91
    """
    folder = Path(folder)
    check_finished(folder)
    return result_of(task_of(unchanged(folder, *OUTPUTS)["spec"], folder / "run.json"), folder)


def result_of(task: Task, folder: Path) -> Result:
    """Read a run that has just finished here: `read_result` without a look at the digests of its files."""
    if not (folder / "model" / "config.json").is_file():
        raise RkdError(f"{folder}: found no model/config.json; expected the folder of a finished run")
    frame = read_predictions(folder / "predictions.parquet")
    history = read_history(folder / "history.jsonl")
    try:
        found = metrics.from_predictions(task, frame)
    except RkdError as error:
        raise RkdError(f"{folder / 'predictions.parquet'}: {error}") from None
    if "teacher" in history[0]:
        score = history[0]["teacher"]["primary_score"]
        found["teacher"] = math.nan if score is None else score
    if not task.regression:
        for column in ("label", "prediction"):
            frame[column] = [None if math.isnan(value) else label_text(task, value) for value in frame[column]]
        frame = frame.rename(columns={f"logit_{index}": f"logit_{each}" for index, each in enumerate(task.labels)})
    return Result(folder, found, frame, history)
