"""TensorBoard logging of a training run, through accelerate; off unless a folder is given."""

import importlib.util
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, is_initialized

from rkd.errors import RkdError


def accelerator(folder: Path | None, device: torch.device) -> Accelerator:
    """Return an Accelerator whose `log`, after `begin`, writes TensorBoard files, or nothing if `folder` is None.

    Args:
        device: device of the training run.

    Raises:
        RkdError: TensorBoard is not installed.
    """
    cpu = device.type == "cpu"
    # All accelerators of a process share the first one's device; reset it, because a notebook may switch devices.
    if is_initialized() and AcceleratorState().device.type != device.type:
        AcceleratorState._reset_state(reset_partial_state=True)
    if folder is None:
        return Accelerator(cpu=cpu)
    if importlib.util.find_spec("tensorboard") is None:
        raise RkdError("tracker: found tensorboard, which is not installed: pip install -e '.[tensorboard]'")
    return Accelerator(cpu=cpu, log_with="tensorboard", project_dir=folder)


def begin(accelerator: Accelerator, folder: Path, *, continued: bool) -> None:
    """Open the TensorBoard files of an Accelerator in its folder.

    Args:
        continued: True if the run resumes from a checkpoint; otherwise files of an earlier run are deleted.
    """
    if not continued:
        shutil.rmtree(folder / "events", ignore_errors=True)
    accelerator.init_trackers("events")


def scalars(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the finite numbers of a record of the history, by path.

    >>> scalars({"epoch": 1, "train": {"loss": 0.5}, "warnings": []})
    {'epoch': 1.0, 'train/loss': 0.5}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and math.isfinite(value):
            found[f"{prefix}{name}"] = float(value)
    return found
