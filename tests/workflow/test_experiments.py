"""Experiments in one folder: what they share, what stays apart, and the commands that look after the store."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from tests.helpers import TIMEOUT
from tests.workflow.conftest import TINY, Workflow

SMALL = TINY | {"variants": {"no-lookahead": None, "reptile": None}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished experiment with teacher, finetune and kd."""
    workflow = Workflow(tmp_path_factory.mktemp("experiments"))
    workflow.overlay(SMALL)
    workflow.snakemake()
    return workflow


def trainings(workflow, config):
    """The trainings and data that a config would make."""
    workflow.overlay(config)
    try:
        planned = workflow.planned()
    finally:
        workflow.overlay(SMALL)
    return {rule: planned[rule] for rule in ("prepare_data", "finetune_teacher", "train_student") if rule in planned}


def rkd(workflow, *arguments, code=0):
    environment = {**os.environ, "PYTHONPATH": str(workflow.folder)}
    command = [sys.executable, "-m", "rkd", *arguments]
    done = subprocess.run(
        command, cwd=workflow.folder, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_another_setting_trains_beside_what_is_there_and_going_back_trains_nothing(finished):
    before = (finished.run("kd") / "run.json").read_bytes()
    hot = SMALL | {"student": {"epochs": 1, "temperature": 9.0}}
    assert trainings(finished, hot) == {"train_student": 1}
    finished.overlay(hot)
    finished.snakemake()
    runs = sorted(finished.folder.glob("results/runs/mrpc/kd-*/seed-1/run.json"))
    assert len(runs) == 2
    assert before in [path.read_bytes() for path in runs]
    scores = {path: json.loads(path.read_text())["primary_score"] for path in finished.experiment.rglob("kd-*/*.json")}
    assert len(scores) == 2
    finished.overlay(SMALL)
    assert not {"finetune_teacher", "train_student", "compute_metrics"} & finished.planned().keys()
    finished.snakemake()
    assert finished.planned() == {}
    told = rkd(finished, "runs")
    assert told.count("mrpc kd seed 1") == 2
    assert "temperature 9.0" in told
    assert "temperature 5.0" in told
    listed = rkd(finished, "prune", "overlay.yaml")
    assert "2 folders or files" in listed, "a run and its metrics"
    assert "removed by --yes" in listed
    assert "kd-" in listed
    rkd(finished, "prune", "overlay.yaml", "--yes")
    assert [path.read_bytes() for path in finished.folder.glob("results/runs/mrpc/kd-*/seed-1/run.json")] == [before]
    assert finished.planned() == {}


def test_two_experiments_run_at_the_same_time_in_one_folder(finished, tmp_path):
    """They share a teacher that is there; what each has to make is its own."""
    started = []
    for name, rate in (("left", 2.0e-3), ("right", 3.0e-3)):
        config = SMALL | {"experiment": name, "student": {"epochs": 15, "learning_rate": rate}}
        (finished.folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
        arguments = ("--configfile", f"{name}.yaml", "--cores", "1")
        started.append(finished.start(*arguments, log=tmp_path / f"{name}.log"))
    together = all(process.poll() is None for process in started)
    for process, name in zip(started, ("left", "right"), strict=True):
        assert process.wait(timeout=TIMEOUT) == 0, (tmp_path / f"{name}.log").read_text()
    assert together
    scores = {name: list((finished.folder / f"results/{name}/metrics").rglob("*.json")) for name in ("left", "right")}
    assert {name: len(files) for name, files in scores.items()} == {"left": 3, "right": 3}
    assert len({file.parent.name for files in scores.values() for file in files}) == 5, "one teacher, four students"
    for name in scores:
        assert finished.planned("--configfile", f"{name}.yaml") == {}
    rkd(finished, "prune", "overlay.yaml", "--yes")  # for the other tests
    for name in scores:
        shutil.rmtree(finished.folder / "results" / name)


def test_tuning_tries_each_value_and_its_overlay_trains_with_the_chosen_ones(finished):
    tried = {
        "seed": 7,
        "student": {"learning_rate": [1.0e-5, 5.0e-3]},
        "teacher": {"learning_rate": None, "epochs": [1, 2]},
    }
    finished.overlay(SMALL | {"tune": tried})
    try:
        # The teacher with the config's own epochs is the one that the students learn from.
        assert finished.planned("--", "tune_teacher") == {"finetune_teacher": 2, "tune_teacher": 1}
        finished.snakemake("--", "tune_teacher")
        assert finished.planned("--", "tune") == {"finetune_teacher": 1, "train_student": 4, "tune": 1}
        finished.snakemake("--", "tune")
        assert finished.planned("--", "tune") == {}
        assert finished.planned() == {"report": 1, "all": 1}, "the page shows the tables"
        table = pd.read_csv(finished.experiment / "tables/tune.csv")
        assert table["row"].value_counts().to_dict() == {"finetune": 2, "kd": 2}
        chosen = table[table["chosen"]].set_index("row")["values"].str.split().str[1].astype(float).to_dict()
        overlay = yaml.safe_load((finished.experiment / "tuned.yaml").read_text())
        found = overlay["per_task"].get("mrpc", {}).get("variants", {})
        assert {row: settings["learning_rate"] for row, settings in found.items()} == chosen
        finished.snakemake()
        rkd(finished, "verify", "results/demo")
        given = {"per_task": {"mrpc": {"variants": {"kd": {"learning_rate": 5.0e-3}}}}}
        (finished.folder / "given.yaml").write_text(yaml.safe_dump(given))
        planned = finished.planned("--configfile", "overlay.yaml", "given.yaml")
        assert planned["train_student"] == 1
        assert "finetune_teacher" not in planned
        listed = rkd(finished, "prune", "overlay.yaml")
        assert ".tune." not in listed, "tuning runs of a config are planned by it"
        assert "seed-7" not in listed, "and so are the teachers of its students"
    finally:
        finished.overlay(SMALL)
        finished.snakemake()


def test_another_experiment_shares_the_runs_and_overwrites_nothing(finished):
    table = finished.experiment / "tables/main.md"
    before = table.read_bytes()
    assert trainings(finished, SMALL | {"experiment": "second"}) == {}
    other = SMALL | {"experiment": "second", "student": {"epochs": 1, "learning_rate": 5.0e-3}}
    assert trainings(finished, other) == {"train_student": 2}, "the teacher is shared"
    finished.overlay(SMALL | {"experiment": "second"})
    finished.snakemake()
    finished.overlay(SMALL)
    assert table.read_bytes() == before
    assert (finished.folder / "results/second/tables/main.md").read_bytes() == before
    assert finished.planned() == {}
    assert "no mismatch" in rkd(finished, "verify")


def test_local_inputs_count_by_content(finished, tmp_path):
    model = finished.folder / "configs/models/bert-2x128.json"
    copy = tmp_path / "elsewhere.json"
    shutil.copy(model, copy)
    assert trainings(finished, SMALL | {"student_model": str(copy)}) == {}
    copy.write_text(model.read_text().replace('"hidden_dropout_prob": 0.0', '"hidden_dropout_prob": 0.2'))
    assert trainings(finished, SMALL | {"student_model": str(copy)}) == {"train_student": 2}


def test_an_edited_glue_file_is_other_data(finished, tmp_path):
    glue = tmp_path / "glue"
    for name in ("train", "dev", "test"):
        (glue / "MRPC").mkdir(parents=True, exist_ok=True)
        (glue / f"MRPC/{name}.tsv").write_text(f"Quality\tid\tid\tone\ttwo\n1\t1\t2\ta {name}\tb\n")
    everything = {"prepare_data": 1, "finetune_teacher": 1, "train_student": 2}
    assert trainings(finished, SMALL | {"glue_dir": str(glue)}) == everything

    def folder():
        finished.overlay(SMALL | {"glue_dir": str(glue)})
        try:
            output = finished.snakemake("--dry-run")
        finally:
            finished.overlay(SMALL)
        return {
            word.strip(",") for word in output.split() if word.startswith("results/data/mrpc-") and "manifest" in word
        }

    first = folder()
    assert folder() == first
    (glue / "MRPC/dev.tsv").write_text("Quality\tid\tid\tone\ttwo\n1\t1\t2\tc\tb\n")
    assert folder() != first
    shutil.copytree(glue, tmp_path / "moved")
    edited = folder()
    glue.rename(tmp_path / "old")
    (tmp_path / "moved").rename(glue)
    assert folder() == edited


def test_the_report_only_mode_shows_no_run_of_other_settings(finished):
    other = SMALL | {"report_only": True, "student": {"epochs": 3}, "teacher": {"epochs": 7}}
    finished.overlay(other)
    told = finished.snakemake(check=False)
    finished.overlay(SMALL)
    assert "report_only: found no metrics of this config's runs" in told


def test_a_job_refuses_a_folder_of_other_settings(finished):
    run = finished.run("kd")
    spec = json.loads((run / "run.json").read_text())["spec"]
    data = next(finished.folder.glob("results/data/mrpc-*"))
    teacher = finished.run("teacher") / "model"
    spec["training"]["epochs"] = 2
    command = [sys.executable, "workflow_scripts/train.py", "--spec", json.dumps(spec), "--data", data, "--out", run]
    done = subprocess.run(
        [*map(str, command), "--teacher", str(teacher)],
        cwd=finished.folder,
        env={**os.environ, "PYTHONPATH": str(finished.folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 2
    assert "its settings, data and teacher have the digest" in done.stderr
    assert "no mismatch" in rkd(finished, "verify", str(run))


def test_an_experiment_is_kept_once_and_verifies(finished):
    told = rkd(finished, "keep", "demo", "--command", "make results")
    kept = finished.folder / "results/published/demo"
    assert str(kept.relative_to(finished.folder)) in told
    text = (kept / "README.md").read_text()
    assert "$ make results" in text
    assert "3 runs" in text
    assert not list(kept.rglob("*.safetensors"))
    assert (kept / "tables/main.md").read_bytes() == (finished.experiment / "tables/main.md").read_bytes()
    assert "no mismatch" in rkd(finished, "verify", "results/published/demo")
    (kept / "README.md").write_text("mine")
    assert "exists; expected a new folder" in rkd(finished, "keep", "demo", code=2)
    assert (kept / "README.md").read_text() == "mine"
    assert "expected a finished experiment: demo" in rkd(finished, "keep", "nothing", code=2)
    shutil.rmtree(kept)


def test_results_of_an_earlier_layout_are_told_and_left_alone(finished):
    old = finished.folder / "results/students/mrpc/kd/seed-1/run.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    try:
        told = finished.snakemake("--dry-run")
        assert "note: results/ has students of an earlier version" in told
        assert old.read_text() == "{}"
    finally:
        shutil.rmtree(finished.folder / "results/students")


@pytest.mark.parametrize(("name", "told"), [("runs", "another name"), ("A b", "a name of lower-case letters")])
def test_a_bad_name_of_an_experiment_is_one_error(finished, name, told):
    finished.overlay(SMALL | {"experiment": name})
    output = finished.snakemake("--dry-run", check=False)
    finished.overlay(SMALL)
    assert f"experiment: found '{name}'" in output
    assert told in output
