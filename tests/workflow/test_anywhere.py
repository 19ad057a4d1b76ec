"""The workflow started from another directory, imported as a module, and with results in a storage."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import TIMEOUT
from tests.workflow.conftest import TINY, Workflow

SMALL = TINY | {"variants": {"no-lookahead": None, "reptile": None}}


class Project:
    """A clone of the workflow, and a folder elsewhere in which it is used."""

    def __init__(self, folder: Path) -> None:
        folder.joinpath("clone").mkdir()
        self.clone = Workflow(folder / "clone").folder
        self.user = folder / "user"
        self.user.mkdir()
        (self.user / "mine.yaml").write_text(yaml.safe_dump(SMALL))

    def snakemake(self, *arguments: str, cwd: Path | None = None, code: int = 0, **variables: str) -> str:
        # Neither the working directory nor the environment says where the project lies.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= variables | {
            "HF_HUB_OFFLINE": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = ["snakemake", "--cores", "2", *arguments]
        settings = {"cwd": cwd or self.user, "env": environment, "text": True}
        done = subprocess.run(command, **settings, capture_output=True, check=False, timeout=TIMEOUT)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that has run in the user's folder."""
    made = Project(tmp_path_factory.mktemp("anywhere"))
    made.snakemake("--snakefile", f"{made.clone}/Snakefile", "--configfile", "mine.yaml")
    return made


def test_the_workflow_runs_in_the_working_directory_wherever_it_lies(project):
    assert (project.user / "results/demo/tables/main.md").is_file()
    assert (project.user / "results/demo/report/index.html").is_file()
    assert not (project.clone / "results").exists()
    log = next((project.user / "results/demo/logs/finetune_teacher").rglob("*.log")).read_text()
    assert "not found" not in log, "the students were tried before their teacher"


def test_directory_changes_where_results_lie_and_not_where_overlays_are_looked_for(project, tmp_path):
    shutil.copy(project.user / "mine.yaml", tmp_path)
    arguments = (
        "--snakefile",
        f"{project.clone}/Snakefile",
        "--directory",
        str(project.user),
        "--configfile",
        "mine.yaml",
    )
    assert "Nothing to be done" in project.snakemake("--dry-run", *arguments, cwd=tmp_path)


def test_no_absolute_path_counts_as_a_change(project, tmp_path):
    """Another clone, and the results in another folder, have nothing to do."""
    shutil.copytree(project.user, tmp_path / "user", copy_function=shutil.copy2)
    shutil.copytree(project.clone, tmp_path / "another-clone", copy_function=shutil.copy2)
    arguments = ("--snakefile", f"{tmp_path}/another-clone/Snakefile", "--configfile", "mine.yaml")
    assert "Nothing to be done" in project.snakemake("--dry-run", *arguments, cwd=tmp_path / "user")


def test_the_console_has_a_line_per_job(project):
    (project.user / "results/demo/tables/main.md").unlink()
    arguments = ("--snakefile", f"{project.clone}/Snakefile", "--configfile", "mine.yaml", "--logger", "rkd")
    lines = [line.split() for line in project.snakemake(*arguments, PYTHONPATH=str(project.clone)).splitlines()]
    assert ["3", "jobs"] in lines
    assert [line[:4] for line in lines if line[0].startswith("[")] == [
        ["[1", "of", "3]", "main_table"],
        ["[2", "of", "3]", "report"],
        ["[3", "of", "3]", "all"],
    ]
    assert len(lines) < 10


def test_a_profile_sets_how_jobs_run_and_changes_no_run(project, tmp_path):
    (tmp_path / "config.yaml").write_text("config:\n  - threads=2\n  - device=cpu\n")
    arguments = ("--snakefile", f"{project.clone}/Snakefile", "--configfile", "mine.yaml", "--dry-run")
    arguments += ("--workflow-profile", str(tmp_path))
    assert "Nothing to be done" in project.snakemake(*arguments)
    forced = project.snakemake(*arguments, "--forceall")
    assert "threads: 2" in forced
    assert "device=cpu" in forced


def test_a_config_that_is_not_read_is_named(project):
    config = project.user / "config.yaml"
    config.write_text("seeds: [7]\n")
    try:
        arguments = ("--snakefile", f"{project.clone}/Snakefile", "--dry-run", "--configfile", "mine.yaml")
        assert "note: config.yaml of this folder is not read; to use it: --configfile config.yaml" in project.snakemake(
            *arguments
        )
        output = project.snakemake(*arguments, "config.yaml")
    finally:
        config.unlink()
    assert "not read" not in output
    assert "seed-7" in output


@pytest.mark.parametrize(("prefix", "anew"), [("", "demo/tables"), (" as distilled_*", "runs")])
def test_the_workflow_is_a_module_of_another_one(project, tmp_path, prefix, anew):
    folder = tmp_path / "outer"
    shutil.copytree(project.user, folder, copy_function=shutil.copy2)
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump({"rkd": SMALL, "other": 1}))
    (folder / "Snakefile").write_text(
        'configfile: "config/config.yaml"\n\n\n'
        f'module rkd:\n    snakefile: "{project.clone}/Snakefile"\n    config: config["rkd"]\n\n\n'
        f"use rule * from rkd{prefix}\n\n\n"
        'rule mine:\n    input: "results/demo/tables/main.md"\n    output: "mine.md"\n'
        '    shell: "cp {input} {output}"\n'
    )
    told = project.snakemake("--dry-run", "mine", cwd=folder)
    assert "total" in told
    assert "finetune_teacher" not in told, "what the project has made is found"
    shutil.rmtree(folder / "results" / anew)
    shutil.rmtree(folder / "results/demo/.trials")
    project.snakemake("mine", cwd=folder)
    assert (folder / "mine.md").read_text() == (project.user / "results/demo/tables/main.md").read_text()
    log = next((folder / "results/demo/logs/finetune_teacher").rglob("*.log")).read_text()
    assert "not found" not in log, "the students were tried before their teacher"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="the plugin of the storage calls rsync")
def test_results_in_a_storage_are_those_of_a_local_run(project, tmp_path):
    user, storage = tmp_path / "user", tmp_path / "storage"
    user.mkdir()
    shutil.copy(project.user / "mine.yaml", user)
    arguments = ("--snakefile", f"{project.clone}/Snakefile", "--configfile", "mine.yaml")
    stored = ("--default-storage-provider", "fs", "--default-storage-prefix", str(storage))
    project.snakemake(*arguments, *stored, cwd=user)
    assert not list((user / "results").rglob("*.md"))
    for table in ("main.md", "main.tex", "comparisons.csv", "selection.html"):
        ours, theirs = (folder / "results/demo/tables" / table for folder in (storage, project.user))
        assert ours.read_text() == theirs.read_text()
    [model] = (storage / "results/runs/mrpc").glob("kd-*/seed-1/model")
    assert {path.name for path in model.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert "Nothing to be done" in project.snakemake("--dry-run", *arguments, *stored, cwd=user)
    environment = {**os.environ, "PYTHONPATH": str(project.clone)}
    command = [sys.executable, "-m", "rkd", "verify", "results/demo"]
    done = subprocess.run(
        command, cwd=storage, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
