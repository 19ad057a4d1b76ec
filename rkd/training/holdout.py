"""Held-out training data: for choosing the epoch, or as the quiz of methods that take one."""

from typing import Any

import torch
from torch import Tensor

from rkd.errors import RkdError
from rkd.training.batches import Split, on_device


class Subset(Split):
    """A view of some rows of a split, without copying its tokens.

    Args:
        whole: the split.
        rows: row numbers, int64, shape (rows,).
    """

    def __init__(self, whole: Split, rows: Tensor) -> None:
        self.whole, self.rows = whole, rows
        self.idx, self.labels, self.lengths = whole.idx[rows], whole.labels[rows], whole.lengths[rows]

    @property
    def for_teacher(self) -> Split:
        return self if self.whole.teacher is None else Subset(self.whole.teacher, self.rows)

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        return self.whole.batch(self.rows[rows])


def hold_out(
    train: Split, fraction: float, at_least: int, seed: int, key: str = "quiz_fraction"
) -> tuple[Subset, Subset]:
    """Split the training data at random into a smaller training set and a held-out set.

    Args:
        train: the whole training split.
        fraction: fraction of rows to hold out, in (0, 1).
        at_least: minimum number of rows to hold out, for example one batch.
        seed: determines the rows.
        key: the fraction's name in the config, for the error message.

    Returns:
        The training set and the held-out set, both in the order of the split.

    Raises:
        RkdError: too few rows would be held out, or none would be left to train on.
    """
    size = round(fraction * len(train))
    if not at_least <= size < len(train):
        raise RkdError(
            f"{key}: {fraction} of {len(train)} training rows are {size} rows; expected at least {at_least} "
            "to hold out, and rows left to train on"
        )
    # Training epochs are counted from 1, so epoch 0 gives an independent order.
    order = torch.cat(train.shuffled(len(train), seed, epoch=0))
    return Subset(train, order[size:].sort().values), Subset(train, order[:size].sort().values)


class QuizBatches:
    """An endless iterator over batches of a quiz set, reshuffled on every pass.

    Every batch is full; incomplete batches are dropped. The order depends only on `seed`, and the position is part of
    the state, so a resumed run sees the same batches.

    Args:
        split: the quiz set, with at least `batch_size` rows.
        batch_size: rows of a batch.
        seed: determines the order.
        device: device of the batches.

    Example:
        >>> quiz = QuizBatches(split, batch_size=32, seed=1)
        >>> next(quiz)["labels"].shape
        torch.Size([32])
    """

    def __init__(self, split: Split, batch_size: int, seed: int, device: torch.device | str = "cpu") -> None:
        if len(split) < batch_size:
            raise RkdError(f"quiz: found {len(split)} rows; expected at least one batch of {batch_size}")
        self.split, self.batch_size, self.seed, self.device = split, batch_size, seed, device
        self.per_pass = len(split) // batch_size
        self.drawn = 0
        self._shuffle()

    def __iter__(self) -> "QuizBatches":
        return self

    def __next__(self) -> dict[str, Tensor]:
        if self.drawn and self.drawn % self.per_pass == 0:
            self._shuffle()
        rows = self.order[self.drawn % self.per_pass]
        self.drawn += 1
        return on_device(self.split.batch(rows), self.device)

    def _shuffle(self) -> None:
        self.order = self.split.shuffled(self.batch_size, self.seed, epoch=1 + self.drawn // self.per_pass)

    def state_dict(self) -> dict[str, Any]:
        """Return the position: the number of batches drawn."""
        return {"drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved position."""
        self.drawn = state["drawn"] - state["drawn"] % self.per_pass
        self._shuffle()
        self.drawn = state["drawn"]
