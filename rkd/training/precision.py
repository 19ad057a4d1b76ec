"""The number format of the matrix products in training: float32, or bfloat16 with float32 weights."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from rkd.errors import RkdError


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 natively: emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(found is True and name.endswith("bf16") for name, found in torch.cpu.get_capabilities().items())


def check(precision: str, device: torch.device) -> None:
    """Raise an error if the device does not support the precision.

    Raises:
        RkdError: bf16 on a device without it.
    """
    if precision == "bf16" and not has_bf16(device):
        raise RkdError(
            f"precision: found 'bf16', but this {'GPU' if device.type == 'cuda' else 'CPU'} has no arithmetic for it; "
            "expected 'fp32' here"
        )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of a training step: empty for "fp32", autocast for "bf16" with weights kept in float32.

    Autocast's weight cache is disabled. It would keep the rounded weights of a trainable teacher until the context
    ends, so that the student would learn from the teacher before its update.

    >>> with autocast("bf16", torch.device("cpu")):
    ...     method.step(batch)
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
