"""Seconds per step on a GPU at BERT-base shape: rkd and the literal step, in three precisions."""

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.data import WIDTH, full_batch
from benchmarks.report import Row, not_measured
from benchmarks.sides import build, random_pair, stepper
from benchmarks.steps import versus
from benchmarks.timing import Seconds, paired

PRECISIONS = ("fp32", "tf32", "bf16")
SIDES = ("literal", "reptile")


def rows(rounds: int) -> tuple[list[Row], dict[str, Seconds]]:
    """Return one row per precision, or a row that says there is no GPU."""
    if not torch.cuda.is_available():
        return [not_measured("Reptile step on a GPU, BERT-base 12 → 6", "no GPU here")], {}
    return on_device("cuda", rounds)


def on_device(
    device: str,
    rounds: int,
    *,
    layers: tuple[int, int] = (6, 12),
    batch_size: int = 32,
    width: int = WIDTH,
    precisions: Sequence[str] = PRECISIONS,
    **config: Any,
) -> tuple[list[Row], dict[str, Seconds]]:
    """Measure the rows of a device; `config` overrides BERT-base's shape.

    Args:
        layers: numbers of layers of student and teacher.
        precisions: "fp32" multiplies in full precision, "tf32" rounds operands to 10 bits of mantissa, "bf16" is
        autocast.
    """
    pair = random_pair(*layers, **config)
    batch = full_batch(batch_size, width, pair.student.config.vocab_size)
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    found, seconds = [], {}
    before = torch.get_float32_matmul_precision()
    try:
        for precision in precisions:
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            steps = {side: stepper(build(side, pair, batch, device), precision, device) for side in SIDES}
            sides = {side: lambda turn, step=step: step(batch) for side, step in steps.items()}
            for side in sides.values():
                side(0)
            seconds[precision] = paired(sides, rounds, device=device)
            name = (
                f"Reptile step on {_name(device)}, BERT-base {layers[1]} → {layers[0]}, {batch_size} × {width} tokens"
            )
            found.append(versus(f"{name}, {precision}", seconds[precision], *SIDES))
    finally:
        torch.set_float32_matmul_precision(before)
    return found, seconds


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device
