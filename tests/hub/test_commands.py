"""Commands in processes of their own against the hub on loopback: distillation, preparation, many at once."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from rkd.data.hub import HUB_NAME, HUB_REVISION
from rkd.utils.files import digests
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.waiting import until
from tests.hub.conftest import wnli_digests
from tests.hub.repositories import BERT, PINS, TINYBERT, old_bert, wnli_rows
from tests.hub.server import Fault, Hub

# A script of the project, with our WNLI as the official one.
OURS = """
import ast, runpy, sys
from rkd.data import official
official.SHA256 = ast.literal_eval(sys.argv.pop(1))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    return {**os.environ, **hub.environment(home, **more), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def rkd(hub: Hub, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "rkd", *arguments]
    return subprocess.run(
        command,
        env=environment(hub, home, **more),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )


def preparing(hub: Hub, home: Path, out: Path, **more: str) -> subprocess.Popen:
    """A job that prepares WNLI with BERT's tokenizer, just started."""
    spec = {"task": "wnli", "source": "hub", "revision": HUB_REVISION, "tokenizer": BERT, "max_length": 16}
    spec |= {"tokenizer_revision": PINS[BERT], "path": None, "vocab_size": 2000, "synthetic_rows": None}
    spec |= {"custom_task": None, "tokenizer_content": None}
    script = ["workflow_scripts/prepare_data.py", "--spec", json.dumps(spec), "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-c", OURS, repr(wnli_digests()), *script],
        env=environment(hub, home, **more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of pairs with labels."""
    rows = pd.DataFrame(wnli_rows("validation")).drop(columns="idx")
    rows["label"] = rows["label"].map({0: "no", 1: "yes"})
    rows.to_csv(tmp_path / "pairs.csv", index=False)
    return tmp_path / "pairs.csv"


@pytest.mark.slow
def test_distillation_from_the_hub_asks_for_what_it_needs_and_is_finished_offline(hub, table, tmp_path):
    arguments = [
        "distill", "--data", str(table), "--text", "sentence1", "--text", "sentence2", "--label", "label",
        "--teacher", f"{BERT}@{PINS[BERT]}", "--finetune-teacher", "--student", TINYBERT, "--method", "kd",
        "-s", "epochs=1", "--max-length", "16", "--out", "distilled",
    ]  # fmt: skip
    first = rkd(hub, tmp_path, *arguments)
    assert first.returncode == 0, first.stderr
    assert hub.unknown == []
    assert len([request for request in hub.requests if request.startswith("GET /cdn/")]) == 2
    # The student is not pinned: its commit is asked for, and what was found is recorded.
    asked = [request for request in hub.requests if request.startswith("GET /api/models/")]
    assert [request.rpartition("/")[2] for request in asked] == [PINS[BERT], "main"]
    for part, name, file in (("teacher", BERT, "model.safetensors"), ("student", TINYBERT, "pytorch_model.bin")):
        record = json.loads((tmp_path / "distilled" / part / "run.json").read_text())
        assert record["spec"]["model"]["source"] == name
        assert record["spec"]["model"]["revision"] == PINS[name]
        [found] = record["hub"]
        assert (found["name"], found["revision"]) == (name, PINS[name])
        weights = hub.repositories["model", name].commits[PINS[name]][file]
        assert found["sha256"][file] == hashlib.sha256(weights).hexdigest()
    settings = json.loads((tmp_path / "distilled/student/model/tokenizer_config.json").read_text())
    assert "local_files_only" not in settings
    assert str(tmp_path) not in json.dumps(settings)

    before = digests(tmp_path / "distilled")
    hub.reset()
    second = rkd(hub, tmp_path, *arguments, HF_HUB_OFFLINE="1")
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("finished already") == 2
    assert f"{TINYBERT}: HF_HUB_OFFLINE=1: using commit {PINS[TINYBERT]}" in second.stderr
    assert hub.requests == []
    assert digests(tmp_path / "distilled/student") == {
        name.removeprefix("student/"): digest for name, digest in before.items() if name.startswith("student/")
    }


@pytest.mark.slow
def test_a_branch_that_moves_is_another_model_and_a_pinned_one_stays(hub, table, tmp_path):
    moved = old_bert(2)
    repository = hub.repositories["model", BERT]
    old = repository.refs["main"]
    repository.commit(moved.commits[PINS[BERT]], "b" * 40)
    arguments = [
        "distill", "--data", str(table), "--text", "sentence1", "--label", "label", "--teacher", "unused",
        "--method", "finetune", "-s", "epochs=1", "--max-length", "16",
    ]  # fmt: skip
    for name, commit, layers in ((BERT, "b" * 40, 2), (f"{BERT}@{old}", old, 12)):
        done = rkd(hub, tmp_path, *arguments, "--student", name, "--teacher", name, "--out", commit)
        assert done.returncode == 0, done.stderr
        record = json.loads((tmp_path / commit / "student/run.json").read_text())
        assert (record["spec"]["model"]["source"], record["spec"]["model"]["revision"]) == (BERT, commit)
        assert json.loads((tmp_path / commit / "student/model/config.json").read_text())["num_hidden_layers"] == layers


@pytest.mark.slow
def test_jobs_that_start_at_once_share_an_empty_cache(hub, tmp_path):
    hub.faults = [Fault("GET", delay=0.05)]
    jobs = [preparing(hub, tmp_path, tmp_path / str(number)) for number in range(3)]
    for job in jobs:
        said = job.communicate(timeout=TIMEOUT)[1]
        assert job.returncode == 0, said
    manifests = [json.loads((tmp_path / str(number) / "manifest.json").read_text()) for number in range(3)]
    assert manifests[0] == manifests[1] == manifests[2]
    assert manifests[0]["revision"] == HUB_REVISION
    assert manifests[0]["tokenizer"]["revision"] == PINS[BERT]
    downloads = [request for request in hub.requests if request.startswith("GET /cdn/")]
    assert len(downloads) == len(set(downloads)) == 3  # the splits of WNLI: once for all three jobs
    assert hub.unknown == []
    hub.reset()
    again = preparing(hub, tmp_path, tmp_path / "again")
    said = again.communicate(timeout=TIMEOUT)[1]
    assert again.returncode == 0, said
    assert hub.requests == []


@pytest.mark.slow
def test_a_hub_that_dies_in_the_middle_is_one_line_and_the_same_job_then_works(hub, tmp_path):
    hub.faults = [Fault("GET /cdn/", cut=2000)]
    job = preparing(hub, tmp_path, tmp_path / "out")
    said = job.communicate(timeout=TIMEOUT)[1]
    assert job.returncode == 2
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {HUB_NAME}@{HUB_REVISION}: the hub {hub.endpoint} cannot be reached: ")
    assert not (tmp_path / "out").exists()
    hub.faults = []
    assert preparing(hub, tmp_path, tmp_path / "out").wait(timeout=TIMEOUT) == 0


@pytest.mark.slow
def test_a_killed_download_leaves_nothing_that_is_taken_for_whole(hub, tmp_path):
    hub.faults = [Fault("GET /cdn/", delay=30.0, times=1)]
    job = preparing(hub, tmp_path, tmp_path / "out")
    until(lambda: job.poll() is not None or any(request.startswith("GET /cdn/") for request in hub.requests))
    assert job.poll() is None
    job.kill()
    job.wait(timeout=TIMEOUT)
    hub.faults = []
    job = preparing(hub, tmp_path, tmp_path / "out")
    said = job.communicate(timeout=TIMEOUT)[1]
    assert job.returncode == 0, said
