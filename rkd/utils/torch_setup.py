"""Set torch up for a run: seeds, threads, memory and device. Torch is imported on use."""

import ctypes
import gc
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rkd.errors import RkdError


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection during heavy imports; this halves their CPU time.

    The million objects that they make stay to the end of the process, so no garbage is looked for among them: not
    meanwhile, not in later collections, not at the end.

    >>> with gc_paused():
    ...     from rkd.training.job import run
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def seed_everything(seed: int, threads: int | None = None) -> None:
    """Seed Python, NumPy and torch, fix the number of CPU threads and ask torch for deterministic kernels.

    The thread count belongs to reproducibility: sums are split over threads, so another count gives other last bits.
    """
    import numpy as np
    import torch

    # Deterministic cuBLAS needs this before the first CUDA call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A help for finding bugs that costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if threads:
        torch.set_num_threads(threads)


def quiet_transformers() -> None:
    """Let transformers tell errors alone, and draw no bars where there is no terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def reuse_memory() -> None:
    """Let the C library keep freed memory for the next tensor instead of returning it to the system.

    A gradient of the embedding matrix is tens of megabytes, and fresh pages for it at every step cost more than the
    arithmetic on it: a MiniLM step is a fifth quicker so. Has an effect with glibc only, none elsewhere.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # names of these options in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 1 << 26)


def choose_device(name: str) -> Any:
    """Return the `torch.device` of a config's device: "auto" is a GPU if torch sees one, else the CPU.

    Raises:
        RkdError: "cuda" without a GPU, or another name.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise RkdError(f"device: found {name!r}; expected 'auto', 'cpu' or 'cuda' (CUDA_VISIBLE_DEVICES chooses a GPU)")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise RkdError("device: found 'cuda', but torch sees no GPU here; expected 'cpu' or 'auto'")
    return torch.device("cuda" if there and name != "cpu" else "cpu")
