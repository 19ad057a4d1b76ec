"""Soft labels from the user's files: probabilities, or scores, that take the place of a teacher's.

They come from an ensemble, a language model or an API. A row has one probability per label, or one score in a
regression task; a row whose cells are all empty has no soft labels.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rkd.data.files import FLOAT32_MAX, score_of
from rkd.data.reading import Columns, read_columns, shown
from rkd.data.soft_columns import PREFIX, columns_of
from rkd.errors import RkdError
from rkd.labels import is_missing, listed
from rkd.tasks import Task
from rkd.utils.files import sha256

# Largest distance of a sum of probabilities from 1, for numbers that were written with two or three digits.
TOLERANCE = 0.01


def columns_in(file: Mapping[str, Any]) -> list[str]:
    """Return the columns of a file that `rkd predict` wrote for probabilities: those whose name begins with `p_`."""
    path = Path(os.path.expanduser(file["path"]))
    where = file.get("where") or str(path)
    found = [name for name in read_columns(path, None, where=where) if name.startswith(PREFIX)]
    if len(found) < 2:
        raise RkdError(
            f"{where}: found no columns {PREFIX}LABEL of soft labels; expected one per label, or give labels"
        )
    return found


def of_training_rows(task: Task, own: Mapping[str, Any]) -> np.ndarray:
    """Return the soft labels of every row of the training file, float32, shape (rows, classes); NaN where none.

    Args:
        task: the task.
        own: `files` and `soft_labels` of a custom task, see `rkd.specs.data.DataSpec`.

    Raises:
        RkdError: a value is no probability (or no score), a row's do not sum to 1, some but not all are empty, or the
            file of soft labels has other rows than the training file.
    """
    asked, train = own["soft_labels"], own["files"]["train"]
    if asked.get("file") is None:
        return of_file(task, train, asked["columns"])
    found = of_file(task, asked["file"], None)
    _check_same_rows(task, train, asked["file"], len(found))
    return found


def of_file(task: Task, file: Mapping[str, Any], columns: Sequence[str] | None) -> np.ndarray:
    """Return the soft labels of every row of a file, float32, shape (rows, classes); errors as `of_training_rows`.

    Args:
        task: the task.
        file: `path`, and optionally `where` and `sha256`.
        columns: those of the labels, in their order; None: found by their names.
    """
    path = Path(os.path.expanduser(file["path"]))
    where = file.get("where") or str(path)
    if file.get("sha256") and (known := sha256(path)) != file["sha256"]:
        raise RkdError(f"{where}: sha256 is {known}; expected {file['sha256']}: the file has changed, start again")
    if columns is None:
        there = list(read_columns(path, None, where=where))
        wanted = [name for name in there if name.removeprefix(PREFIX) in task.labels or name in task.labels]
        wanted = wanted if task.labels else [name for name in there if name == "prediction"]
        try:
            columns = columns_of(task.labels, wanted)
        except RkdError as error:
            raise RkdError(f"{where}, soft labels: {error}") from None
    read = read_columns(path, list(columns), where=where)
    low, high = (0.0, 1.0) if task.labels else (-FLOAT32_MAX, FLOAT32_MAX)
    expected = "a probability from 0 to 1" if task.labels else "a number"
    rows = len(read[columns[0]])
    found = np.full((rows, len(columns)), np.nan)
    for index, column in enumerate(columns):
        for row, value in enumerate(read[column]):
            if is_missing(value):
                continue
            if (number := score_of(value, low, high)) is None:
                raise RkdError(f"{where}, row {row + 1}, column '{column}': found {shown(value)}; expected {expected}")
            found[row, index] = number
    return _normalised(found, where, columns) if task.labels else found.astype(np.float32)


def _normalised(found: np.ndarray, where: str, columns: Sequence[str]) -> np.ndarray:
    """Check that rows are whole and sum to 1, and divide them by their sum."""
    empty = np.isnan(found)
    if len(partly := np.flatnonzero(empty.any(axis=1) & ~empty.all(axis=1))):
        row = int(partly[0])
        column = columns[int(np.flatnonzero(empty[row])[0])]
        raise RkdError(
            f"{where}, row {row + 1}, column '{column}': found nothing; expected a probability as in the other columns "
            "of soft labels, or nothing in all of them"
        )
    sums = found.sum(axis=1)
    if len(wrong := np.flatnonzero(np.abs(sums - 1) > TOLERANCE)):
        row = int(wrong[0])
        raise RkdError(
            f"{where}, row {row + 1}: the probabilities sum to {sums[row]:.4g}; expected 1 (within {TOLERANCE}): "
            f"columns {listed(columns)}"
        )
    return (found / sums[:, None]).astype(np.float32)


def _check_same_rows(task: Task, train: Mapping[str, Any], file: Mapping[str, Any], rows: int) -> None:
    """Check that a file of soft labels has the rows of the training file: as many, and the same texts if it has any."""
    ours, theirs = (_texts(task, each) for each in (train, file))
    where = file.get("where") or file["path"]
    count = len(next(iter(ours.values())))
    if rows != count:
        raise RkdError(f"{where}: found {rows} rows of soft labels; expected {count}, one per training row")
    for column in theirs:
        for row, (one, other) in enumerate(zip(ours[column], theirs[column], strict=True), 1):
            if one != other:
                raise RkdError(
                    f"{where}, row {row}, column '{column}': found {shown(other)}; expected {shown(one)}, the text of "
                    "that training row"
                )


def _texts(task: Task, file: Mapping[str, Any]) -> Columns:
    path = Path(os.path.expanduser(file["path"]))
    found = read_columns(path, None, where=file.get("where") or str(path))
    return {column: found[column] for column in task.text_columns if column in found}
