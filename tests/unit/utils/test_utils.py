"""Atomic writes, JSON without NaN, digests, seeds, provenance and one-line errors."""

import ctypes
import gc
import hashlib
import json
import math
import os
import random
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rkd.errors import RkdError
from rkd.utils.files import atomic_path, atomic_write_text, jsonable, sha256, write_json
from rkd.utils.provenance import PACKAGES, Stopwatch, git_state, provenance
from rkd.utils.script import run_script
from rkd.utils.torch_setup import gc_paused, reuse_memory, seed_everything
from tests.conftest import ROOT


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Atomic writes.


def test_a_file_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("a,b")
        assert not path.exists()
        assert temporary.parent == path.parent, "another file system could not rename it in one go"
    assert path.read_text() == "a,b"
    assert names(path.parent) == ["table.csv"]


def test_a_folder_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "old.bin").touch()
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new.bin").touch()
        assert names(path) == ["old.bin"]
    assert names(path) == ["new.bin"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("old_is_folder", [False, True])
def test_failure_leaves_the_old_content_and_nothing_else(tmp_path, folder, old_is_folder):
    path = tmp_path / "result"
    if old_is_folder:
        path.mkdir()
        (path / "old").touch()
    else:
        path.write_text("old")

    def fail():
        with atomic_path(path) as temporary:
            if folder:
                temporary.mkdir()
                (temporary / "half").touch()
            else:
                temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == ["result"]
    assert names(path) == ["old"] if old_is_folder else path.read_text() == "old"


def test_a_block_that_writes_nothing_is_an_error_and_loses_nothing(tmp_path):
    (tmp_path / "result").mkdir()
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "result"):
        pass
    assert names(tmp_path) == ["result"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_may_replace_a_folder_and_a_folder_a_file(tmp_path, folder):
    path = tmp_path / "result"
    if folder:
        path.write_text("old")
    else:
        path.mkdir()
        (path / "old").touch()
    with atomic_path(path) as temporary:
        if folder:
            temporary.mkdir()
        else:
            temporary.write_text("new")
    assert path.is_dir() == folder
    assert names(tmp_path) == ["result"]


def test_a_link_is_replaced_and_its_target_kept(tmp_path):
    target, path = tmp_path / "target", tmp_path / "result"
    target.mkdir()
    (target / "kept").touch()
    path.symlink_to(target)
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert (names(target), names(path), path.is_symlink()) == (["kept"], ["new"], False)


def test_what_a_killed_process_left_is_not_mixed_in(tmp_path):
    stale = tmp_path / f".model.{os.getpid()}.tmp"
    stale.mkdir()
    (stale / "half").touch()
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
    assert names(tmp_path / "model") == []


def test_text_is_utf_8(tmp_path):
    atomic_write_text(tmp_path / "text", "α → β")
    assert (tmp_path / "text").read_bytes() == "α → β".encode()


# JSON.


def test_undefined_numbers_become_null(tmp_path):
    value = {"a": [1.5, math.nan, (math.inf, -math.inf)], "b": {"c": np.float64("nan"), "d": "NaN"}, 3: True}
    write_json(tmp_path / "x.json", value)
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert found == {"a": [1.5, None, [None, None]], "b": {"c": None, "d": "NaN"}, "3": True}


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_anything_becomes_strict_json(value):
    text = json.dumps(jsonable(value), allow_nan=False)
    assert jsonable(json.loads(text)) == json.loads(text)


# Digests.


def test_sha256(tmp_path):
    content = os.urandom((1 << 20) + 17)  # longer than a block
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


# Seeds and threads.


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


# Provenance.


def git(folder, *arguments):
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state(tmp_path):
    assert git_state(tmp_path) == {}
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--no-verify", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "untracked").touch()
    assert git_state(tmp_path)["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == {"commit": commit, "dirty": True}


def test_no_git_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) == {}


def test_provenance_is_plain_json():
    found = provenance(Stopwatch(0.0, 0.0), device="cpu", threads=3)
    assert set(found["packages"]) == set(PACKAGES)
    assert (found["device"], found["threads"], found["started"]) == ("cpu", 3, "1970-01-01T00:00:00Z")
    assert found["seconds"] == pytest.approx(time.monotonic(), abs=10)
    assert found["arithmetic"]["capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["peak_memory_mib"] > 10
    assert found["processor"]
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "gpu" not in found
    json.dumps(found, allow_nan=False)


# Scripts.


def test_bad_input_ends_a_script_with_one_line(capsys):
    def main():
        raise RkdError("config.yaml: found 3; expected 4")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "error: config.yaml: found 3; expected 4\n")


def test_a_bug_keeps_its_traceback_and_success_says_nothing(capsys):
    with pytest.raises(ZeroDivisionError):
        run_script(lambda: 1 / 0)
    run_script(lambda: None)
    assert capsys.readouterr() == ("", "")


def test_the_module_alone_loads_no_torch():
    code = (
        "import sys, rkd.utils.files, rkd.utils.script, rkd.utils.torch_setup, rkd.utils.provenance; "
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


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
