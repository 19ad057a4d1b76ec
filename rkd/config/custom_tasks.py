"""Checks of the user's own tasks, and their complete form."""

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rkd.config.names import name_problems
from rkd.config.problems import KeyPath, Located, Problem, located, path_text, refuse_section
from rkd.config.reads import Value, Values, reads, run
from rkd.config.schema import Config, number_types, plain, schema, schema_problems
from rkd.data.reading import SUFFIXES, check_columns, read_columns
from rkd.data.soft_columns import columns_of
from rkd.errors import RkdError
from rkd.label_sets import MOST_LABELS, SEPARATOR
from rkd.labels import is_missing, label_name, listed, look
from rkd.metrics.facts import DEFAULT_OF_LABELS, DEFAULT_OF_SCORES, DEFAULT_OF_SETS, METRICS
from rkd.tasks import TASKS

_RESERVED = {**dict.fromkeys(TASKS, "the GLUE task"), "average": "the mean over tasks"}


def checked_task(name: str, entry: Mapping[str, Any], *, files: bool = True) -> Config:
    """One entry of `custom_tasks` with all its keys.

    Args:
        name: the task's name.
        entry: its keys.
        files: whether its files must be there.

    Raises:
        SectionError: all that is wrong with it.
    """
    given = {"custom_tasks": {name: with_labels(plain(entry))}}
    rule = {"type": "object", "properties": {"custom_tasks": schema()["properties"]["custom_tasks"]}}
    problems = schema_problems(given, rule)
    checks = TASK_CHECKS if files else [check for check in TASK_CHECKS if check not in _FILE_CHECKS]
    refuse_section({**run(checks, Values(given, frozenset(problems))), **problems})
    normal: Config = number_types(given, rule)
    return completed(name, normal["custom_tasks"][name])


def with_labels(entry: Any) -> Any:
    """Return an entry of custom_tasks with the labels that are its columns, unless it names them itself.

    >>> with_labels({"label": ["toxic", "insult"], "multi_label": True})["labels"]
    ['toxic', 'insult']
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("label"), list) or {"labels", "scores"} & {*entry}:
        return entry
    return {**entry, "labels": list(entry["label"])}


def completed(name: str, entry: Mapping[str, Any]) -> Config:
    """Return a custom task with all keys and its labels as text."""
    labels = [str(label) for label in entry.get("labels", ())]
    several = bool(entry.get("multi_label"))
    usual = DEFAULT_OF_SETS if several else DEFAULT_OF_LABELS if labels else DEFAULT_OF_SCORES
    metrics = entry.get("metrics", list(usual))
    defaults = {
        "title": name,
        "dev": None,
        "test": None,
        "compare_on": "dev",
        "dev_fraction": 0.1,
        "dev_seed": 0,
        "scores": None,
    }
    if several:
        defaults["label_separator"] = SEPARATOR
    return {
        **defaults,
        **entry,
        "labels": labels,
        "metrics": metrics,
        "primary_metrics": entry.get("primary_metrics", metrics),
    }


@functools.cache
def _unlabelled_rows(place: Path, label: tuple[str, ...], _state: Any) -> tuple[int, int, int]:
    """Return the number of rows without a label, the number of the first of them (from 1), and that of all rows."""
    columns = read_columns(place, label).values()
    without = [row for row, values in enumerate(zip(*columns, strict=True), 1) if any(map(is_missing, values))]
    return len(without), without[0] if without else 0, len(next(iter(columns)))


def file_problem(path: KeyPath, file: str) -> Problem | None:
    """Return the problem of the data file at `path` of a config, or None if it exists and has a known format."""
    place = Path(os.path.expanduser(file))
    entry = schema()["properties"]["custom_tasks"]["additionalProperties"]["properties"]
    if place.suffix.lower() not in SUFFIXES:
        return located(path, file, entry["train"]["x-allowed"])[1]
    if not os.path.isfile(place):
        hint = "this is not a file" if os.path.exists(place) else "there is nothing at this path"
        return located(path, file, entry["train"]["x-allowed"], hint)[1]
    return None


def _column_problem(file: str, text: tuple[str, ...], label: str | list[str], test: bool) -> str | None:
    """Return why a data file lacks a task's columns, or None if it has them; a test file needs no labels."""
    place = Path(os.path.expanduser(file))
    state = place.stat()
    names = (label,) if isinstance(label, str) else tuple(label)
    return _known_column_problem(place, text, names, test, (state.st_mtime_ns, state.st_size))


@functools.cache  # one config is checked once for each student that a variant brings
def _known_column_problem(
    place: Path, text: tuple[str, ...], label: tuple[str, ...], test: bool, _state: Any
) -> str | None:
    wanted, optional = (text, label) if test else ((*text, *label), ())
    try:
        check_columns(place, wanted, optional)
    except RkdError as error:
        return str(error).removeprefix(str(place)).lstrip(":, ")
    return None


@reads("names of custom_tasks")
def names(section: Value) -> Iterator[Located]:
    """Report names that are no names, and those of GLUE."""
    for name in section.value:
        yield from name_problems((*section.path, name), _RESERVED)


@reads("names of custom_tasks.{task}")
def kind(entry: Value) -> Iterator[Located]:
    """Report a task that is neither classification nor regression, or both."""
    if ("labels" in entry.value) == ("scores" in entry.value):
        keys = "both labels and scores" if "labels" in entry.value else "neither labels nor scores"
        yield entry.path, Problem(path_text(entry.path), keys, "labels (classification) or scores (regression)")


def _fitting_metrics(labels: Value, scores: Value, several: Value) -> list[str] | None:
    """Return the metrics of a kind of task; None if `kind` is reported already."""
    if (labels.value is None) == (scores.value is None):
        return None
    classes = 0 if labels.value is None else len(labels.value)
    return [name for name, facts in METRICS.items() if facts.suits(classes, multi_label=bool(several.value))]


@reads(
    "custom_tasks.{task}.labels?",
    "custom_tasks.{task}.scores?",
    "custom_tasks.{task}.multi_label?",
    "custom_tasks.{task}.{key}",
    key=("metrics", "primary_metrics"),
)
def metrics_of_kind(labels: Value, scores: Value, several: Value, metrics: Value) -> Iterator[Located]:
    """Report metrics of the other kind of task."""
    fits = _fitting_metrics(labels, scores, several)
    for index, name in enumerate(metrics.value):
        if fits is not None and name not in fits:
            yield located((*metrics.path, index), name, f"one of {', '.join(fits)} for this task")


@reads(
    "custom_tasks.{task}.labels?",
    "custom_tasks.{task}.scores?",
    "custom_tasks.{task}.multi_label?",
    "custom_tasks.{task}.metrics?",
    "custom_tasks.{task}.primary_metrics",
)
def computed_metrics(labels: Value, scores: Value, several: Value, metrics: Value, primary: Value) -> Iterator[Located]:
    """Report primary metrics that are not computed."""
    fits = _fitting_metrics(labels, scores, several) or ()
    computed = metrics.value or fits
    for index, name in enumerate(primary.value):
        if name in fits and name not in computed:
            yield located((*primary.path, index), name, f"one of the task's metrics: {', '.join(computed)}")


@reads(
    "custom_tasks.{task}.multi_label?",
    "custom_tasks.{task}.label_separator?",
    "custom_tasks.{task}.labels?",
    "custom_tasks.{task}.soft_labels?",
)
def several_labels(several: Value, separator: Value, labels: Value, soft: Value) -> Iterator[Located]:
    """Report what does not go together with several labels per text."""
    if not several.value:
        if separator.value is not None:
            yield separator.problem("none without multi_label: true")
        return
    names = labels.value or ()
    if labels.value is None:
        yield several.problem("false: scores are no labels")
    elif len(names) > MOST_LABELS:
        yield labels.problem(f"at most {MOST_LABELS} labels with multi_label: true", found=f"{len(names)} labels")
    if soft.value is not None:
        yield soft.problem("null with multi_label: true: soft labels are for one label per text")
    mark = separator.value or SEPARATOR
    for index, name in enumerate(names):
        if mark in str(name):
            yield located((*labels.path, index), name, f"a label without the label_separator {mark!r}")


@reads("custom_tasks.{task}.scores")
def score_range(scores: Value) -> Iterator[Located]:
    """Report an empty range of scores."""
    if isinstance(scores.value, list) and scores.value[0] >= scores.value[1]:
        yield scores.problem("a lowest score below the highest")


@reads("custom_tasks.{task}.labels")
def different_labels(labels: Value) -> Iterator[Located]:
    """Report labels that are blank, and those that are one label with another or look like it."""
    looks = [look(label) for label in labels.value]
    for index, name in enumerate(looks):
        label, where = labels.value[index], (*labels.path, index)
        if name in looks[:index]:
            found = f"{label!r}, which is one label with {labels.value[looks.index(name)]!r}"
            yield where, Problem(path_text(where), found, "every label only once")
        elif not name:
            yield located(where, label, "a name that is not blank")


@reads("custom_tasks.{task}.{split}", split=("train", "dev", "test", "unlabelled", "soft_labels"))
def files_there(file: Value) -> Iterator[Located]:
    """Report files that are not there."""
    if isinstance(file.value, str) and (problem := file_problem(file.path, file.value)):
        yield file.path, problem


@reads(
    "custom_tasks.{task}.{split}",
    "custom_tasks.{task}.text",
    "custom_tasks.{task}.label",
    "custom_tasks.{task}.soft_labels?",
    "tasks",
    split=("train", "dev", "test", "unlabelled"),
)
def columns(file: Value, text: Value, label: Value, soft: Value, tasks: Value) -> Iterator[Located]:
    """Report files of a task that runs without the task's columns."""
    _, task, split = file.path
    if file.value is None or task not in tasks.value or file_problem(file.path, file.value):
        return
    named = [] if soft.value is None or isinstance(soft.value, str) else soft.value
    more = list(named.values() if isinstance(named, Mapping) else named) if split in ("train", "unlabelled") else []
    free = split in ("test", "unlabelled") or (split == "train" and soft.value is not None)
    if reason := _column_problem(file.value, (*text.value, *more), label.value, free):
        what = "text" if split == "unlabelled" else "text and label"
        yield file.problem(f"a file with the columns of {what}{' and of soft_labels' if more else ''}", reason)


@reads(
    "custom_tasks.{task}.soft_labels",
    "custom_tasks.{task}.labels?",
    "custom_tasks.{task}.scores?",
    "custom_tasks.{task}.text",
    "custom_tasks.{task}.label",
)
def columns_of_labels(soft: Value, labels: Value, scores: Value, text: Value, label: Value) -> Iterator[Located]:
    """Report columns of soft labels that are not those of the labels."""
    if soft.value is None or isinstance(soft.value, str) or (labels.value is None) == (scores.value is None):
        return
    try:
        columns_of([label_name(label) for label in labels.value or ()], soft.value)
    except RkdError as error:
        found, _, expected = str(error).removeprefix("found ").partition("; expected ")
        yield soft.problem(expected, found=found)
        return
    names = soft.value.values() if isinstance(soft.value, Mapping) else soft.value
    taken = [*text.value, *([label.value] if isinstance(label.value, str) else label.value)]
    if other := [name for name in names if name in taken]:
        yield soft.problem("columns of probabilities", found=f"{other[0]!r}, a column of text or label")


@reads("unlabelled", "names of custom_tasks?", "tasks")
def unlabelled_of_glue(section: Value, custom: Value, tasks: Value) -> Iterator[Located]:
    """Report files of unlabelled texts that are not there, lack a column, or are of no GLUE task."""
    for task, file in section.value.items():
        path: KeyPath = (*section.path, task)
        if task not in TASKS or not TASKS[task].dev_splits:
            hint = f"that of a custom task stands in custom_tasks: {task}: unlabelled"
            expected = f"one of {', '.join(name for name, known in TASKS.items() if known.dev_splits)}"
            yield located(path, task, expected, hint if task in (custom.value or ()) else "")
        elif problem := file_problem(path, file):
            yield path, problem
        elif task in tasks.value and (reason := _column_problem(file, TASKS[task].text_fields, "label", True)):
            yield located(path, file, f"a file with the columns {', '.join(TASKS[task].text_fields)}", reason)


@reads("custom_tasks.{task}.compare_on", "custom_tasks.{task}.test?", "custom_tasks.{task}.label", "tasks")
def labelled_test(compared: Value, test: Value, label: Value, tasks: Value) -> Iterator[Located]:
    """Report a comparison on a test file that is missing, or has rows without a label."""
    if compared.value != "test":
        return
    if test.value is None:
        yield compared.problem("dev, or a labelled file in the key test", found="test, without the key test")
    elif compared.path[1] in tasks.value and not file_problem(test.path, test.value):
        names = (label.value,) if isinstance(label.value, str) else tuple(label.value)
        place = Path(os.path.expanduser(test.value))
        state = place.stat()
        try:
            count, first, rows = _unlabelled_rows(place, names, (state.st_mtime_ns, state.st_size))
        except RkdError as error:
            reason = str(error).removeprefix(str(place)).lstrip(":, ")
            yield test.problem("a file with labels, as compare_on is test", reason)
            return
        if count or not rows:
            found = f"{count} of {rows} rows without a label, the first in row {first}" if rows else "no rows"
            yield test.problem("a label in every row, as compare_on is test", found=found)


@reads(
    "custom_tasks.{task}.clusters",
    "custom_tasks.{task}.train",
    "custom_tasks.{task}.dev?",
    "custom_tasks.{task}.test?",
    "custom_tasks.{task}.compare_on?",
    "tasks",
)
def cluster_column(
    clusters: Value, train: Value, dev: Value, test: Value, compared: Value, tasks: Value
) -> Iterator[Located]:
    """Report a column of clusters that the file with the compared examples of a task that runs lacks."""
    scored = (test if compared.value == "test" else None, dev, train)
    file = next(one for one in scored if one is not None and one.value is not None)
    if clusters.path[1] not in tasks.value or file_problem(file.path, file.value):
        return
    if reason := _column_problem(file.value, (clusters.value,), clusters.value, True):
        yield clusters.problem(f"a column of {file.value}", reason)


@reads("custom_tasks.{task}.text", "custom_tasks.{task}.label")
def label_apart(text: Value, label: Value) -> Iterator[Located]:
    """Report a label that is a text column, too."""
    for name in [label.value] if isinstance(label.value, str) else label.value:
        if name in text.value:
            yield label.problem("another column than those of text", found=repr(name))


@reads("custom_tasks.{task}.label", "custom_tasks.{task}.labels?", "custom_tasks.{task}.multi_label?")
def columns_named_as_labels(label: Value, labels: Value, several: Value) -> Iterator[Located]:
    """Report several label columns without multi_label, and those that are not named as the labels."""
    if isinstance(label.value, str):
        return
    if not several.value:
        yield label.problem("one column, or multi_label: true with a column for each label")
    elif labels.value is not None and {*map(label_name, labels.value)} != {*map(label_name, label.value)}:
        yield label.problem(f"a column for each of the labels {listed(labels.value)}")


_FILE_CHECKS = (files_there, columns, labelled_test, cluster_column, unlabelled_of_glue)
TASK_CHECKS = (
    names,
    kind,
    metrics_of_kind,
    computed_metrics,
    several_labels,
    score_range,
    different_labels,
    columns_of_labels,
    *_FILE_CHECKS,
    label_apart,
    columns_named_as_labels,
)
