"""The registry of tasks: what each one's files, labels, metrics and submission look like. Standard library only.

GLUE's tasks are always known: label names and their order are those of the hub's `nyu-mll/glue`, row counts those of
the official release. Tasks of one's own (`custom_tasks` in the config) are known by a definition, which every job gets
with its spec.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rkd.errors import RkdError
from rkd.label_sets import set_names, set_number


class SplitFile(NamedTuple):
    """The file of a split in the official release, and its number of rows there."""

    file: str  # relative to the GLUE folder, e.g. "MNLI/dev_matched.tsv"; empty for a task of one's own
    rows: int  # 0 for a task of one's own


@dataclass(frozen=True, eq=False)
class Task:
    """One task, GLUE's or one's own.

    >>> get("mnli").labels
    ('entailment', 'neutral', 'contradiction')
    """

    name: str
    title: str  # as written in papers: "CoLA", "STS-B"
    folder: str  # folder of the official release
    text_fields: tuple[str, ...]  # hub column names, one or two
    text_columns: tuple[str, ...]  # the same columns' names in the official TSV files
    label_column: str | None  # None where no split is labelled (AX), and with a column for each label
    labels: tuple[str, ...]  # label names by class id; empty for regression
    file_labels: tuple[str, ...]  # the same labels as TSV files and GLUE submissions spell them
    metrics: tuple[str, ...]
    splits: Mapping[str, SplitFile]  # our split name → official file and row count
    submission: Mapping[str, str]  # test split → file name inside a GLUE submission
    primary: tuple[str, ...] = ()  # the metrics whose mean is the primary score; empty: all of them
    own: Mapping[str, Any] | None = None  # definition of a task that is not GLUE's; None for GLUE

    @property
    def primary_metrics(self) -> tuple[str, ...]:
        """The metrics whose mean is the primary score."""
        return self.primary or self.metrics

    @property
    def regression(self) -> bool:
        """True where the label is a score: from 0 to 5 for STS-B."""
        return not self.labels

    @property
    def multi_label(self) -> bool:
        """True where a text has any number of the labels; see `rkd.label_sets`."""
        return bool((self.own or {}).get("multi_label"))

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of 0 and 1 of a multi-label task, named after the labels; none where one column has them all."""
        label = (self.own or {}).get("label")
        return tuple(label) if isinstance(label, list | tuple) else ()

    @property
    def num_labels(self) -> int:
        """Number of model outputs: classes, or 1 for regression."""
        return len(self.labels) or 1

    @property
    def pair(self) -> bool:
        """True when an example is two texts."""
        return len(self.text_fields) == 2

    @property
    def trainable(self) -> bool:
        """False for AX, which is only predicted, by the MNLI models."""
        return "train" in self.splits

    @property
    def dev_splits(self) -> tuple[str, ...]:
        """Labelled splits that are scored after every epoch."""
        return tuple(split for split in self.splits if split.startswith("validation"))

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Unlabelled splits, for the GLUE server; AX among MNLI's."""
        return tuple(split for split in self.splits if split != "train" and split not in self.dev_splits)

    @property
    def compared_on_test(self) -> bool:
        """True where tables compare models on the labelled test split; a training knows nothing of it."""
        return (self.own or {}).get("compare_on") == "test"

    @property
    def compared_splits(self) -> tuple[str, ...]:
        """Labelled splits that models are compared on in tables and figures."""
        return self.test_splits if self.compared_on_test else self.dev_splits

    @property
    def primary_split(self) -> str:
        """The split whose primary score ranks models: the matched one for MNLI."""
        if not self.compared_splits:
            raise RkdError(f"task '{self.name}' has no dev split: it is predicted by MNLI models only")
        return self.compared_splits[0]


def get(name: str, definition: Mapping[str, Any] | None = None) -> Task:
    """Return the task called `name`.

    Args:
        name: a GLUE task, a registered one, or with a definition any.
        definition: of a task of one's own, as `define` writes it.

    Raises:
        RkdError: the task is unknown (the message names the nearest known one), or its definition is none.
    """
    if definition is not None:
        try:
            return TASKS.get(name) or _from_definition(name, definition)
        except (KeyError, TypeError) as error:
            raise RkdError(f"task '{name}': its definition is not one that rkd writes: {error!r}") from None
    if name in TASKS or name in _OWN:
        return TASKS.get(name) or _OWN[name]
    known = [*TASKS, *_OWN]
    near = difflib.get_close_matches(name.lower().replace("-", "").replace("_", ""), known, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise RkdError(f"unknown task '{name}'{hint}; known tasks: {', '.join(known)}")


def register(task: Task) -> Task:
    """Let `get` know a task of one's own by its name in this process; returns the task."""
    if task.own:
        _OWN[task.name] = task
    return task


def define(entry: Mapping[str, Any], *, training: bool = False) -> dict[str, Any]:
    """Return a custom task's definition: all that a job needs beside the prepared data, as JSON.

    Args:
        entry: the task's entry in a checked config.
        training: leave out what no training reads (the title, metrics beside the primary ones, the split of the
            tables), so that it may change without a new training.

    >>> define({"labels": ["no", "yes"], "text": ["question"], "metrics": ["accuracy", "f1"], "primary_metrics": ["f1"],
    ...         "label": "answer", "title": "Answers", "test": None}, training=True)["metrics"]
    ['f1']
    """
    definition = {
        "text": list(entry["text"]),
        "label": entry["label"],
        "labels": list(entry.get("labels") or []),
        "metrics": list(entry["primary_metrics"] if training else entry["metrics"]),
        "primary_metrics": list(entry["primary_metrics"]),
        "test": entry["test"] is not None,
        **({key: entry[key] for key in ("multi_label", "label_separator")} if entry.get("multi_label") else {}),
    }
    if training:
        return definition
    compared = {"compare_on": "test"} if entry.get("compare_on") == "test" else {}
    return {**definition, "title": entry["title"], **compared}


def label_text(task: Task, value: float) -> str:
    """Return a class by its name or, with several labels per text, a set by the names of its labels.

    Args:
        task: one with labels.
        value: a class id, or the number of a set; see `rkd.label_sets`.

    >>> label_text(get("rte"), 0)
    'entailment'
    """
    if task.multi_label:
        return str((task.own or {})["label_separator"]).join(set_names(value, task.labels))
    return task.labels[int(value)]


def label_value(task: Task, text: str) -> int:
    """Return the class id, or the number of the set, that `label_text` gives this text.

    >>> label_value(get("rte"), "not_entailment")
    1
    """
    if task.multi_label:
        names = text.split(str((task.own or {})["label_separator"])) if text else []
        return set_number(map(task.labels.index, names))
    return task.labels.index(text)


def _from_definition(name: str, definition: Mapping[str, Any]) -> Task:
    columns, labels = tuple(definition["text"]), tuple(definition["labels"])
    splits = ("train", "validation", "test") if definition["test"] else ("train", "validation")
    return Task(
        name=name,
        title=definition.get("title", name),
        folder="",
        # Names of our own: a column of the user's may be called as one of ours, such as "label" or "idx".
        text_fields=tuple(f"text_{number}" for number in range(1, len(columns) + 1)),
        text_columns=columns,
        label_column=definition["label"] if isinstance(definition["label"], str) else None,
        labels=labels,
        file_labels=labels,
        metrics=tuple(definition["metrics"]),
        splits={split: SplitFile("", 0) for split in splits},
        submission={},
        primary=tuple(definition["primary_metrics"]),
        own=dict(definition),
    )


def averaged(names: Iterable[str]) -> list[str]:
    """Those of some tasks that an average is over: GLUE's but WNLI, or tasks of one's own where there are no others.

    >>> averaged(["cola", "wnli", "rte"])
    ['cola', 'rte']
    """
    names = list(names)
    glue = [name for name in names if not get(name).own]
    return [name for name in glue or names if name != "wnli"]


def primary_score(task: Task, metrics: Mapping[str, float | None]) -> float:
    """Mean of the task's primary metrics, the number that chooses epochs and fills tables; NaN if one is undefined.

    >>> primary_score(get("mrpc"), {"accuracy": 0.8, "f1": 0.9})
    0.85
    """
    missing = [name for name in task.primary_metrics if name not in metrics]
    if missing:
        raise RkdError(f"{task.name}: metric {missing[0]} is missing; found {', '.join(metrics) or 'none'}")
    values = [metrics[name] for name in task.primary_metrics]
    return math.nan if None in values else math.fsum(v for v in values if v is not None) / len(values)


def _splits(folder: str, train: int, dev: int, test: int) -> dict[str, SplitFile]:
    return {
        "train": SplitFile(f"{folder}/train.tsv", train),
        "validation": SplitFile(f"{folder}/dev.tsv", dev),
        "test": SplitFile(f"{folder}/test.tsv", test),
    }


_AX = SplitFile("diagnostic/diagnostic.tsv", 1104)
_NLI = ("entailment", "neutral", "contradiction")
_RTE = ("entailment", "not_entailment")
_BINARY = ("0", "1")
_SENTENCES = ("sentence1", "sentence2")

_ALL = (
    Task(
        name="cola",
        title="CoLA",
        folder="CoLA",
        text_fields=("sentence",),
        text_columns=("sentence",),
        label_column="is_acceptable",
        labels=("unacceptable", "acceptable"),
        file_labels=_BINARY,
        metrics=("matthews_correlation",),
        splits=_splits("CoLA", 8551, 1043, 1063),
        submission={"test": "CoLA.tsv"},
    ),
    Task(
        name="sst2",
        title="SST-2",
        folder="SST-2",
        text_fields=("sentence",),
        text_columns=("sentence",),
        label_column="label",
        labels=("negative", "positive"),
        file_labels=_BINARY,
        metrics=("accuracy",),
        splits=_splits("SST-2", 67349, 872, 1821),
        submission={"test": "SST-2.tsv"},
    ),
    Task(
        name="mrpc",
        title="MRPC",
        folder="MRPC",
        text_fields=_SENTENCES,
        text_columns=("#1 String", "#2 String"),
        label_column="Quality",
        labels=("not_equivalent", "equivalent"),
        file_labels=_BINARY,
        metrics=("accuracy", "f1"),
        splits=_splits("MRPC", 3668, 408, 1725),
        submission={"test": "MRPC.tsv"},
    ),
    Task(
        name="stsb",
        title="STS-B",
        folder="STS-B",
        text_fields=_SENTENCES,
        text_columns=_SENTENCES,
        label_column="score",
        labels=(),
        file_labels=(),
        metrics=("pearson", "spearmanr"),
        splits=_splits("STS-B", 5749, 1500, 1379),
        submission={"test": "STS-B.tsv"},
    ),
    Task(
        name="qqp",
        title="QQP",
        folder="QQP",
        text_fields=("question1", "question2"),
        text_columns=("question1", "question2"),
        label_column="is_duplicate",
        labels=("not_duplicate", "duplicate"),
        file_labels=_BINARY,
        metrics=("accuracy", "f1"),
        splits=_splits("QQP", 363846, 40430, 390965),
        submission={"test": "QQP.tsv"},
    ),
    Task(
        name="mnli",
        title="MNLI",
        folder="MNLI",
        text_fields=("premise", "hypothesis"),
        text_columns=_SENTENCES,
        label_column="gold_label",
        labels=_NLI,
        file_labels=_NLI,
        metrics=("accuracy",),
        splits={
            "train": SplitFile("MNLI/train.tsv", 392702),
            "validation_matched": SplitFile("MNLI/dev_matched.tsv", 9815),
            "validation_mismatched": SplitFile("MNLI/dev_mismatched.tsv", 9832),
            "test_matched": SplitFile("MNLI/test_matched.tsv", 9796),
            "test_mismatched": SplitFile("MNLI/test_mismatched.tsv", 9847),
            "ax": _AX,
        },
        submission={"test_matched": "MNLI-m.tsv", "test_mismatched": "MNLI-mm.tsv", "ax": "AX.tsv"},
    ),
    Task(
        name="qnli",
        title="QNLI",
        folder="QNLI",
        text_fields=("question", "sentence"),
        text_columns=("question", "sentence"),
        label_column="label",
        labels=_RTE,
        file_labels=_RTE,
        metrics=("accuracy",),
        splits=_splits("QNLI", 104743, 5463, 5463),
        submission={"test": "QNLI.tsv"},
    ),
    Task(
        name="rte",
        title="RTE",
        folder="RTE",
        text_fields=_SENTENCES,
        text_columns=_SENTENCES,
        label_column="label",
        labels=_RTE,
        file_labels=_RTE,
        metrics=("accuracy",),
        splits=_splits("RTE", 2490, 277, 3000),
        submission={"test": "RTE.tsv"},
    ),
    Task(
        name="wnli",
        title="WNLI",
        folder="WNLI",
        text_fields=_SENTENCES,
        text_columns=_SENTENCES,
        label_column="label",
        labels=("not_entailment", "entailment"),
        file_labels=_BINARY,
        metrics=("accuracy",),
        splits=_splits("WNLI", 635, 71, 146),
        submission={"test": "WNLI.tsv"},
    ),
    Task(
        name="ax",
        title="AX",
        folder="diagnostic",
        text_fields=("premise", "hypothesis"),
        text_columns=_SENTENCES,
        label_column=None,
        labels=_NLI,
        file_labels=_NLI,
        metrics=("matthews_correlation",),
        splits={"ax": _AX},
        submission={"ax": "AX.tsv"},
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}

# Tasks of one's own that this process has registered.
_OWN: dict[str, Task] = {}
