"""The workflow run for real on small models: what it leaves, and what a change makes it do again."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pandas as pd
import pytest
import yaml

from benchmarks import workflow
from rkd.metrics.scores import compute
from rkd.verify import verify
from tests.helpers import TIMEOUT
from tests.workflow.conftest import TINY, Workflow

RUNS = ("teacher", "finetune", "kd", "reptile")
TRAINING = {"finetune_teacher", "train_student"}


@contextmanager
def edited(path, edit):
    """The file with another content for the time of the block."""
    text = path.read_text()
    assert edit(text) != text, f"the edit of {path} changes nothing"
    path.write_text(edit(text))
    try:
        yield
    finally:
        path.write_text(text)


@contextmanager
def overlay(workflow, **changes):
    """Another overlay for the time of the block."""
    workflow.overlay(
        {
            **TINY,
            **{
                key: {**TINY[key], **value} if isinstance(TINY.get(key), dict) else value
                for key, value in changes.items()
            },
        }
    )
    try:
        yield
    finally:
        workflow.overlay(TINY)


def test_every_run_leaves_its_files(finished):
    for run in RUNS:
        folder = finished.run(run)
        for name in (
            "model/model.safetensors",
            "model/config.json",
            "predictions.parquet",
            "logits.parquet",
            "history.jsonl",
            "run.json",
        ):
            assert (folder / name).stat().st_size > 0, f"{run}/{name}"
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in history] == [0, 1]
    logs = list((finished.experiment / "logs").rglob("*.log"))
    assert len(logs) == len(list((finished.experiment / "benchmarks").rglob("*.tsv"))) == 20


def test_metrics_follow_from_the_predictions(finished):
    frame = pd.read_parquet(finished.run("reptile") / "predictions.parquet")
    dev = frame[frame["split"] == "validation"]
    expected = compute("mrpc", dev["prediction"].to_numpy(), dev["label"].to_numpy())
    found = json.loads(finished.metrics("reptile").read_text())["splits"]["validation"]
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_tables_and_figures_say_that_the_data_are_synthetic(finished):
    tables = finished.experiment / "tables"
    for name in ("main.md", "main.tex"):
        assert "synthetic" in (tables / name).read_text().lower()
    for row in ("teacher", "finetune", "kd", "reptile"):
        assert row in (tables / "main.md").read_text().lower()
    for suffix in ("pdf", "png"):
        assert (finished.experiment / f"figures/learning_curves.{suffix}").stat().st_size > 1000


def test_the_results_match_what_they_say_of_themselves(finished):
    checked = verify([finished.folder / "results"])
    pages = {"tables": 6, "figures": 4, "pages": 1}
    assert checked.counts == {"runs": 4, "metrics files": 4, "prepared tasks": 1, "distillations": 0, **pages}
    assert checked.findings == ()
    record = json.loads((finished.run("kd") / "run.json").read_text())
    assert {"model/model.safetensors", "predictions.parquet", "history.jsonl"} <= set(record["outputs"])
    expected = {"spec", "code", "git", "packages", "processor", "threads", "precision", "seconds", "peak_memory_mib"}
    assert expected <= set(record)
    assert record["data"].keys() == {"source", "revision", "sha256", "files"}
    assert len(record["teacher"]["model.safetensors"]) == len(record["data"]["sha256"]) == 64


def test_nothing_to_do_the_second_time(finished):
    assert finished.planned() == {}


def test_touched_files_are_no_change(finished):
    for part in ("rkd", "workflow_scripts", "rules", "configs"):
        for path in (finished.folder / part).rglob("*.*"):
            path.touch()
    (finished.folder / "config.yaml").touch()
    assert finished.planned() == {}


def test_comments_and_order_of_the_config_are_no_change(finished):
    def reorder(text):
        return "# another comment\n" + yaml.safe_dump(dict(reversed(yaml.safe_load(text).items())), sort_keys=False)

    with edited(finished.folder / "config.yaml", reorder):
        assert finished.planned() == {}


@pytest.mark.parametrize(
    ("file", "runs_again", "stays"),
    [
        ("rkd/losses.py", {"train_student": 2}, {"finetune_teacher", "prepare_data"}),
        ("rkd/methods/reptile.py", {"train_student": 1}, {"finetune_teacher", "prepare_data"}),
        ("rkd/methods/finetune.py", {"train_student": 3, "finetune_teacher": 1}, {"prepare_data"}),
        ("rkd/training/loop.py", {"train_student": 3, "finetune_teacher": 1}, {"prepare_data"}),
        ("rkd/report/tables/main.py", {"main_table": 1}, TRAINING | {"compute_metrics", "learning_curves"}),
        ("rkd/report/figures/learning_curves.py", {"learning_curves": 1}, TRAINING | {"compute_metrics", "main_table"}),
        ("rkd/report/figures/rkd.mplstyle", {"learning_curves": 1}, TRAINING | {"compute_metrics", "main_table"}),
        ("rkd/report/tables/literature.csv", {"main_table": 1}, TRAINING | {"compute_metrics", "learning_curves"}),
        ("rkd/workflow/plan.py", {}, TRAINING | {"compute_metrics", "main_table", "learning_curves"}),
        ("rkd/config/load.py", {}, TRAINING | {"compute_metrics", "main_table", "learning_curves"}),
    ],
)
def test_an_edit_runs_what_uses_the_file(finished, file, runs_again, stays):
    addition = "\nEDITED = True\n" if file.endswith(".py") else "\n# edited\n"
    with edited(finished.folder / file, lambda text: text + addition):
        planned = finished.planned()
    for rule, count in runs_again.items():
        assert planned.get(rule) == count, planned
    assert not stays & planned.keys(), planned


@pytest.mark.parametrize(
    ("model", "trains"),
    [("bert-2x128", {"train_student": 3}), ("bert-4x128", {"finetune_teacher": 1, "train_student": 2})],
)
def test_an_edited_model_config_trains_what_starts_from_it(finished, model, trains):
    def drop_out(text):
        return text.replace('"hidden_dropout_prob": 0.0', '"hidden_dropout_prob": 0.1')

    with edited(finished.folder / f"configs/models/{model}.json", drop_out):
        planned = finished.planned()
    assert {rule: count for rule, count in planned.items() if rule in TRAINING | {"prepare_data"}} == trains


def test_layout_comments_and_docstrings_of_code_are_no_change(finished):
    def reword(text):
        return text.replace('"""', '"""Reworded. ', 1).replace("\n\n\n", "\n\n\n\n# Another comment.\n")

    with ExitStack() as files:
        for file in ("rkd/losses.py", "rkd/methods/base.py", "workflow_scripts/train.py", "rkd/report/tables/main.py"):
            files.enter_context(edited(finished.folder / file, reword))
        assert finished.planned() == {}


@contextmanager
def replaced(folder, pattern, replacement):
    """All code of the trainings and of layer_map.py with another text for what matches, for the time of the block."""
    files = [*folder.glob("rkd/training/*.py"), folder / "rkd/layer_map.py"]
    before = {path: path.read_text() for path in files}
    after = {path: re.sub(pattern, replacement, text) for path, text in before.items()}
    assert before != after, f"nothing matches {pattern}"
    for path, text in after.items():
        path.write_text(text)
    try:
        yield
    finally:
        for path, text in before.items():
            path.write_text(text)


def test_reworded_messages_and_a_new_version_are_no_change(finished):
    """Of errors and log lines alike, those with values in them too."""
    for messages in (r'(RkdError\(\s*f?")', r'(log\.\w+\(\s*f?")'):
        with replaced(finished.folder, messages, r"\1Reworded: "):
            assert finished.planned() == {}
    with edited(finished.folder / "rkd/_version.py", lambda text: re.sub(r'"\d+\.', '"99.', text)):
        assert finished.planned() == {}


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"(checkpoint_minutes: float = )15\b", r"\g<1>16"),
        (r'\b(device: str = )"auto"', r'\1"cpu"'),
        (r'"primary_score"', '"score"'),
    ],
    ids=["number", "default string", "key"],
)
def test_a_changed_number_default_or_key_of_the_code_trains(finished, pattern, replacement):
    with replaced(finished.folder, pattern, replacement):
        planned = finished.planned()
    assert {rule: planned.get(rule) for rule in TRAINING} == {"finetune_teacher": 1, "train_student": 3}


def test_another_house_style_is_no_change(finished):
    """All code set anew by the formatters, to a narrower page, which breaks lines in most files."""
    folder, page = finished.folder, ["--line-length", "79"]
    code = [path for part in ("rkd", "workflow_scripts", "rules") for path in (folder / part).rglob("*.[ps][ym]*")]
    before = {path: path.read_text() for path in (*code, folder / "Snakefile")}
    (folder / "style.toml").write_text("[tool.snakefmt]\nline_length = 79\nformat_shell = false\n")
    try:
        for command in (
            ["ruff", "format", "--isolated", *page, "rkd", "workflow_scripts"],
            ["snakefmt", "--config", "style.toml", "."],
        ):
            subprocess.run(
                [sys.executable, "-m", *command], cwd=folder, check=True, capture_output=True, timeout=TIMEOUT
            )
        assert sum(path.read_text() != text for path, text in before.items()) > 30
        assert finished.planned() == {}
    finally:
        for path, text in before.items():
            path.write_text(text)
        (folder / "style.toml").unlink()


@pytest.mark.parametrize("copy", [shutil.copy2, shutil.copy], ids=["with times", "without times"])
def test_finished_results_in_a_fresh_clone_are_no_change(finished, tmp_path, copy):
    """`git clone` gives all files the time of now; the results come from elsewhere, with Snakemake's metadata."""
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    (tmp_path / "origin").mkdir()
    Workflow(tmp_path / "origin")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--no-verify", "--message", "all"]):
        subprocess.run([*git, *command], cwd=tmp_path / "origin", check=True, timeout=TIMEOUT)
    subprocess.run([*git, "clone", "--quiet", "origin", "clone"], cwd=tmp_path, check=True, timeout=TIMEOUT)
    for part in ("results", ".snakemake/metadata"):
        shutil.copytree(finished.folder / part, tmp_path / "clone" / part, copy_function=copy)
    assert Workflow.at(tmp_path / "clone").planned() == {}


@pytest.mark.parametrize(
    ("changes", "trains"),
    [
        ({"student": {"epochs": 1, "alpha": 0.3}}, {"train_student": 2}),
        ({"student": {"epochs": 1, "teacher_lr": 1.0e-5}}, {"train_student": 1}),
        ({"student": {"epochs": 1, "max_grad_norm": 2.0}}, {"train_student": 3}),
        ({"seeds": [1, 2]}, {"finetune_teacher": 1, "train_student": 3}),
        ({"tasks": ["mrpc", "rte"]}, {"prepare_data": 1, "finetune_teacher": 1, "train_student": 3}),
        ({"variants": {"kd-hot": {"method": "kd", "temperature": 9.0}}}, {"train_student": 1}),
        ({"variants": {"reptile": None}}, {}),
        (
            {"ablations": {"heat": {"variant": "kd", "parameter": "temperature", "values": [5.0, 9.0]}}},
            {"train_student": 1},
        ),
        ({"teacher": {"epochs": 2}}, {"finetune_teacher": 1, "train_student": 2}),
        ({"device": "cpu"}, {}),
        ({"threads": 2}, {}),
    ],
)
def test_a_change_of_the_config_trains_only_what_it_concerns(finished, changes, trains):
    with overlay(finished, **changes):
        planned = finished.planned()
    assert {rule: n for rule, n in planned.items() if rule in TRAINING | {"prepare_data"}} == trains


def test_two_swapped_values_are_seen(finished):
    """Snakemake remembers a job's parameters as a set of values: two that change places would go unnoticed."""
    student = yaml.safe_load((finished.folder / "config.yaml").read_text())["student"]
    swapped = {"learning_rate": student["warmup_ratio"], "warmup_ratio": student["learning_rate"], "epochs": 1}
    with overlay(finished, student=swapped):
        assert finished.planned().get("train_student") == 3


def test_a_bad_config_ends_with_all_its_errors_before_anything_runs(finished):
    with overlay(finished, tasks=["mprc"], student={"alpha": 2.0}):
        output = finished.snakemake(check=False)
    assert "tasks[0]" in output
    assert "did you mean mrpc?" in output
    assert "student.alpha" in output
    assert "Traceback" not in output
    assert finished.planned() == {}


def test_named_targets(finished):
    for target in ("teachers", "students", "tables", "figures", "mrpc_all"):
        assert finished.planned(target) == {}


def test_the_benchmark_finds_all_trainings_and_the_figure(finished):
    planned = finished.planned("--forceall")
    histories = workflow.histories_in(finished.folder)
    assert len(histories) == planned["finetune_teacher"] + planned["train_student"]
    assert workflow.training_seconds(histories[0]) > 0
    assert workflow.figure_in(finished.folder).is_file()


def test_efficiency_and_cost_are_measured_when_asked_for(finished):
    assert not {"measure_efficiency", "measure_cost"} & finished.planned("--forceall").keys()
    finished.snakemake("efficiency")
    results = finished.experiment
    models = pd.read_csv(results / "tables/efficiency.csv").set_index("row")
    assert models.loc["teacher", "parameters"] > models.loc["student", "parameters"]
    assert (models[["flops", "latency_ms", "throughput"]] > 0).all(axis=None)
    steps = pd.read_csv(results / "tables/cost.csv").set_index("row")
    assert steps.loc["finetune", "teacher_forwards"] == 0
    assert steps.loc["kd", "backwards"] == 1
    assert steps.loc["reptile", "backwards"] == 1  # it serves both gradients
    assert "1.94×" in (results / "tables/efficiency.md").read_text()
    assert (results / "figures/latency.png").stat().st_size > 10_000


def test_a_lost_metrics_file_trains_nothing(finished):
    path = finished.metrics("kd")
    text = path.read_text()
    path.unlink()
    planned = finished.planned()
    assert planned == {
        **{"all": 1, "compute_metrics": 1, "main_table": 1, "behaviour_table": 1},
        **{"score_vs_cost": 1, "report": 1},
    }
    finished.snakemake()
    assert path.read_text() == text


def test_the_partial_mode_reports_what_is_there_and_trains_nothing(finished, tmp_path):
    results = finished.experiment
    lost = [finished.metrics("reptile").parent, finished.run("reptile").parent, finished.run("teacher") / "run.json"]
    for number, path in enumerate(lost):
        path.rename(tmp_path / str(number))
    try:
        with edited(finished.folder / "rkd/losses.py", lambda text: text + "\nEDITED = True\n"):
            planned = finished.planned("--config", "report_only=true")
            assert {"main_table", "comparisons", "learning_curves"} < planned.keys()
            assert "teacher_dynamics" not in planned, "no teacher moves in what is left"
            assert not (TRAINING | {"prepare_data", "compute_metrics"}) & planned.keys()
            finished.snakemake("--config", "report_only=true")
        table = (results / "tables/main.md").read_text()
        assert "–" in table.split("| reptile")[1].splitlines()[0]
        assert "1 of 4 runs" in table
    finally:
        for number, path in enumerate(lost):
            (tmp_path / str(number)).rename(path)
        finished.snakemake()
    assert finished.planned() == {}
    assert "runs are missing" not in (results / "tables/main.md").read_text()


def test_the_same_spec_gives_the_same_predictions_and_history(finished):
    run = finished.run("reptile")

    def content():
        lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        return (run / "predictions.parquet").read_bytes(), [{**line, "seconds": None} for line in lines]

    before = content()
    finished.snakemake("--force", str((run / "run.json").relative_to(finished.folder)))
    assert content() == before
    finished.snakemake()
