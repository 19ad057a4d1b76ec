"""The GLUE registry: what each task's files, labels, metrics and submission look like. Standard library only.

Label names and their order are those of the hub's `nyu-mll/glue`; row counts are those of the official release.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rkd.errors import RkdError


class SplitFile(NamedTuple):
    """Where a split lies in the official release, and how many rows it has there."""

    file: str  # relative to the GLUE folder, e.g. "MNLI/dev_matched.tsv"
    rows: int


@dataclass(frozen=True, eq=False)
class Task:
    """One GLUE task.

    >>> get("mnli").labels
    ('entailment', 'neutral', 'contradiction')
    """

    name: str
    title: str  # as written in papers: "CoLA", "STS-B"
    folder: str  # folder of the official release
    text_fields: tuple[str, ...]  # hub column names, one or two
    text_columns: tuple[str, ...]  # the same columns' names in the official TSV files
    label_column: str | None  # None where no split is labelled (AX)
    labels: tuple[str, ...]  # label names by class id; empty for regression
    file_labels: tuple[str, ...]  # the same labels as TSV files and GLUE submissions spell them
    metrics: tuple[str, ...]  # the headline number is their mean
    splits: Mapping[str, SplitFile]  # our split name → official file and row count
    submission: Mapping[str, str]  # test split → file name inside a GLUE submission

    @property
    def regression(self) -> bool:
        """True for STS-B: the label is a score from 0 to 5."""
        return not self.labels

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
        """Labelled splits that models are compared on."""
        return tuple(split for split in self.splits if split.startswith("validation"))

    @property
    def test_splits(self) -> tuple[str, ...]:
        """Unlabelled splits, for the GLUE server; AX among MNLI's."""
        return tuple(split for split in self.splits if split != "train" and split not in self.dev_splits)

    @property
    def headline_split(self) -> str:
        """The dev split whose headline number ranks models: the matched one for MNLI."""
        if not self.dev_splits:
            raise RkdError(f"task '{self.name}' has no dev split: it is predicted by MNLI models only")
        return self.dev_splits[0]


def get(name: str) -> Task:
    """The task called `name`; an unknown name raises `RkdError` with the nearest known one."""
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name.lower().replace("-", "").replace("_", ""), TASKS, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    raise RkdError(f"unknown task '{name}'{hint}; known tasks: {', '.join(TASKS)}")


def headline(task: Task, metrics: Mapping[str, float | None]) -> float:
    """Mean of the task's metrics, the number that chooses epochs and fills tables; NaN if one is undefined.

    >>> headline(get("mrpc"), {"accuracy": 0.8, "f1": 0.9})
    0.85
    """
    missing = [name for name in task.metrics if name not in metrics]
    if missing:
        raise RkdError(f"{task.name}: metric {missing[0]} is missing; found {', '.join(metrics) or 'none'}")
    values = [metrics[name] for name in task.metrics]
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
