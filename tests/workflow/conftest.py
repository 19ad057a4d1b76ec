"""A copy of the workflow that really runs: small models, few rows, in a folder of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from rkd.config.load import load
from rkd.workflow.plan import Plan
from tests.helpers import ROOT, TIMEOUT

PARTS = (
    "Snakefile",
    "config.yaml",
    "environment.yaml",
    "CITATION.cff",
    "configs",
    "profiles",
    "rules",
    "workflow_scripts",
    "rkd",
    "snakemake_logger_plugin_rkd",
)
TINY = {
    "tasks": ["mrpc"],
    "seeds": [1],
    "synthetic_rows": {"train": 96, "dev": 40, "test": 10},
    "vocab_size": 300,
    "teacher": {"epochs": 1},
    "student": {"epochs": 1},
    "variants": {"no-lookahead": None},
    "ablations": {"teacher-lr": None},
}


def plan_of(overlay: dict) -> Plan:
    """The plan of the project's config.yaml with an overlay."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    update_config(config, overlay)
    with contextlib.chdir(ROOT):  # relative paths of models start at the working directory
        plan = Plan(load(config))
        plan.runs()  # with their digests, while the models are found
    return plan


def _heed_signals() -> None:
    """As in a terminal, also where the tests run in the background, which ignores these."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Workflow:
    """The project's workflow in a folder of its own, with an overlay that makes it small."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / part, folder / part)
        self.overlay(TINY)

    @classmethod
    def at(cls, folder: Path) -> "Workflow":
        """The workflow that is in a folder already, with its overlay."""
        workflow = cls.__new__(cls)
        workflow.folder = folder
        return workflow

    @property
    def experiment(self) -> Path:
        """The folder of the default experiment."""
        return self.folder / "results/demo"

    def run(self, variant: str, seed: int = 1, task: str = "mrpc") -> Path:
        """The folder of the only run of a variant, whatever the digest of its settings."""
        [found] = (self.folder / f"results/runs/{task}").glob(f"{variant}-??????????/seed-{seed}")
        return found

    def metrics(self, variant: str, seed: int = 1, task: str = "mrpc") -> Path:
        """The metrics file of that run."""
        run = self.run(variant, seed, task)
        return self.experiment / f"metrics/{task}/{run.parent.name}/seed-{seed}.json"

    def overlay(self, config: dict) -> None:
        """Write the overlay that every later call uses."""
        (self.folder / "overlay.yaml").write_text(yaml.safe_dump(config))

    def snakemake(self, *arguments: str, check: bool = True, offline: bool = True) -> str:
        """Run Snakemake in the folder, with the folder's own rkd; returns all that it printed.

        `offline` says so to the hub's libraries from outside, whatever the config.
        """
        command, settings = self._started(*arguments, offline=offline)
        result = subprocess.run(command, **settings, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        output = result.stdout + result.stderr
        assert not check or result.returncode == 0, output
        return output

    def start(self, *arguments: str, log: Path) -> subprocess.Popen:
        """Start Snakemake in a session of its own, as a terminal would, and go on; `log` gets what it prints."""
        command, settings = self._started(*arguments)
        settings |= {"start_new_session": True, "preexec_fn": _heed_signals}
        with log.open("w") as output:
            return subprocess.Popen(command, **settings, stdout=output, stderr=subprocess.STDOUT, text=True)

    def _started(self, *arguments: str, offline: bool = True) -> tuple[list[str], dict]:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            **({"HF_HUB_OFFLINE": "1"} if offline else {}),
            "OMP_NUM_THREADS": "1",
        }
        command = ["snakemake", "--configfile", "overlay.yaml", "--cores", "2", *arguments]
        return command, {"cwd": self.folder, "env": environment}

    def planned(self, *arguments: str) -> dict[str, int]:
        """Number of jobs by rule that a dry run would start; empty when there is nothing to do."""
        output = self.snakemake("--dry-run", *arguments)
        if "Job stats:" not in output:
            assert "Nothing to be done" in output, output
            return {}
        table = output.split("Job stats:")[1].split("\n\n")[0].splitlines()[3:]
        counts = {line.split()[0]: int(line.split()[1]) for line in table if line.strip()}
        counts.pop("total")
        return counts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A workflow that has run to its end; tests may change it if they change it back."""
    workflow = Workflow(tmp_path_factory.mktemp("workflow"))
    workflow.snakemake()
    return workflow
