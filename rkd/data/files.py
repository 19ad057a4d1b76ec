"""A user's own files: CSV, TSV, JSON Lines or Parquet with named columns → the splits of a task.

Rows are counted from 1, the header not among them. A CSV or TSV field may stand in double quotes, and then hold line
breaks and separators; a quote in it is written twice.
"""

import csv
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from rkd.data.glue_dir import features
from rkd.errors import RkdError
from rkd.runtime import sha256
from rkd.tasks import Task

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

# A column by name: the value of every row, as the file has it.
Columns = dict[str, list[Any]]


def read_splits(task: Task, own: Mapping[str, Any]) -> dict[str, Dataset]:
    """The splits train, validation and, where there is a file for it, test of a task of one's own.

    `idx` is the row's number in its file, from 0. Without a dev file, `validation` is a share of the training rows,
    chosen by `dev_seed` alone. Rows of a test file without the label column are unlabelled.

    Args:
        task: the task.
        own: `files` (by split: `path` and perhaps the expected `sha256`), `scores` ([low, high], "any" or None for
            labels) and, without a file for validation, `dev_share` and `dev_seed`; see `rkd.spec.DataSpec`.

    Raises:
        RkdError: a file is missing, unreadable or another one than planned, a column is missing, a value is no text,
            no label of the task or no score in its range; the message names file, row, column, found and expected.
    """
    found = {split: read_split(task, split, file, own.get("scores")) for split, file in own["files"].items()}
    if "validation" not in found:
        found["train"], found["validation"] = _share(found["train"], own["dev_share"], own["dev_seed"], own)
    return {split: found[split] for split in task.splits}


def read_columns(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> Columns:
    """Some columns of a file, whose format its name tells.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet file.
        wanted: columns that must be there.
        optional: columns that may be there; only those found are returned.
    """
    if path.suffix not in SUFFIXES:
        raise RkdError(f"{path}: found the ending '{path.suffix}', expected one of {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            return _parquet(path, wanted, optional)
        with path.open(encoding="utf-8-sig", newline="") as file:
            names, rows = _json_lines(path, file) if path.suffix == ".jsonl" else _separated(path, file)
            chosen = _chosen(path, names, wanted, optional)
            columns: Columns = {name: [] for name in chosen}
            for row in rows:
                for name, values in columns.items():
                    values.append(row.get(name))
            return columns
    except FileNotFoundError:
        raise RkdError(f"{path}: file not found") from None
    except UnicodeDecodeError as error:
        raise RkdError(f"{path}: found byte 0x{error.object[error.start]:02x}, expected UTF-8 text") from None
    except OSError as error:
        raise RkdError(f"{path}: cannot be read: {error.strerror or error}") from None


def _chosen(path: Path, names: Sequence[str], wanted: Sequence[str], optional: Sequence[str]) -> list[str]:
    for name in wanted:
        if name not in names:
            raise RkdError(f"{path}: column '{name}' is missing; found {', '.join(repr(n) for n in names) or 'none'}")
    for name in (*wanted, *optional):
        if list(names).count(name) > 1:
            raise RkdError(f"{path}: column '{name}' occurs {list(names).count(name)} times; expected once")
    return [*wanted, *(name for name in optional if name in names)]


def _separated(path: Path, file: Any) -> tuple[list[str], Iterator[dict[str, Any]]]:
    csv.field_size_limit(sys.maxsize)
    lines = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    header = next(lines, None)
    if not header:
        raise RkdError(f"{path}: the file is empty; expected a line with the columns' names")

    def rows() -> Iterator[dict[str, Any]]:
        number = 0
        while True:
            number += 1
            try:
                cells = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                hint = "a quote inside a quoted field is written twice"
                raise RkdError(f"{path}, row {number}: {error}; expected fields as CSV has them ({hint})") from None
            if not cells and len(header) > 1:  # an empty line, often the last one
                number -= 1
                continue
            if len(cells) != len(header):
                raise RkdError(
                    f"{path}, row {number}: found {len(cells)} fields, expected {len(header)}, as the header"
                )
            yield dict(zip(header, cells, strict=True))

    return header, rows()


def _json_lines(path: Path, file: Any) -> tuple[list[str], Iterator[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RkdError(f"{path}, row {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise RkdError(f"{path}, row {number}: found a JSON {type(row).__name__}, expected an object by column")
        rows.append(row)
    return list(dict.fromkeys(name for row in rows for name in row)), iter(rows)


def _parquet(path: Path, wanted: Sequence[str], optional: Sequence[str]) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        chosen = _chosen(path, file.schema_arrow.names, wanted, optional)
        table = file.read(columns=chosen)
    except pyarrow.ArrowInvalid as error:
        raise RkdError(f"{path}: cannot be read as Parquet: {error}") from None
    return {name: table[name].to_pylist() for name in chosen}


def read_split(task: Task, split: str, file: Mapping[str, Any], scores: Any) -> Dataset:
    """One file as a split; see `read_splits`. In the split `test` labels may be missing."""
    path = Path(os.path.expanduser(file["path"]))
    label, test = task.label_column or "label", split == "test"
    columns = read_columns(path, [*task.text_columns, *([] if test else [label])], [label] if test else [])
    if file.get("sha256") and (found := sha256(path)) != file["sha256"]:
        raise RkdError(f"{path}: sha256 is {found}; expected {file['sha256']}: the file has changed, start again")
    data: dict[str, list[Any]] = {}
    for field, column in zip(task.text_fields, task.text_columns, strict=True):
        data[field] = [_text(path, row, column, value) for row, value in enumerate(columns[column], 1)]
    count = len(data[task.text_fields[0]])
    if not count:
        raise RkdError(f"{path}: found no rows, expected at least one")
    if label in columns:
        data["label"] = [
            _unlabelled(task) if test and value in (None, "") else _label(task, path, row, value, scores)
            for row, value in enumerate(columns[label], 1)
        ]
    else:
        data["label"] = [_unlabelled(task)] * count
    return Dataset.from_dict({**data, "idx": list(range(count))}, features=features(task))


def _unlabelled(task: Task) -> float:
    return math.nan if task.regression else -1


def _text(path: Path, row: int, column: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    found = "nothing" if value is None else f"{value!r} ({type(value).__name__})"
    raise RkdError(f"{path}, row {row}, column '{column}': found {found}, expected text")


def label_text(value: Any) -> str:
    """A label as its name: `1`, `1.0` and `"1"` are one label, and so are `true` and `"true"`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _label(task: Task, path: Path, row: int, value: Any, scores: Any) -> float | int:
    where = f"{path}, row {row}, column '{task.label_column}'"
    shown = "nothing" if value in (None, "") else repr(value)
    if not task.regression:
        name = label_text(value)
        if value is None or name not in task.labels:
            raise RkdError(f"{where}: found {shown}, expected one of the labels {', '.join(task.labels)}")
        return task.labels.index(name)
    low, high = (-math.inf, math.inf) if scores in (None, "any") else scores
    expected = "a number" if scores in (None, "any") else f"a number from {low:g} to {high:g}"
    try:
        score = float("nan" if value is None or isinstance(value, bool) else value)
    except (TypeError, ValueError):
        score = math.nan
    if not (math.isfinite(score) and low <= score <= high):
        raise RkdError(f"{where}: found {shown}, expected {expected}")
    return score


def _share(train: Dataset, share: float, seed: int, own: Mapping[str, Any]) -> tuple[Dataset, Dataset]:
    """The training rows without the dev rows, and the dev rows, both in the order of the file."""
    rows = train.num_rows
    size = round(share * rows)
    if not 0 < size < rows:
        path = own["files"]["train"]["path"]
        raise RkdError(f"{path}: dev_share {share:g} of its {rows} rows are {size} rows; expected some, and some left")
    order = np.random.default_rng(seed).permutation(rows)
    return train.select(np.sort(order[size:])), train.select(np.sort(order[:size]))
