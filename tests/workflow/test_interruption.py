"""Jobs and Snakemake itself killed on the way, for real, and started again."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import TIMEOUT
from tests.helpers.interruption import outcome
from tests.helpers.seeds import SOAK
from tests.helpers.waiting import until
from tests.workflow.conftest import TINY, Workflow, plan_of

LONG = TINY | {
    "checkpoint_minutes": 0.02,
    "student": {"epochs": 40},
    "variants": {"finetune": None, "reptile": None, "no-lookahead": None, "nothing": {"method": "kd", "alpha": 0.0}},
}
PLAN = plan_of(LONG)
KD, OTHER = (str(PLAN.run("mrpc", variant, 1).folder(Path("results"))) for variant in ("kd", "nothing"))
LOG = str(PLAN.run("mrpc", "kd", 1).log(Path("results/demo")))
STATE = KD.replace("results/runs/", "results/.checkpoints/")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """A workflow whose trainings are long enough to be hit on their way."""
    workflow = Workflow(tmp_path_factory.mktemp("interrupted"))
    workflow.overlay(LONG)
    return workflow


def told(workflow: Workflow) -> str:
    path = workflow.folder / LOG
    return path.read_text(errors="replace") if path.exists() else ""


def trainings(workflow: Workflow) -> list[int]:
    """The processes that train KD in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            command = (entry / "cmdline").read_bytes()
            name, script, *_ = [*command.split(b"\0"), b""]
            trains = name == b"python" and script.endswith(b"/workflow_scripts/train.py") and KD.encode() in command
            if trains and (entry / "cwd").resolve() == workflow.folder:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def under_way(workflow: Workflow, tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Snakemake, at the moment at which KD is some epochs further than before; at the end nothing of it is left."""
    (workflow.folder / LOG).unlink(missing_ok=True)
    log = tmp_path / "snakemake.log"
    process = workflow.start("students", *arguments, log=log)
    try:
        deadline = time.monotonic() + 240
        while told(workflow).count(" dev ") < 3:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield process, log
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=TIMEOUT)


def reference(workflow: Workflow) -> dict:
    """KD once more from the start, without interruption."""
    assert not (workflow.folder / STATE).exists()
    workflow.snakemake("--force", f"{KD}/run.json")
    assert json.loads((workflow.folder / KD / "run.json").read_text())["resumed"] == []
    return outcome(workflow.folder / KD)


def test_a_killed_job_fails_alone_is_listed_and_goes_on(workflow, tmp_path):
    with under_way(workflow, tmp_path) as (process, log):
        (pid,) = trainings(workflow)
        os.kill(pid, signal.SIGKILL)
        assert process.wait(timeout=240) == 1
        end = log.read_text()[-1500:]
        assert "Failed (1):\n" in end
        assert f"\n  {LOG}: " in end.partition("Failed (1):")[2]
    assert (workflow.folder / OTHER / "run.json").exists()
    assert not (workflow.folder / KD / "run.json").exists()

    # As a profile's `retries` does it: the job that a signal ends is started again at once, and goes on.
    with under_way(workflow, tmp_path, "--retries", "1") as (process, log):
        assert "going on from step" in told(workflow)
        (pid,) = trainings(workflow)
        os.kill(pid, signal.SIGTERM)
        assert process.wait(timeout=240) == 0, log.read_text()
    found = outcome(workflow.folder / KD)
    assert len(json.loads((workflow.folder / KD / "run.json").read_text())["resumed"]) == 2
    assert found == reference(workflow)


@pytest.mark.skipif(not SOAK, reason="minutes: make soak")
def test_snakemake_killed_alone_and_with_its_jobs_and_by_the_keyboard(workflow, tmp_path):
    shutil.rmtree(workflow.folder / KD, ignore_errors=True)
    workflow.overlay(LONG | {"student": {"epochs": 600}, "variants": {**LONG["variants"], "nothing": None}})

    # Snakemake alone: its job goes on alone, until the next start takes over.
    with under_way(workflow, tmp_path) as (process, _):
        (left,) = trainings(workflow)
        locked = workflow.snakemake("students", check=False)  # a second Snakemake beside the first
        assert "Directory cannot be locked" in locked
        assert "no other Snakemake process is trying to create the same files" in locked
        process.kill()
        process.wait(timeout=TIMEOUT)
        assert trainings(workflow) == [left]
        workflow.snakemake("--unlock")
        with under_way(workflow, tmp_path) as (second, _):
            until(lambda: left not in trainings(workflow))  # Python takes a while to end; the lock is free before
            assert f"process {left} trains this run already; asking it to stop" in told(workflow)
            # Both: nothing is left.
            os.killpg(second.pid, signal.SIGKILL)
            second.wait(timeout=TIMEOUT)
            until(lambda: not trainings(workflow))
    workflow.snakemake("--unlock")

    # Ctrl-C reaches all processes of the terminal.
    with under_way(workflow, tmp_path) as (process, log):
        assert "going on from step" in told(workflow)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=120) != 0, log.read_text()
        assert "SIGINT: stopped; the same command goes on after step" in told(workflow)
        assert not trainings(workflow)

    # SIGTERM: Snakemake lets its jobs end, and leaves no lock.
    with under_way(workflow, tmp_path) as (process, _):
        process.terminate()
        process.wait(timeout=600)
    workflow.snakemake("students")
    found = outcome(workflow.folder / KD)
    assert len(json.loads((workflow.folder / KD / "run.json").read_text())["resumed"]) >= 3
    assert found == reference(workflow)
