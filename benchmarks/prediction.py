"""Prediction speed: `rkd.training.evaluation.predict` / batches in file order, padded to 128 tokens."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.data import WIDTH, pad_to, splits_of
from benchmarks.report import Goal, Row
from benchmarks.sides import minilm
from benchmarks.timing import Seconds, paired, ratios, spread
from rkd.tasks import get
from rkd.training.batches import Split
from rkd.training.evaluation import BATCH_SIZE, predict
from rkd.training.holdout import Subset

GOAL = Goal("≥", 4.0)
TASKS = ("cola", "sst2")


def throughput(
    folder: Path, tasks: Sequence[str], examples: int, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[Row], dict[str, Seconds]]:
    """Return one row per task, for its first dev examples and MiniLM with 3 layers."""
    model = minilm("cola").student
    rows, seconds = [], {}
    for task in tasks:
        split = splits_of(folder, task)["validation"]
        split = Subset(split, torch.arange(min(examples, len(split))))
        sides = {
            "literal": lambda turn, split=split: in_file_order(model, split),
            "rkd": lambda turn, split=split: predict(model, split, torch.device("cpu")),
        }
        seconds[task] = found = paired(sides, rounds, clock)
        per_second = {side: len(split) / statistics.median(times) for side, times in found.items()}
        name = f"Prediction, MiniLM 3 layers, {len(split)} dev examples of {get(task).title}"
        value = spread(ratios(found["literal"], found["rkd"]))
        rows.append(Row(name, value, "×", GOAL, per_second, "examples/s", rounds))
    return rows, seconds


@torch.no_grad()
def in_file_order(model: Any, split: Split) -> Tensor:
    """Compute the same logits as `predict` by the model's own forward pass on padded batches."""
    model.eval()
    parts = []
    for rows in torch.arange(len(split)).split(BATCH_SIZE):
        batch = pad_to(split.batch(rows), WIDTH)
        parts.append(model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits)
    return torch.cat(parts)
