"""Reader of the official GLUE folders (`CoLA/train.tsv`, `MNLI/dev_matched.tsv`, …) exactly as released.

The files are not CSV: fields are separated by tabs, and quotes are ordinary characters. Rows end only at a line feed,
because texts may contain other characters at which Python's `splitlines` would split. QQP's train file has rows that
are broken by line breaks inside a question. Like the version on the hub, we skip these fragments.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, Features, Value

from rkd.data.reading import text_lines
from rkd.errors import RkdError
from rkd.tasks import Task

# CoLA's labelled files are the only ones without a header line.
COLA_COLUMNS = ["source", "is_acceptable", "original_mark", "sentence"]

# The longest rows of the release have a few thousand characters; a longer line means that this is another kind of file.
LONGEST_LINE = 1_000_000


class Example(NamedTuple):
    """A line of a TSV file, split at its tabs."""

    line: int  # 1-based line number in the file
    idx: int  # 0-based row number, without the header
    cells: list[str]


def features(task: Task) -> Features:
    """Return the columns of a raw split: texts under the hub's names, label and idx from 0.

    A label is a class id, a float32 score or, with several labels per text, the number of their set.
    """
    label: Any = Value("float32") if task.regression else ClassLabel(names=list(task.labels))
    label = Value("int64") if task.multi_label else label
    return Features({field: Value("string") for field in task.text_fields} | {"label": label, "idx": Value("int64")})


def read_split(task: Task, split: str, folder: Path, official_counts: bool = True) -> Dataset:
    """Read one split of `task` from a GLUE folder; unlabelled rows have label -1 (NaN for regression).

    Raises:
        RkdError: a missing file or column, a row with too many or too few columns, a column that occurs twice, an
            unknown label, a score outside 0–5, bytes that are not UTF-8, NUL bytes, a line of more than a million
            characters, or (with `official_counts`) a number of rows other than the official one. The message names
            file and line, and what was found and expected.

    >>> read_split(get("cola"), "validation", Path("glue")).num_rows
    1043
    """
    path = folder / task.splits[split].file
    columns, rows = _read_rows(path, task, split)
    expected = task.splits[split].rows
    if official_counts and len(rows) != expected:
        raise RkdError(f"{path}: found {len(rows)} rows; expected {expected} (the official {task.title} {split} split)")
    data: dict[str, list[Any]] = {}
    for field, column in zip(task.text_fields, task.text_columns, strict=True):
        position = _position(columns, column, path)
        data[field] = [row.cells[position] for row in rows]
    if split in task.test_splits:
        data["label"] = [math.nan if task.regression else -1] * len(rows)
    else:
        position = _position(columns, task.label_column or "label", path)
        data["label"] = [_label(task, row.cells[position], path, row.line) for row in rows]
    data["idx"] = [row.idx for row in rows]
    return Dataset.from_dict(data, features=features(task))


def _read_rows(path: Path, task: Task, split: str) -> tuple[list[str], list[Example]]:
    """Return the column names and rows of one file; every row has as many fields as the header."""
    lines = _read_lines(path, embedded_breaks=task.name == "qqp")
    if task.name == "cola" and split not in task.test_splits:
        columns, first = COLA_COLUMNS, 1
    else:
        columns, first = lines.pop(0).split("\t"), 2
    rows = [Example(first + idx, idx, line.split("\t")) for idx, line in enumerate(lines)]
    if task.name == "qqp":
        rows = [row for row in rows if len(row.cells) >= len(columns)]
    for row in rows:
        if len(row.cells) != len(columns):
            raise RkdError(f"{path}, line {row.line}: found {len(row.cells)} columns; expected {len(columns)}")
    return columns, rows


def _read_lines(path: Path, embedded_breaks: bool) -> list[str]:
    """Return the lines without line ends; with `embedded_breaks` a lone carriage return also ends a line."""
    if not path.exists():
        raise RkdError(f"{path}: file not found; expected a file of the official GLUE release")
    lines = [part for line in text_lines(path) for part in (line.split("\r") if embedded_breaks else [line])]
    if not lines:
        raise RkdError(f"{path}: the file is empty")
    for number, content in enumerate(lines, 1):
        if len(content) > LONGEST_LINE:
            raise RkdError(f"{path}, line {number}: found {len(content)} characters; expected at most {LONGEST_LINE}")
    return lines


def _position(columns: list[str], name: str, path: Path) -> int:
    """Return the position of a column, found by name: MNLI's files have 12 (train), 16 (dev) or 10 (test) columns."""
    if name not in columns:
        raise RkdError(f"{path}: column '{name}' is missing; found {', '.join(repr(c) for c in columns)}")
    if (count := columns.count(name)) > 1:
        raise RkdError(f"{path}: column '{name}' occurs {count} times; expected once")
    return columns.index(name)


def _label(task: Task, text: str, path: Path, line: int) -> float | int:
    if not task.regression:
        if text in task.file_labels:
            return task.file_labels.index(text)
        raise RkdError(f"{path}, line {line}: unknown label '{text}'; expected one of {', '.join(task.file_labels)}")
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 5:
        raise RkdError(f"{path}, line {line}: found score '{text}'; expected a number from 0 to 5")
    return score
