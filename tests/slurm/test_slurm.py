"""The workflow with profiles/slurm on a real Slurm: what is submitted, and what happens when jobs and nodes die."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rkd.runs.paths import Run, located
from tests.helpers import ROOT, TIMEOUT
from tests.slurm.conftest import Cluster
from tests.workflow.conftest import TINY, Workflow, plan_of

PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
TRAINING = ("finetune_teacher", "train_student")
# Long enough to be killed on the way.
SMALL = TINY | {
    "synthetic_rows": {"train": 1000, "dev": 40, "test": 10},
    "teacher": {"epochs": 3},
    "student": {"epochs": 4},
}
# No accounting here, and a check each few seconds instead of after 40.
OPTIONS = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1")


def wait_for(what: Callable[[], object], told: str, process: subprocess.Popen, log: Path, seconds: int = 600) -> None:
    """Wait until `what` is true; fails at once when the workflow has ended before."""
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, f"the workflow ended before: {told}\n{log.read_text()}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {told}\n{log.read_text()}"
        time.sleep(0.2)


def start(workflow: Workflow, log: Path) -> subprocess.Popen:
    """The workflow with the Slurm profile, in the background."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(workflow.folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = ["snakemake", "--workflow-profile", "profiles/slurm", "--configfile", "overlay.yaml", *OPTIONS]
    with log.open("w") as output:
        return subprocess.Popen(
            command, cwd=workflow.folder, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True
        )


def metrics(workflow: Workflow) -> dict[str, dict]:
    folder = workflow.experiment / "metrics"
    return {str(path.relative_to(folder)): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}


def comment(run: str) -> str:
    """What the plugin calls the job of a run, such as runs/mrpc/kd-0123456789/seed-1."""
    found = located(run)
    assert found is not None, run
    return f"rule_{rule_of(run)}_wildcards_{'_'.join(map(str, wildcards(found[1])))}"


def wildcards(run: Run) -> list[str | int]:
    """The wildcards of a run's job, in the order of its paths."""
    return [run.task, *[run.variant] * (run.variant != "teacher"), run.digest, run.seed]


def rule_of(run: str) -> str:
    """The rule that trains a run."""
    return "finetune_teacher" if "/teacher-" in run else "train_student"


def crash(cluster: Cluster) -> None:
    """The node loses power: its daemon and all processes of its jobs are gone at once."""
    running = [job["JobId"] for job in cluster.jobs() if job["JobState"] == "RUNNING"]
    processes = [pid for job in running for pid in cluster.processes(job)]
    # Each step of a job hangs on a daemon of its own, which would report the end of its processes.
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in processes}
    steps = [pid for pid in parents if Path(f"/proc/{pid}/comm").read_text().strip() == "slurmstepd"]
    assert steps, "no job is running"
    for pid in [cluster.pid("slurmd"), *steps, *processes]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def in_slurm_units(rule: str, attempt: int) -> dict[str, str]:
    """What the profile asks for at this attempt, as scontrol writes it."""
    asked = {
        name: eval(value, {"attempt": attempt}) if isinstance(value, str) else value
        for name, value in PROFILE["set-resources"][rule].items()
    }
    hours, minutes = divmod(asked["runtime"], 60)
    gigabytes, rest = divmod(asked["mem_mb"], 1024)
    return {
        "CPUs/Task": "1",
        "MinMemoryNode": f"{asked['mem_mb']}M" if rest else f"{gigabytes}G",
        "TimeLimit": f"{hours:02}:{minutes:02}:00",
        "TresPerJob": f"gres:gpu:{asked['gpu']}",
    }


@pytest.mark.slow
@pytest.mark.parametrize("config", ["small", "default"])
def test_the_workflow_survives_a_killed_job_and_a_dead_node(cluster: Cluster, tmp_path: Path, config: str) -> None:
    for name in ("slurm", "local"):
        (tmp_path / name).mkdir()
    on_slurm, local = Workflow(tmp_path / "slurm"), Workflow(tmp_path / "local")
    for workflow in (on_slurm, local):
        workflow.overlay(SMALL if config == "small" else {})
    earlier = len(cluster.jobs())

    def submitted(run: str) -> list[dict[str, str]]:
        return [job for job in cluster.jobs()[earlier:] if job["Comment"] == comment(run)]

    def trains(run: str) -> bool:
        log = on_slurm.experiment / f"logs/{rule_of(run)}/{run.partition('/')[2]}.log"
        return log.exists() and "epoch 1 " in log.read_text() and submitted(run)[-1]["JobState"] == "RUNNING"

    log = tmp_path / "slurm.log"
    planned = plan_of(SMALL if config == "small" else {})
    killed, lost = (str(planned.run("mrpc", name, 1).folder(Path())) for name in ("teacher", "reptile"))
    process = start(on_slurm, log)
    try:
        # So the kernel ends a training that takes too much memory.
        wait_for(lambda: trains(killed), f"{killed} trains", process, log)
        for pid in cluster.processes(submitted(killed)[0]["JobId"]):
            if "workflow_scripts/train.py" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: submitted(killed)[0]["JobState"] == "FAILED", "the killed job has failed", process, log)

        wait_for(lambda: trains(lost), f"{lost} trains", process, log)
        crash(cluster)
        wait_for(lambda: submitted(lost)[0]["JobState"] == "PENDING", "the lost job is queued again", process, log)
        cluster.start("slurmd")
        process.wait(timeout=1200)
    finally:
        process.terminate()
        process.wait(timeout=TIMEOUT)
    assert process.returncode == 0, log.read_text()

    # All trainings, and nothing else, went through sbatch, and asked for what the profile says.
    folder = on_slurm.folder / "results"
    runs = [str(path.parent.relative_to(folder)) for path in folder.glob("runs/**/seed-*/run.json")]
    assert len(runs) == (4 if config == "small" else 24)
    assert {job["Comment"] for job in cluster.jobs()[earlier:]} == set(map(comment, runs))
    for run in runs:
        for attempt, job in enumerate(submitted(run), start=1):
            asked = in_slurm_units(rule_of(run), attempt)
            assert {key: job[key] for key in asked} == asked, run
        assert job["JobState"] == "COMPLETED", run

    # The killed job came again from Snakemake, the lost one from Slurm, under its old number.
    assert [job["JobState"] for job in submitted(killed)] == ["FAILED", "COMPLETED"]
    assert [(job["JobState"], job["Restarts"]) for job in submitted(lost)] == [("COMPLETED", "1")]

    local.snakemake()
    assert metrics(local)
    assert metrics(on_slurm) == metrics(local)
