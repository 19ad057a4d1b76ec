"""Rows without labels and rows with soft labels, added to a training split for distillation."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, List, Value, concatenate_datasets

from rkd.data import soft_labels
from rkd.data.files import read_texts
from rkd.errors import RkdError
from rkd.labels import listed
from rkd.tasks import Task
from rkd.utils.files import sha256

# The column of soft labels of a training split: probabilities, or one score.
SOFT = "soft_labels"


def with_soft_labels(task: Task, train: Dataset, own: Mapping[str, Any]) -> Dataset:
    """Return the training split with the column `soft_labels`: probabilities or a score per row, NaN where none.

    Args:
        task: the task.
        train: the training split of a custom task; `idx` are rows of its file.
        own: the custom task, see `rkd.specs.data.DataSpec`.

    Raises:
        RkdError: as `rkd.data.soft_labels.of_training_rows`; or a row has neither a label nor soft labels.
    """
    found = soft_labels.of_training_rows(task, own)[np.array(train["idx"][:])]
    file = own["files"]["train"]
    labels = np.array(train["label"][:], dtype=float)
    unlabelled = np.isnan(labels) if task.regression else labels < 0
    if len(bare := np.flatnonzero(np.isnan(found).any(axis=1) & unlabelled)):
        where, row = file.get("where") or file["path"], train["idx"][int(bare[0])] + 1
        raise RkdError(f"{where}, row {row}: found neither a label nor soft labels; expected one of them")
    return _with_column(train, found)


def check_soft_labels(train: Dataset, own: Mapping[str, Any]) -> None:
    """Refuse training rows, those from a file of unlabelled ones among them, that all lack soft labels."""
    if np.isnan(np.array(train[SOFT][:], dtype=float)).any(axis=1).all():
        file, columns = own["soft_labels"].get("file") or own["files"]["train"], own["soft_labels"].get("columns")
        where = file.get("where") or file["path"]
        at = f", columns {listed(map(repr, columns))}" if columns else ""
        raise RkdError(f"{where}{at}: found no training row with soft labels; expected some")


def with_unlabelled(task: Task, raw: DatasetDict, file: Mapping[str, Any], own: Mapping[str, Any] | None) -> Dataset:
    """Return the training split with the rows of a file of texts after its own.

    They have the label -1 (NaN in a regression task) and numbers after all others as `idx`. A label column in the file
    is not read.

    Args:
        task: the task.
        raw: its splits.
        file: `path`, and optionally `where` and `sha256`.
        own: a custom task; if it has soft labels, the file has them in columns of its own.

    Raises:
        RkdError: the file is missing or unreadable, has changed, lacks a text column, or, with soft labels, a row has
            none.
    """
    path = Path(os.path.expanduser(file["path"]))
    where = file.get("where") or str(path)
    if own is None:  # GLUE's texts go by the hub's names: some of the release are no names ("#1 String")
        task = replace(task, text_columns=task.text_fields)
    more = read_texts(task, path, where)
    if file.get("sha256") and (found := sha256(path)) != file["sha256"]:
        raise RkdError(f"{where}: sha256 is {found}; expected {file['sha256']}: the file has changed, start again")
    first = 1 + max(max(split["idx"][:]) for split in raw.values())
    columns = {name: more[name][:] for name in more.column_names}
    columns["idx"] = list(range(first, first + len(more)))
    more = Dataset.from_dict(columns, features=more.features)
    if SOFT in raw["train"].column_names:
        soft = soft_labels.of_file(task, file, (own or {})["soft_labels"].get("columns"))
        if len(bare := np.flatnonzero(np.isnan(soft).any(axis=1))):
            raise RkdError(f"{where}, row {int(bare[0]) + 1}: found no soft labels; expected those of every row")
        more = _with_column(more, soft)
    return concatenate_datasets([raw["train"], more])


def _with_column(rows: Dataset, soft: np.ndarray) -> Dataset:
    columns = {name: rows[name][:] for name in rows.column_names} | {SOFT: soft.tolist()}
    features = Features({**rows.features, SOFT: List(Value("float32"), length=soft.shape[1])})
    return Dataset.from_dict(columns, features=features)
