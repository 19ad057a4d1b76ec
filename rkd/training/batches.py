"""Batches of a tokenised split, kept in memory as flat arrays and right-padded to the longest example of a batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, load_from_disk
from torch import Tensor

from rkd.errors import RkdError
from rkd.models.tokenizer import load_tokenizer
from rkd.models.unpadded import to_device
from rkd.runs.prepared import STUDENT, STUDENT_TOKENIZER, TOKENIZER, read_unchanged

# With group_by_length, examples are sorted by length within groups of this many batches.
GROUP = 50


class Split:
    """One tokenised split, in memory.

    Attributes:
        idx: official row numbers, int64, shape (rows,).
        labels: class ids (int64) or scores (float32), shape (rows,); −1 or NaN if unlabelled.
        lengths: number of tokens of each example, int64, shape (rows,).
        soft_labels: log-probabilities, or scores, that take the place of a teacher's logits, float32, shape (rows,
            classes), NaN for examples without; None if there are none, or a run does not read them.
        teacher: the same examples as a teacher with another tokenizer reads them; None if it reads these tokens.

    Args:
        dataset: columns `input_ids`, `label`, `idx` and optionally `token_type_ids` and `soft_labels`.
        pad_token_id: padding value of `input_ids`.
        prefix: what the names of the columns of tokens begin with.
    """

    teacher: "Split | None" = None

    def __init__(self, dataset: Dataset, pad_token_id: int, prefix: str = "") -> None:
        table = dataset.with_format("arrow")[:]
        self.padding = {"input_ids": pad_token_id, "token_type_ids": 0}
        self.idx = torch.from_numpy(table["idx"].to_numpy().copy())
        self.labels = torch.from_numpy(table["label"].to_numpy().copy())
        self.soft_labels = _logits_of(dataset) if "soft_labels" in dataset.column_names else None
        self.tokens: dict[str, np.ndarray] = {}
        for name in self.padding:
            if f"{prefix}{name}" in table.column_names:
                column = table[f"{prefix}{name}"].combine_chunks()
                self.tokens[name] = column.flatten().to_numpy(zero_copy_only=False)
                counts = column.value_lengths().to_numpy(zero_copy_only=False)
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.lengths = torch.from_numpy(counts.astype(np.int64))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def for_teacher(self) -> "Split":
        """The examples as the teacher reads them."""
        return self.teacher or self

    @property
    def labelled(self) -> Tensor:
        """True for examples with a label, shape (rows,)."""
        return ~self.labels.isnan() if self.labels.is_floating_point() else self.labels >= 0

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the examples `rows` as one batch.

        Returns:
            `input_ids`, `attention_mask` and optionally `token_type_ids`, int64, shape (rows, longest), `labels` and
            `lengths`, shape (rows,), and optionally `soft_labels`, shape (rows, classes). With a teacher that has
            another tokenizer, also its inputs, as `teacher_input_ids` and so on.
        """
        lengths = self.lengths[rows]
        width = int(lengths.max())
        result = {"attention_mask": (torch.arange(width) < lengths[:, None]).long(), "lengths": lengths}
        for name, flat in self.tokens.items():
            padded = np.full((len(rows), width), self.padding[name], dtype=np.int64)
            for line, row in zip(padded, rows.tolist(), strict=True):
                tokens = flat[self.starts[row] : self.starts[row + 1]]
                line[: len(tokens)] = tokens
            result[name] = torch.from_numpy(padded)
        result["labels"] = self.labels[rows]
        if self.soft_labels is not None:
            result["soft_labels"] = self.soft_labels[rows]
        if self.teacher is not None:
            theirs = self.teacher.batch(rows)
            result |= {f"teacher_{name}": theirs[name] for name in ("attention_mask", "lengths", *self.teacher.tokens)}
        return result

    def by_length(self, batch_size: int) -> Iterator[Tensor]:
        """Yield row numbers of batches of similar length, longest first, for fast evaluation."""
        if len(self):  # torch splits an empty tensor into one empty batch
            yield from torch.argsort(self.lengths, descending=True, stable=True).split(batch_size)

    def shuffled(self, batch_size: int, seed: int, epoch: int, group_by_length: bool = False) -> list[Tensor]:
        """Return the row numbers of each batch of a training epoch; one batch may be smaller.

        The order depends only on the arguments, so a resumed run sees the same batches.

        Args:
            group_by_length: sort groups of GROUP batches by length before splitting them, then shuffle the batches.
                Batches are less mixed: if length correlates with the label, so does the batch.
        """
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
        rows = torch.randperm(len(self), generator=generator)
        if not group_by_length:
            return list(rows.split(batch_size))
        groups = (group[torch.argsort(self.lengths[group], stable=True)] for group in rows.split(GROUP * batch_size))
        batches = [batch for group in groups for batch in group.split(batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator)]


# Entries of a batch that are read on the CPU.
ON_CPU = ("lengths", "teacher_lengths", "row")


def on_device(batch: dict[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """Copy a batch to a device, except for the entries that are read on the CPU."""
    place = torch.device(device)
    return {name: tensor if name in ON_CPU else to_device(tensor, place) for name, tensor in batch.items()}


# The logit of a probability of 0: finite, and small enough that it stays 0 at any usual temperature.
_LOG_ZERO = -1e4


def _logits_of(dataset: Dataset) -> Tensor:
    """Return soft labels as logits: log p, or scores as they are, whose distribution at temperature T is p^(1/T) / Σ.

    Args:
        dataset: a split with the column `soft_labels`: probabilities of all classes, or one score.
    """
    column = dataset.with_format("arrow")["soft_labels"][:].combine_chunks()
    given = torch.from_numpy(column.flatten().to_numpy(zero_copy_only=False).copy()).view(len(dataset), -1)
    if given.shape[-1] == 1:
        return given
    return given.log().clamp(min=_LOG_ZERO)


def load_prepared(folder: Path, *, own_tokens: bool = False) -> tuple[dict[str, Any], Any, dict[str, Split]]:
    """Load manifest, tokenizer and splits of a prepared task, for example results/data/mrpc.

    Args:
        folder: the prepared task.
        own_tokens: take the tokenizer and the tokens of students with a vocabulary of their own; the teacher's are then
            in `Split.teacher`.

    Raises:
        RkdError: a file is missing, damaged or modified.
    """
    manifest = read_unchanged(folder)
    try:
        tokenizer = load_tokenizer(folder / TOKENIZER)
        splits = load_splits(folder, tokenizer.pad_token_id)
        if not own_tokens:
            return manifest, tokenizer, splits
        own = load_tokenizer(folder / STUDENT_TOKENIZER)
        own_splits = load_splits(folder, own.pad_token_id, STUDENT)
        for name, split in own_splits.items():
            split.teacher = splits[name]
        return manifest, own, own_splits
    except (OSError, ValueError, KeyError, RkdError) as error:  # damaged Arrow files are a ValueError
        reason = " ".join(str(error).split())
        raise RkdError(
            f"{folder}: found no whole prepared task ({reason}); expected manifest.json, tokenizer and dataset; "
            f"`snakemake --force {folder}/manifest.json` makes it again"
        ) from error


def load_splits(folder: Path, pad_token_id: int, prefix: str = "") -> dict[str, Split]:
    """Load the splits of a prepared task, by name.

    Args:
        folder: a prepared task, for example results/data/mrpc.
        pad_token_id, prefix: see `Split`.
    """
    dataset = load_from_disk(str(folder / "dataset"))
    assert isinstance(dataset, DatasetDict)
    return {str(name): Split(split, pad_token_id, prefix) for name, split in dataset.items()}
