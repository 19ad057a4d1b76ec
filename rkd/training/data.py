"""The data of one run: a prepared task, and the held-out part of its training rows."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rkd.errors import RkdError
from rkd.methods import by_name
from rkd.specs.jobs import RunSpec
from rkd.tasks import Task
from rkd.training.batches import Split, load_prepared
from rkd.training.holdout import Subset, hold_out

# Selections that choose the epoch on training rows that are held out.
HELD_OUT = ("held-out", "held-out-loss")


@dataclass(frozen=True)
class TrainingData:
    """The splits of a task by their use in a run.

    Attributes:
        train: training rows of the student; those without a label, which only a teacher speaks about, are the last.
        dev: labelled splits for comparing models, by name.
        test: splits that are predicted at the end, by name.
        held_out: training rows for choosing the epoch, with a selection of `HELD_OUT`.
        quiz: training rows for methods that take a quiz.
    """

    train: Split
    dev: dict[str, Split]
    test: dict[str, Split]
    held_out: Split | None = None
    quiz: Split | None = None

    def sizes(self) -> dict[str, int]:
        """Return the number of rows by split, for the log."""
        held_out = {} if self.held_out is None else {"held-out": self.held_out}
        parts = {"train": self.train, **self.dev, **self.test, **held_out}
        unlabelled = int((~self.train.labelled).sum())
        return {
            **{name: len(rows) for name, rows in parts.items()},
            **({"unlabelled in train": unlabelled} if unlabelled else {}),
        }


def planned_data(spec: RunSpec, data: Path, sha256: str | None) -> tuple[dict[str, Any], Any, dict[str, Split]]:
    """Call `load_prepared` and check that the data are those of the plan.

    Args:
        sha256: expected SHA-256 of the manifest's content, if known.

    Raises:
        RkdError: the data belong to another task or have another `sha256`.
    """
    own_tokens = spec.options.get("student_tokenizer") == "own"
    manifest, tokenizer, splits = load_prepared(data, own_tokens=own_tokens)
    if sha256 not in (None, manifest["sha256"]):
        raise RkdError(
            f"{data}: found data with the sha256 {manifest['sha256']}; expected {sha256}, those of the plan: something "
            "has written there since; start again"
        )
    if manifest["task"] != spec.task:
        raise RkdError(f"{data}: task: found {manifest['task']!r}; expected {spec.task!r}")
    theirs, ours = manifest.get("custom_task") or {}, json.loads(json.dumps(spec.custom_task)) or {}
    if changed := [key for key in ours if key not in theirs or theirs[key] != ours[key]]:
        raise RkdError(f"{data}: custom_task: found another {', '.join(changed)}; expected the task that the run is of")
    return manifest, tokenizer, splits


def set_aside(spec: RunSpec, task: Task, splits: dict[str, Split]) -> TrainingData:
    """Load the data of a run: its splits, without the training rows that are set aside.

    Rows are set aside among the labelled ones. Unlabelled rows are for methods that learn from a teacher or from soft
    labels; the others train on the labelled rows alone.

    Args:
        splits: the splits of the prepared task.

    Raises:
        RkdError: too few rows would be held out, or none would be left.
    """
    settings, whole, held_out, quiz = spec.training, splits["train"], None, None
    if not spec.options.get("soft_labels"):
        whole = copy.copy(whole)
        whole.soft_labels = None
    elif whole.soft_labels is None:
        raise RkdError("soft_labels: the prepared data have none; expected those that the run learns from")
    labelled = whole.labelled
    train = whole if labelled.all() else Subset(whole, labelled.nonzero().flatten())
    if settings["selection"] in HELD_OUT:
        train, held_out = hold_out(train, settings["held_out_fraction"], 1, spec.seed, "held_out_fraction")
    if by_name(spec.method).needs_quiz(spec.options):
        train, quiz = hold_out(train, spec.options["quiz_fraction"], settings["batch_size"], spec.seed)
    if train is not whole and not labelled.all() and by_name(spec.method).needs_teacher:
        train = Subset(whole, torch.cat([_rows_in(whole, train), (~labelled).nonzero().flatten()]))
    dev = {name: splits[name] for name in task.dev_splits}
    test = {name: split for name, split in splits.items() if name != "train" and name not in dev}
    return TrainingData(train, dev, test, held_out, quiz)


def _rows_in(whole: Split, part: Split) -> Tensor:
    """Return the row numbers in `whole` of a part of it, or of a part of such a part."""
    rows = torch.arange(len(part))
    while isinstance(part, Subset) and part is not whole:
        rows, part = part.rows[rows], part.whole
    return rows
