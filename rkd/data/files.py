"""The splits of a custom task, built from named columns of the user's files (read by `rkd.data.reading`)."""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from rkd import label_sets
from rkd.data.glue_dir import features
from rkd.data.reading import Columns, is_blank_row, read_columns, shown
from rkd.errors import RkdError
from rkd.labels import check_names, is_missing, label_name, listed, nearly, reads_as_missing
from rkd.tasks import Task
from rkd.utils.files import sha256

logger = logging.getLogger(__name__)

# A column with more distinct labels than this most likely contains scores or texts.
MOST_LABELS = 200
# If at least this fraction of the values is quoted, the program that wrote the file added the quotes.
_NEARLY_ALL = 0.9
# What other programs write between labels.
_SEPARATORS = (",", ";", "|", "/")
# Scores are stored as float32.
FLOAT32_MAX = float(np.finfo(np.float32).max)


def read_splits(task: Task, own: Mapping[str, Any]) -> dict[str, Dataset]:
    """Return the splits of a custom task: train, validation and, if it has a file, test.

    `idx` is the row's number in its file, from 0. Without a dev file, `validation` is a fraction of the training rows,
    sampled with `dev_seed` alone; of each label the same fraction. Test rows without a label get -1, or NaN for scores.

    Args:
        task: the task.
        own: `files` (by split: `path`, optionally the expected `sha256`, and optionally `where`, the file's name in
            errors), `scores` ([low, high], "any" or None for labels) and, without a file for validation,
            `dev_fraction` and `dev_seed`; with `soft_labels` rows of train may lack a label. See
            `rkd.specs.data.DataSpec`.

    Raises:
        RkdError: a file is missing, unreadable or has changed since it was planned; a column is missing; a value is not
            a text, not a label of the task or not a score in its range; or a row of train or dev has no label. The
            message names the file, row and column, and what was found and expected.
    """
    optional = {"test", *(["train"] if own.get("soft_labels") else [])}
    found = {
        split: _rows(task, split, file, own.get("scores"), optional=split in optional)
        for split, file in own["files"].items()
    }
    if "validation" not in found:
        found["train"], found["validation"] = _hold_out(task, found["train"], own)
    return {split: Dataset.from_dict(found[split], features=features(task)) for split in task.splits}


def read_split(task: Task, split: str, file: Mapping[str, Any], scores: Any) -> Dataset:
    """Read one file as a split; see `read_splits`. Labels may be missing only in the split `test`."""
    return Dataset.from_dict(_rows(task, split, file, scores, optional=split == "test"), features=features(task))


def read_texts(task: Task, path: Path, where: str | None = None) -> Dataset:
    """Read the texts of a file as an unlabelled split and ignore all other columns; errors as in `read_splits`.

    Args:
        task: the task.
        path: the file.
        where: its name in errors; by default the path.
    """
    rows = _texts(task, path, where or str(path), read_columns(path, task.text_columns, where=where or str(path)))
    rows["label"] = [_unlabelled(task)] * len(rows["idx"])
    return Dataset.from_dict(rows, features=features(task))


def find_labels(file: Mapping[str, Any], column: str, separator: str | None = None) -> list[str]:
    """Return the label names in a column: numbers in numeric order, then texts in alphabetical order.

    Logs the names with their row counts, and warns about names that differ only in case, character width or spaces.

    Args:
        file: `path` and optionally `where`, as in `read_splits`.
        column: the label column.
        separator: what stands between the labels of a text that may have several; None: every text has one.

    Raises:
        RkdError: a row has no label or one that reads like a missing value, a number is not whole, two names
            differ only in invisible characters, there are no rows, or the number of labels is not from 2 to 200.

    >>> find_labels({"path": "reviews.csv"}, "mood")
    ['bad', 'good']
    """
    path, where = _place(file)
    values = read_columns(path, [column], where=where)[column]
    if separator is None:
        _check_labelled(path, where, column, values, "a label")
    if path.suffix.lower() == ".tsv":
        _warn_about_quotes(f"{where}, column '{column}'", "labels", values)
    counts: Counter[str] = Counter()
    cells = [[value] if separator is None else parts(value, separator) for value in values]
    for row, cell in enumerate(cells, 1):
        for value in cell:
            if problem := _label_problem(value):
                raise RkdError(f"{where}, row {row}, column '{column}': {problem}")
            counts[label_name(value)] += 1
    if separator is not None:
        _check_sets(f"{where}, column '{column}'", cells, separator)
        for name in counts:
            if other := _other_separator(name, separator, counts):
                raise RkdError(
                    f"{where}, column '{column}': found the label {name!r} beside its parts; expected {other!r} as "
                    "label_separator, or labels that name it"
                )
    names = sorted(counts, key=_label_order)
    if not values:
        raise RkdError(f"{where}: found no rows; expected labelled ones")
    check_names(f"{where}, column '{column}'", names)
    most = MOST_LABELS if separator is None else label_sets.MOST_LABELS
    if not 2 <= len(names) <= most:
        found = f"only the label {shown(names[0])}" if len(names) == 1 else f"{len(names)} different labels"
        hint = ": give labels, or for regression scores" if separator is None else ""
        raise RkdError(f"{where}, column '{column}': found {found}; expected 2 to {most}{hint}")
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(nearly(name), []).append(name)
    if pairs := [" and ".join(map(repr, each)) for each in alike.values() if len(each) > 1]:
        logger.warning(
            "%s, column '%s': nearly the same, but treated as different labels: %s", where, column, listed(pairs)
        )
    logger.info("%s: labels found, with row counts: %s", where, listed(f"{name!r} {counts[name]}" for name in names))
    return names


def _check_sets(where: str, cells: Sequence[Sequence[Any]], separator: str) -> None:
    """Refuse cells that are all empty, and warn if none holds several labels: the separator may be another one."""
    if cells and not any(cells):
        raise RkdError(f"{where}: found no label in any row; expected some")
    if max(map(len, cells), default=2) < 2:
        logger.warning(
            "%s: no row has several labels; is %r what separates them, and is the task one for multi_label?",
            where, separator,
        )  # fmt: skip


def _other_separator(value: Any, separator: str, names: Collection[str]) -> str | None:
    """Return the usual separator that splits a cell into known labels, if it is not the one in use."""
    if not isinstance(value, str):
        return None
    for other in _SEPARATORS:
        found = parts(value, other)
        if other != separator and len(found) > 1 and all(label_name(part) in names for part in found):
            return other
    return None


def _warn_about_nulls(where: str, values: Sequence[Any]) -> None:
    """Warn about cells without a value, which are read as an empty list is: a text with none of the labels."""
    if rows := [row for row, value in enumerate(values, 1) if not isinstance(value, str | list) and is_missing(value)]:
        logger.warning(
            "%s: %d rows have no value, the first is row %d; they are read as texts with none of the labels",
            where, len(rows), rows[0],
        )  # fmt: skip


def text_problem(value: Any) -> str | None:
    """Return why a tokenizer cannot read a value as text, or None if it can.

    >>> text_problem(7)
    'found 7 (int); expected text'
    """
    if not isinstance(value, str):
        found = "nothing" if is_missing(value) else f"{shown(value)} ({type(value).__name__})"
        return f"found {found}; expected text"
    if "\0" in value:
        return f"found a NUL character in {shown(value)}; expected text"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = value[error.start]
        return f"found the lone surrogate {half!r}, half of a character; expected text"
    return None


def _place(file: Mapping[str, Any]) -> tuple[Path, str]:
    """Return a file's path and its name in errors."""
    path = Path(os.path.expanduser(file["path"]))
    return path, file.get("where") or str(path)


def _rows(task: Task, split: str, file: Mapping[str, Any], scores: Any, *, optional: bool) -> Columns:
    """Return the texts under the task's field names, and the label and idx of every row; labels may be optional."""
    path, where = _place(file)
    label = task.label_column or "label"
    named = list(task.label_columns) or [label]
    wanted = [*task.text_columns, *([] if optional else named)]
    columns = read_columns(path, wanted, named if optional else [], where)
    if file.get("sha256") and (found := sha256(path)) != file["sha256"]:
        raise RkdError(f"{where}: sha256 is {found}; expected {file['sha256']}: the file has changed, start again")
    rows = _texts(task, path, where, columns)
    rows["label"] = [_unlabelled(task)] * len(rows["idx"])
    if task.label_columns:
        rows["label"] = _sets_of_columns(task, where, columns, optional=optional) or rows["label"]
    elif label in columns:
        read, expected = _reader(task, scores)
        values = columns[label]
        if not optional and not task.multi_label:
            _check_labelled(path, where, label, values, expected)
        if task.multi_label and any(parts(value, _separator(task)) for value in values):
            rows["label"] = [0] * len(values)  # an empty cell is a text with none of the labels
            _warn_about_nulls(f"{where}, column '{label}'", values)
        elif task.multi_label and not optional:
            raise RkdError(f"{where}, column '{label}': found no label in any row; expected some {expected}")
        for index, value in enumerate(values):
            if is_missing(value):
                continue
            if (known := read(value)) is None:
                at = f"{where}, row {index + 1}, column '{label}'"
                raise RkdError(f"{at}: found {shown(value)}; expected {expected}{_value_hint(task, path, value)}")
            rows["label"][index] = known
    return rows


# What a cell of a label's own column may say.
_ANSWERS = {"0": False, "false": False, "1": True, "true": True}


def _sets_of_columns(task: Task, where: str, columns: Columns, *, optional: bool) -> list[int]:
    """Return the number of the set of labels of each row, whose labels have a column of 0 and 1 each.

    Where labels are optional, there may be no such column (an empty list is returned), and a row may have none (-1).
    """
    found = [name for name in task.label_columns if name in columns]
    if not found:
        return []
    if missing := [name for name in task.label_columns if name not in columns]:
        raise RkdError(f"{where}: found the label columns {listed(found)}; expected {listed(missing)}, too, or none")
    ids = {label_name(name): code for code, name in enumerate(task.labels)}
    sets = []
    for row, cells in enumerate(zip(*(columns[name] for name in task.label_columns), strict=True), 1):
        if optional and all(map(is_missing, cells)):
            sets.append(-1)
            continue
        answers = [None if is_missing(cell) else _ANSWERS.get(label_name(cell)) for cell in cells]
        if None in answers:
            at = answers.index(None)
            cell = "nothing" if is_missing(cells[at]) else shown(cells[at])
            raise RkdError(f"{where}, row {row}, column '{task.label_columns[at]}': found {cell}; expected 0 or 1")
        chosen = (name for name, answer in zip(task.label_columns, answers, strict=True) if answer)
        sets.append(label_sets.set_number(ids[label_name(name)] for name in chosen))
    if not optional and not any(sets):
        raise RkdError(f"{where}, columns {listed(map(repr, found))}: found 0 in every row; expected some 1")
    return sets


def _texts(task: Task, path: Path, where: str, columns: Columns) -> Columns:
    """Return the text columns under the task's field names, and idx."""
    rows: Columns = {}
    for field, column in zip(task.text_fields, task.text_columns, strict=True):
        rows[field] = columns[column]
        for row, value in enumerate(rows[field], 1):
            if problem := text_problem(value):
                raise RkdError(f"{where}, row {row}, column '{column}': {problem}")
        if path.suffix.lower() == ".csv":
            _warn_about_swallowed_rows(task, f"{where}, column '{column}'", rows[field])
        elif path.suffix.lower() == ".tsv":
            _warn_about_quotes(f"{where}, column '{column}'", "texts", rows[field])
    rows["idx"] = list(range(len(rows[task.text_fields[0]])))
    if not rows["idx"]:
        raise RkdError(f"{where}: found no rows; expected at least one")
    return rows


def _label_problem(value: Any) -> str | None:
    """Return why a value cannot be a label of a task that declares none, or None if it can."""
    if not _is_label(value):
        return f"found {shown(value)} ({type(value).__name__}); expected a label"
    if reads_as_missing(label_name(value)):
        return f"found {shown(value)}, which reads like a missing value; expected a label (give labels if it is one)"
    if _is_fraction(value):
        return f"found {shown(value)}, a number that is not a label; expected a label, or give scores for regression"
    return text_problem(value) if isinstance(value, str) else None


def _unlabelled(task: Task) -> float:
    return math.nan if task.regression else -1


def _value_hint(task: Task, path: Path, value: Any) -> str:
    """Return a hint for a value that is not a label or score of a task, or an empty string."""
    text = value.strip() if isinstance(value, str) else ""
    if task.multi_label:
        separator, names = _separator(task), [label_name(name) for name in task.labels]
        if other := _other_separator(value, separator, names):
            return f", separated by {separator!r}; give label_separator {other!r}"
        if text.startswith("["):
            return f", separated by {separator!r} and without brackets"
    if task.regression and re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text):
        return f": write {text.replace(',', '.')}"
    if path.suffix.lower() == ".tsv" and re.fullmatch('".*"', text):
        return "; quotes in a .tsv file are part of its fields"
    return ""


def _check_labelled(path: Path, where: str, column: str, values: Sequence[Any], expected: str) -> None:
    """Check that every row has a label."""
    missing = [row for row, value in enumerate(values, 1) if is_missing(value)]
    if missing:
        count = f" ({len(missing)} rows have none)" if len(missing) > 1 else ""
        blank = ", the whole row is empty" if is_blank_row(path, missing[0]) else ""
        found = f"found nothing{blank}{count}"
        raise RkdError(f"{where}, row {missing[0]}, column '{column}': {found}; expected {expected}")


def _reader(task: Task, scores: Any) -> tuple[Callable[[Any], float | None], str]:
    """Return a function from a value to its class id or score (None if invalid), and the expected values in words."""
    if not task.regression:
        check_names(f"task '{task.name}', labels", task.labels)
        codes = {label_name(name): code for code, name in enumerate(task.labels)}
        if task.multi_label:
            separator = _separator(task)
            return lambda value: _set_of(value, codes, separator), f"labels of {listed(task.labels)}"
        return lambda value: codes.get(label_name(value)) if _is_label(value) else None, (
            f"one of the labels {listed(task.labels)}"
        )
    if scores in (None, "any"):
        return lambda value: score_of(value, -FLOAT32_MAX, FLOAT32_MAX), "a number"
    low, high = scores
    return lambda value: score_of(value, low, high), f"a number from {low:g} to {high:g}"


def _separator(task: Task) -> str:
    """Return what stands between the labels in a cell of a multi-label task."""
    return str((task.own or {})["label_separator"])


def _set_of(value: Any, codes: Mapping[str, int], separator: str) -> int | None:
    """Return the number of the set of labels in a cell, or None if it holds something else."""
    names = parts(value, separator)
    known = [codes.get(label_name(name)) if _is_label(name) else None for name in names]
    return None if None in known else label_sets.set_number(code for code in known if code is not None)


def parts(value: Any, separator: str) -> list[Any]:
    """Return the labels in a cell of a multi-label task: a list, or text with a separator.

    >>> parts("sad; angry", ";"), parts(["sad"], ";"), parts("", ";")
    (['sad', 'angry'], ['sad'], [])
    """
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator) if part.strip()]
    return [] if is_missing(value) else list(value) if isinstance(value, list | tuple) else [value]


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int | float | Decimal)


def score_of(value: Any, low: float, high: float) -> float | None:
    """Return a value of a file as a number from `low` to `high`, or None if it is none.

    >>> score_of("0.5", 0.0, 1.0), score_of("1_0", 0.0, 100.0)
    (0.5, None)
    """
    # `float` accepts "1_0" as ten, and booleans as numbers.
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None
    try:
        score = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return score if max(low, -FLOAT32_MAX) <= score <= min(high, FLOAT32_MAX) else None


def _is_fraction(value: Any) -> bool:
    """Return True for a number that is not whole, such as a score."""
    if isinstance(value, bool):
        return False
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return not number.is_integer()


def _label_order(name: str) -> tuple[bool, int, str]:
    number = re.fullmatch("-?[0-9]{1,18}", name)
    return number is None, int(name) if number else 0, name


def _hold_out(task: Task, train: Columns, own: Mapping[str, Any]) -> tuple[Columns, Columns]:
    """Split the training rows at random into the remaining ones and labelled dev rows, both in file order."""
    rows, fraction = len(train["idx"]), own["dev_fraction"]
    unlabelled = {row for row, label in enumerate(train["label"]) if is_missing(label) or label == -1}
    unlabelled = unlabelled if own.get("soft_labels") else set()
    labelled = rows - len(unlabelled)
    size = round(fraction * labelled)
    if not 0 < size < labelled:
        _, where = _place(own["files"]["train"])
        what = "labelled rows" if unlabelled else "rows"
        raise RkdError(
            f"{where}: dev_fraction {fraction:g} of its {labelled} {what} are {size} rows; expected some, and some left"
        )
    order = np.random.default_rng(own["dev_seed"]).permutation(rows).tolist()
    order = [row for row in order if row not in unlabelled]
    dev = set(order[:size] if task.regression or task.multi_label else _stratified(order, train["label"], size))
    parts = [row for row in range(rows) if row not in dev], sorted(dev)
    # Lists, because a selection of a `Dataset` is copied row by row every time it is read in full.
    kept, held = ({name: [values[row] for row in part] for name, values in train.items()} for part in parts)
    return kept, held


def _stratified(order: Sequence[int], labels: Sequence[int], size: int) -> list[int]:
    """Return the first rows in an order such that labels have the shares that they have among all of its rows.

    Shares of a row are rounded by the largest remainder, so that there are `size` rows.

    >>> _stratified([3, 2, 1, 0, 4, 5], labels=[0, 0, 0, 0, 1, 1], size=3)
    [3, 2, 4]
    """
    exact = {label: count * size / len(order) for label, count in Counter(labels[row] for row in order).items()}
    wanted = {label: math.floor(share) for label, share in exact.items()}
    by_remainder = sorted(exact, key=lambda label: (wanted[label] - exact[label], label))
    for label in by_remainder[: size - sum(wanted.values())]:
        wanted[label] += 1
    chosen = []
    for row in order:
        if wanted[labels[row]]:
            wanted[labels[row]] -= 1
            chosen.append(row)
    return chosen


def _warn_about_swallowed_rows(task: Task, where: str, texts: Sequence[str]) -> None:
    """Warn about texts that contain labelled rows: a quote was probably left open, which CSV readers do not detect."""
    names = set(_ANSWERS) if task.label_columns else {label_name(name) for name in task.labels}

    def is_label(cell: str) -> bool:
        return label_name(cell) in names if names else score_of(cell, -math.inf, math.inf) is not None

    def swallows(text: str) -> bool:
        lines = [re.split("[,;\t]", line) for line in text.splitlines()]
        ends = (line[-1] for line in lines[:-1] if len(line) > 1)
        starts = (line[0] for line in lines[1:] if len(line) > 1)
        return any(map(is_label, ends)) or any(map(is_label, starts))

    rows = [row for row, text in enumerate(texts, 1) if "\n" in text and swallows(text)]
    if rows:
        logger.warning(
            "%s: %d texts contain lines that look like labelled rows, the first in row %d; is a quote left open there?",
            where, len(rows), rows[0],
        )  # fmt: skip


def _warn_about_quotes(where: str, what: str, values: Sequence[str]) -> None:
    """Warn about quoted values, which some programs write because they quote TSV like CSV.

    Doubled quotes inside quotes are certain evidence. Plain quotes can belong to a text, but not in nearly all rows.
    """
    doubled = re.compile('"(?:[^"]|"")*""(?:[^"]|"")*"')
    quoted = [row for row, value in enumerate(values, 1) if len(value) > 1 and value[0] == value[-1] == '"']
    rows = [row for row in quoted if doubled.fullmatch(values[row - 1])]
    if len(quoted) >= _NEARLY_ALL * len(values):
        rows = quoted
    if rows:
        logger.warning(
            "%s: %d %s are quoted as in CSV, the first in row %d; in .tsv quotes are part of the text",
            where, len(rows), what, rows[0],
        )  # fmt: skip
