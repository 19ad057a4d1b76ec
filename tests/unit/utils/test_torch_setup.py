"""Seeds, threads, memory and garbage collection."""

import ctypes
import gc
import random
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from rkd.utils.torch_setup import gc_paused, reuse_memory, seed_everything
from tests.helpers import ROOT, TIMEOUT


def draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_one_seed_for_all_generators():
    seed_everything(3)
    first = draws()
    seed_everything(3)
    assert draws() == first
    seed_everything(4)
    assert not set(draws()) & set(first)
    seed_everything(2**40)  # more than NumPy takes


def test_the_number_of_threads_is_set():
    before = torch.get_num_threads()
    try:
        seed_everything(0, threads=2)
        assert torch.get_num_threads() == 2
        seed_everything(0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_memory_is_reused_or_left_alone(monkeypatch):
    """With a C library that has no mallopt, nothing happens."""
    calls = []

    class Library:
        mallopt = staticmethod(lambda *arguments: calls.append(arguments))

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    reuse_memory()
    assert len(calls) == 3
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    reuse_memory()
    assert len(calls) == 3


def test_the_package_loads_no_torch():
    code = (
        "import sys, rkd.utils.files, rkd.utils.script, rkd.utils.torch_setup, rkd.utils.provenance; "
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=TIMEOUT).returncode == 0


@pytest.mark.parametrize("error", [None, ImportError])
def test_what_is_imported_quickly_is_never_searched_for_garbage(error):
    gc.collect()
    with pytest.raises(error) if error else nullcontext(), gc_paused():
        assert not gc.isenabled()
        imported = [[] for _ in range(1000)]
        if error:
            raise error
    try:
        assert gc.isenabled()
        assert gc.get_freeze_count() >= len(imported)
        assert not any(found is imported for found in gc.get_objects())
    finally:
        gc.unfreeze()
