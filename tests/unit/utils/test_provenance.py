"""Git state and provenance."""

import json
import subprocess
import sys
import time

import pytest
import torch

from rkd.utils.provenance import PACKAGES, Stopwatch, git_state, provenance
from tests.helpers import TIMEOUT


def git(folder, *arguments):
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *identity, *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, timeout=TIMEOUT
    ).stdout.strip()


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
