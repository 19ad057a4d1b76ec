"""A real Slurm on this machine, and the workflow under it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import TIMEOUT

SCRIPTS = Path(__file__).parent
NEEDED = ("munged", "sbatch", "scontrol", "slurmctld", "slurmd")


class Cluster:
    """One node with two CPUs and two pretended GPUs, started and stopped by the scripts beside this file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: str) -> None:
        """Start all of it, or with "slurmd" the daemon of the node again."""
        command = [str(SCRIPTS / "start.sh"), str(self.folder), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert result.returncode == 0, result.stdout + result.stderr

    def stop(self) -> None:
        subprocess.run([str(SCRIPTS / "stop.sh"), str(self.folder)], check=True, timeout=TIMEOUT)

    def jobs(self) -> list[dict[str, str]]:
        """All jobs since the start in the order of their submission, each as scontrol's keys and values."""
        output = subprocess.run(
            ["scontrol", "show", "job", "-o"], capture_output=True, text=True, check=True, timeout=TIMEOUT
        ).stdout
        lines = [line for line in output.splitlines() if line.startswith("JobId=")]
        jobs = [dict(re.findall(r"([\w:/]+)=(\S*)", line)) for line in lines]
        return sorted(jobs, key=lambda job: int(job["JobId"]))

    def processes(self, job: str) -> list[int]:
        """Processes of a running job, all steps."""
        listed = subprocess.run(
            ["scontrol", "listpids", job], capture_output=True, text=True, check=False, timeout=TIMEOUT
        ).stdout
        return [int(line.split()[0]) for line in listed.splitlines()[1:] if line.split()[0].isdigit()]

    def pid(self, daemon: str) -> int:
        return int((self.folder / "run" / f"{daemon}.pid").read_text())


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster; skips with the reason where there can be none."""
    if "RKD_TEST_SLURM" not in os.environ:
        pytest.skip("starts a Slurm of its own only when asked to: make test-slurm")
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"no Slurm here ({', '.join(missing)} missing): apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("root starts the daemons of a cluster")
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[slurm]'")
    here = Cluster(tmp_path_factory.mktemp("cluster"))
    here.start()
    try:
        yield here
    finally:
        here.stop()
