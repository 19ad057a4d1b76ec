"""The values by which examples are grouped into clusters, read from the raw data of a task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rkd import tasks
from rkd.data import synthetic
from rkd.data.raw import load_raw
from rkd.data.reading import read_columns
from rkd.errors import RkdError
from rkd.labels import is_missing
from rkd.specs.clusters import ClusterSpec
from rkd.utils.files import sha256


class Grouped(NamedTuple):
    """Examples of a split: their numbers, and for each column their values."""

    idx: list[int]
    fields: list[list[str]]


def read_grouping(spec: ClusterSpec, files: Mapping[str, str] | None = None) -> dict[str, Grouped]:
    """Return the values by which the examples of each dev split, or of a test file, are grouped.

    Without a dev file of its own, a custom task has its dev examples in the training file. All rows of that file are
    then returned, with their row numbers.

    Args:
        spec: the data and the columns.
        files: paths of a custom task's files, by split.

    Raises:
        RkdError: the data cannot be read, a file has changed since it was planned, or a row of a custom task's file has
            no value.
    """
    data = spec.data
    task = tasks.get(data.task, data.custom_task)
    if data.custom_task is not None:
        split = "test" if spec.test else task.primary_split
        return {split: _of_file(spec, data.custom_task, files or {})}
    rows = data.synthetic_rows or synthetic.ROWS
    read = load_raw(data.task, data.source, data.path, data.revision, task.dev_splits, rows)
    return {
        split: Grouped(read[split]["idx"][:], [read[split][column][:] for column in spec.columns])
        for split in task.dev_splits
    }


def _of_file(spec: ClusterSpec, own: Mapping[str, Any], files: Mapping[str, str]) -> Grouped:
    split = "test" if spec.test else "validation" if "validation" in own["files"] else "train"
    path = Path(files[split]).expanduser()
    if (found := sha256(path)) != own["files"][split]["sha256"]:
        expected = own["files"][split]["sha256"]
        raise RkdError(f"{path}: sha256 is {found}; expected {expected}: the file has changed, start again")
    columns = read_columns(path, spec.columns)
    for name, values in columns.items():
        if missing := [row for row, value in enumerate(values, 1) if is_missing(value)]:
            raise RkdError(f"{path}, row {missing[0]}, column {name!r}: found nothing; expected a value in every row")
    fields = [[str(value) for value in columns[name]] for name in spec.columns]
    return Grouped(list(range(len(fields[0]))), fields)
