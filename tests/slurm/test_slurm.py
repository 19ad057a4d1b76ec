"""The workflow with profiles/slurm on a real Slurm: what is submitted, and what happens when jobs and nodes die."""

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

from tests.conftest import ROOT
from tests.slurm.conftest import Cluster
from tests.workflow.conftest import TINY, Workflow

PROFILE = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
TRAINING = ("finetune_teacher", "train_student")
# Long enough to be killed on the way.
SMALL = TINY | {"synthetic_rows": {"train": 1000, "dev": 40, "test": 10}, "student": {"epochs": 3}}
# No accounting here, and a check each few seconds instead of after 40.
OPTIONS = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1", "--slurm-requeue")


def wait_for(what: Callable[[], object], told: str, process: subprocess.Popen, seconds: float = 600) -> None:
    """Wait until `what` is true; fails at once when the workflow has ended before."""
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, f"the workflow ended before: {told}"
        assert time.monotonic() < deadline, f"not within {seconds} s: {told}"
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
    folder = workflow.folder / "results/metrics"
    return {str(path.relative_to(folder)): json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))}


def comment(run: str) -> str:
    """What the plugin calls the job of a run, such as students/mrpc/kd/seed-1."""
    kind, *rest, seed = run.split("/")
    rule = {"teachers": "finetune_teacher", "students": "train_student"}[kind]
    return f"rule_{rule}_wildcards_{'_'.join([*rest, seed.removeprefix('seed-')])}"


@pytest.mark.slow
@pytest.mark.parametrize("config", ["small", "default"])
def test_the_workflow_survives_a_killed_job_and_a_dead_node(cluster: Cluster, tmp_path: Path, config: str) -> None:
    on_slurm, local = Workflow(tmp_path / "slurm"), Workflow(tmp_path / "local")
    for workflow in (on_slurm, local):
        workflow.overlay(SMALL if config == "small" else {})
    earlier = len(cluster.jobs())

    def submitted(run: str) -> list[dict[str, str]]:
        return [job for job in cluster.jobs()[earlier:] if job["Comment"].startswith(comment(run))]

    def trains(run: str) -> bool:
        log = on_slurm.folder / "results/logs" / comment(run).removeprefix("rule_").split("_wildcards_")[0]
        log = log.joinpath(*run.split("/")[1:]).with_suffix(".log")
        return log.exists() and "epoch 1" in log.read_text() and submitted(run)[-1]["JobState"] == "RUNNING"

    process = start(on_slurm, tmp_path / "slurm.log")
    try:
        # The kernel kills a training that takes too much memory like this.
        killed = "students/mrpc/kd/seed-1"
        wait_for(lambda: trains(killed), "kd trains", process)
        [job] = submitted(killed)
        for pid in cluster.processes(job["JobId"]):
            if "train.py" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(submitted(killed)) == 2, "kd is submitted again", process)

        # A node that loses power: its daemon and all of a job's processes are gone at once.
        died = "students/mrpc/reptile/seed-1"
        wait_for(lambda: trains(died), "reptile trains", process)
        [job] = submitted(died)
        os.kill(cluster.pid("slurmd"), signal.SIGKILL)
        for running in [job for job in cluster.jobs() if job["JobState"] == "RUNNING"]:
            crash(running["JobId"])
        wait_for(lambda: submitted(died)[0]["JobState"] == "PENDING", "the node is given up", process)
        cluster.start("slurmd")
        process.wait(timeout=1200)
    finally:
        process.terminate()
        process.wait()
    output = (tmp_path / "slurm.log").read_text()
    print(output)
    assert process.returncode == 0, output
