"""GLUE from the Hugging Face hub: the Parquet files of `nyu-mll/glue` at one commit."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from datasets import ClassLabel, Dataset, Features

from rkd.data import official
from rkd.data.glue_dir import features
from rkd.errors import RkdError
from rkd.models import hub
from rkd.tasks import Task

HUB_NAME = "nyu-mll/glue"
HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


def read_splits(task: Task, splits: Sequence[str], revision: str | None = None) -> dict[str, Dataset]:
    """Return the named splits of `task` at a revision of the dataset (a commit; `HUB_REVISION` by default).

    Texts, labels and order are those of the official files. `idx` counts from 0, and splits for which GLUE publishes no
    labels are unlabelled. Classes are matched by name.

    Raises:
        RkdError: the hub cannot be reached and the revision is not in the cache; a file, a column, a text or a label is
            missing; or rows, class names or contents differ from the official ones.

    Example:
        >>> read_splits(get("wnli"), ["validation"])["validation"].num_rows
        71
    """
    return {split: _read(task, split, revision) for split in splits}


def files_of(task: Task, split: str, revision: str | None = None) -> hub.Snapshot:
    """Return the files of a split and the dataset's README.md, downloaded to the cache and verified.

    Raises:
        RkdError: a file cannot be downloaded or does not match the hub's digest.
    """
    config, name = _place(task, split)
    try:
        parts = ((f"{config}/{name}-*.parquet",), ("README.md",))
        return hub.snapshot(HUB_NAME, revision or HUB_REVISION, parts, "dataset")
    except hub.Unreachable as error:
        raise RkdError(f"{error}, or the official GLUE files in a folder (glue_dir)") from error


def _place(task: Task, split: str) -> tuple[str, str]:
    """Return the configuration and the name of a split on the hub."""
    return ("ax", "test") if split == "ax" else (task.name, split)


def _read(task: Task, split: str, revision: str | None) -> Dataset:
    snapshot, (config, name) = files_of(task, split, revision), _place(task, split)
    where = f"{HUB_NAME}@{snapshot.commit} ({config}, {name})"
    files = sorted(file for file in snapshot.sha256 if file.endswith(".parquet"))
    if not files:
        raise RkdError(f"{where}: found no file {config}/{name}-*.parquet; expected one or more")
    table = _table([snapshot.folder / file for file in files], task, where)
    if table.num_rows != (expected := task.splits[split].rows):
        raise RkdError(f"{where}: found {table.num_rows} rows; expected {expected}")
    data: dict[str, Any] = {field: _texts(table, field, where) for field in task.text_fields}
    if split in task.test_splits:  # the hub writes -1, and for MRPC the answers
        data["label"] = [math.nan if task.regression else -1] * expected
    elif task.regression:
        data["label"] = _scores(table, where)
    else:
        data["label"] = _classes(table, _class_names(table, snapshot.folder / "README.md", config), task, where)
    data["idx"] = range(expected)  # for MRPC the hub's idx is not the row number of the official file
    result = Dataset.from_dict(data, features=features(task))
    official.check(task, split, result, where)
    return result


def _table(paths: Sequence[Path], task: Task, where: str) -> pa.Table:
    """Read the columns that a task needs from the files of a split."""
    path = paths[0]
    try:
        parts = []
        for path in paths:
            parts.append(pq.ParquetFile(path).read())
        table = pa.concat_tables(parts)
    except (OSError, pa.ArrowException) as error:
        raise RkdError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}; expected {where}") from None
    for column in (*task.text_fields, "label"):
        if (count := table.column_names.count(column)) != 1:
            found = ", ".join(map(repr, table.column_names))
            raise RkdError(f"{where}: found column '{column}' {count} times among {found}; expected it once")
    return table.select([*task.text_fields, "label"])


def _texts(table: pa.Table, field: str, where: str) -> list[str]:
    column = table[field]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise RkdError(f"{where}, column '{field}': found values of type {column.type}; expected text")
    _refuse_missing(column, field, where)
    return column.to_pylist()


def _scores(table: pa.Table, where: str) -> list[float]:
    column = table["label"]
    if not pa.types.is_floating(column.type):
        raise RkdError(f"{where}, column 'label': found values of type {column.type}; expected numbers from 0 to 5")
    _refuse_missing(column, "label", where)
    values: list[float] = column.to_pylist()
    for row, value in enumerate(values):
        if not 0 <= value <= 5:
            raise RkdError(f"{where}, row {row}: found score {value}; expected a number from 0 to 5")
    return values


def _classes(table: pa.Table, names: list[str] | None, task: Task, where: str) -> list[int]:
    """Map class ids in the order of `names` to class ids in the order of the task's labels."""
    column = table["label"]
    if names is None or not pa.types.is_integer(column.type):
        raise RkdError(
            f"{where}, column 'label': found values of type {column.type} without names; expected class numbers, and "
            f"their names {', '.join(task.labels)} in the file or in README.md"
        )
    if set(names) != set(task.labels) or len(names) != len(task.labels):
        raise RkdError(f"{where}: found the classes {', '.join(names)}; expected {', '.join(task.labels)}")
    _refuse_missing(column, "label", where)
    ids = [task.labels.index(name) for name in names]
    values = column.to_pylist()
    for row, value in enumerate(values):
        if not 0 <= value < len(ids):
            raise RkdError(f"{where}, row {row}: found label {value}; expected a class number below {len(ids)}")
    return [ids[value] for value in values]


def _refuse_missing(column: pa.ChunkedArray, name: str, where: str) -> None:
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py()
        raise RkdError(
            f"{where}, row {row}: found no value in column '{name}' (null, in {column.null_count} rows); expected one "
            "in every row"
        )


def _class_names(table: pa.Table, readme: Path, config: str) -> list[str] | None:
    """Return the class names by id, from the file or else the dataset's README.md; None if neither has them."""
    try:
        label = Features.from_arrow_schema(table.schema).get("label")
    except (ValueError, KeyError, TypeError):  # the metadata describe no valid features
        label = None
    if isinstance(label, ClassLabel) and label.names:
        return list(label.names)
    return _names_in_readme(readme, config)


def _names_in_readme(readme: Path, config: str) -> list[str] | None:
    """Return the class names from `dataset_info` in the YAML header of the dataset's README.md, or None."""
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    if not text.startswith("---\n"):
        return None
    try:
        described = yaml.safe_load(text[4:].split("\n---", 1)[0])["dataset_info"]
        features = next(info["features"] for info in described if info["config_name"] == config)
        label = next(feature for feature in features if feature["name"] == "label")
        names = label["dtype"]["class_label"]["names"]
        return [str(names[key]) for key in sorted(names, key=int)]
    except (yaml.YAMLError, StopIteration, KeyError, TypeError, ValueError):
        return None
