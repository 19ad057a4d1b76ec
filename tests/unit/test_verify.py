"""Verification of results: what is whole passes, and a tampered file is found, whichever it is."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rkd import verify
from rkd.errors import RkdError
from rkd.verify.earlier import current_command
from tests.helpers import ROOT, TIMEOUT, results_tree
from tests.helpers.results_tree import DATA, KD, KD_METRICS, TEACHER, script

COUNTS = {
    "runs": 3,
    "metrics files": 3,
    "prepared tasks": 1,
    "tables": 2,
    "figures": 1,
    "pages": 1,
    "distillations": 0,
}
WHOLE = "verified 3 runs, 3 metrics files, 1 prepared task, 2 tables, 1 figure, 1 page: no mismatch"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a teacher and two students, with metrics, tables, a figure and the page by the workflow's scripts."""
    folder = tmp_path_factory.mktemp("project")
    results_tree.build(folder)
    return folder


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> results_tree.InProcess:
    return results_tree.InProcess(tmp_path_factory.mktemp("made"))


@pytest.fixture
def results(made: Path, tmp_path: Path, in_process: results_tree.InProcess, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to tamper with, in the working directory; tables are made again in this process."""
    monkeypatch.setattr("rkd.verify.made._run", in_process)
    shutil.copytree(made / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return Path("results")


def edited_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_whole_results_have_no_mismatch(results: Path) -> None:
    checked = verify.verify([results])
    assert checked.findings == ()
    assert checked.counts == COUNTS
    assert str(checked) == WHOLE


def test_a_results_folder_of_another_name_elsewhere(results: Path) -> None:
    results.rename("copied")
    assert verify.verify([Path("copied")]).findings == ()


def test_a_task_of_ones_own(results: Path) -> None:
    own = {
        "text": ["a"],
        "label": "b",
        "labels": ["no", "yes"],
        "metrics": ["accuracy", "f1"],
        "primary_metrics": ["f1"],
    }
    definition = {**own, "test": False, "title": "Mine"}
    spec = {"task": "mine", "variant": "kd", "method": "kd", "seed": 1, "synthetic": False, "custom_task": definition}
    run, out = results / "students/mine/kd/seed-1", results / "metrics/mine/kd/seed-1.json"
    run.parent.mkdir(parents=True)
    shutil.move(results / KD, run)
    trained = {key: value for key, value in definition.items() if key != "title"}
    edited_json(
        run / "run.json", lambda record: record["spec"].update(task="mine", custom_task={**trained, "metrics": ["f1"]})
    )
    edited_json(run / "run.json", lambda record: record.update(teacher={}))
    edited_json(run / "run.json", lambda record: record["data"].update(source="files", files={}))
    out.parent.mkdir(parents=True)
    predictions = str(run / "predictions.parquet")
    script("compute_metrics.py", "--spec", json.dumps(spec), "--predictions", predictions, "--out", str(out))
    assert verify.verify([run, out]).findings == ()
    edited_json(out, lambda content: content["splits"]["validation"].update(f1=0.999))
    assert "splits.validation.f1: found 0.999" in str(verify.verify([out]))


def flip_prediction(path: Path) -> None:
    frame = pd.read_parquet(path)
    frame.loc[0, "prediction"] = 1 - frame.loc[0, "prediction"]
    frame.to_parquet(path, index=False)


def first_number(results: Path) -> str:
    return (results / "demo/tables/main.csv").read_text().splitlines()[1].split(",")[4]


# What is tampered with, the files that must be told, and a part of what is said.
TAMPERED: dict[str, tuple[Callable[[Path], Any], set[str], str]] = {
    "prediction": (
        lambda results: flip_prediction(results / KD / "predictions.parquet"),
        {f"{KD}/predictions.parquet", KD_METRICS},
        "run.json recorded",
    ),
    "history": (
        lambda results: replaced(results / KD / "history.jsonl", "1", "2"),
        {f"{KD}/history.jsonl"},
        "run.json recorded",
    ),
    "weights": (
        lambda results: (results / KD / "model/model.safetensors").write_bytes(b"\1" + bytes(99)),
        {f"{KD}/model/model.safetensors"},
        "run.json recorded",
    ),
    "metric": (
        lambda results: edited_json(results / KD_METRICS, lambda content: content.update(primary_score=0.999)),
        {KD_METRICS},
        "primary_score: found 0.999; its predictions give 0.",
    ),
    "nested metric": (
        lambda results: edited_json(
            results / KD_METRICS,
            lambda content: content["splits"]["validation"].update(matthews_correlation=0.999),
        ),
        {KD_METRICS},
        "splits.validation.matthews_correlation: found 0.999; its predictions give 0.",
    ),
    "row of the metrics": (
        lambda results: edited_json(results / KD_METRICS, lambda content: content.update(variant="reptile")),
        {KD_METRICS},
        'variant: found "reptile"; its run has "kd"',
    ),
    "spec": (
        lambda results: edited_json(results / KD / "run.json", lambda content: content["spec"].update(seed=2)),
        {f"{KD}/run.json"},
        "its spec has seed 2, its folder 1",
    ),
    "no record": (
        lambda results: (results / KD / "run.json").write_text("[]"),
        {f"{KD}/run.json"},
        "is no run record",
    ),
    "outputs of another kind": (
        lambda results: edited_json(results / KD / "run.json", lambda content: content.update(outputs=[1], data="x")),
        {f"{KD}/run.json"},
        "is no record as this project writes them",
    ),
    "cell of the CSV": (
        lambda results: replaced(results / "demo/tables/main.csv", first_number(results), "99.9"),
        {"demo/tables/main.csv"},
        "line 2, mean: found 99.9; its sources give",
    ),
    "row of the CSV": (
        lambda results: (results / "demo/tables/main.csv").write_text(
            "".join((results / "demo/tables/main.csv").read_text().splitlines(keepends=True)[:-1])
        ),
        {"demo/tables/main.csv"},
        "found nothing; its sources give",
    ),
    "cell of the Markdown": (
        lambda results: replaced(results / "demo/tables/main.md", f"{float(first_number(results)):.1f}", "99.9"),
        {"demo/tables/main.md"},
        "its sources give",
    ),
    "cell of the LaTeX": (
        lambda results: replaced(results / "demo/tables/main.tex", f"{float(first_number(results)):.1f}", "99.9"),
        {"demo/tables/main.tex"},
        "its sources give",
    ),
    "cell of the sidecar": (
        lambda results: edited_json(
            results / "demo/tables/main.json", lambda content: content["cells"][0].update(mean=99.9)
        ),
        {"demo/tables/main.json"},
        "cells.0.mean: found 99.9; its sources give",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_found(results: Path, what: str) -> None:
    tamper, files, told = TAMPERED[what]
    tamper(results)
    checked = verify.verify([results / file for file in files])
    assert files <= {finding.file.removeprefix("results/") for finding in checked.mismatches}
    assert told in str(checked)


def test_who_changes_predictions_metrics_and_table_alike_is_found_by_the_run(results: Path) -> None:
    flip_prediction(results / KD / "predictions.parquet")
    spec = {"task": "cola", "variant": "kd", "method": "kd", "seed": 1, "synthetic": True}
    out = str(results / KD_METRICS)
    predictions = str(results / KD / "predictions.parquet")
    script("compute_metrics.py", "--spec", json.dumps(spec), "--predictions", predictions, "--out", out)
    shutil.rmtree("results/demo/tables")
    shutil.rmtree("results/demo/figures")
    shutil.rmtree("results/demo/report")
    found = {finding.file for finding in verify.verify([results / KD, results / "demo/metrics"]).mismatches}
    assert found == {f"results/{KD}/predictions.parquet", f"results/{KD_METRICS}"}


def test_without_predictions_a_tampered_metric_is_found_by_its_table(results: Path) -> None:
    """As in published results, which leave the predictions out."""
    (results / KD / "predictions.parquet").unlink()
    edited_json(results / KD_METRICS, lambda content: content.update(primary_score=0.999))
    checked = verify.verify([results])
    assert {finding.file for finding in checked.mismatches} == {f"results/{KD_METRICS}"}
    assert "main.json, made from it, recorded" in str(checked)
    assert f"not checked: results/{KD}/predictions.parquet: is not there" in str(checked)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        (KD, {"runs": 1}),
        (f"{KD}/predictions.parquet", {"runs": 1}),
        (f"{KD}/model/model.safetensors", {"runs": 1}),
        ("runs", {"runs": 3}),
        ("demo/metrics/cola", {"metrics files": 3}),
        (KD_METRICS, {"metrics files": 1}),
        ("data", {"prepared tasks": 1}),
        ("demo/tables/main.tex", {"tables": 1}),
        ("demo/tables", {"tables": 2}),
        ("demo/figures/learning_curves.png", {"figures": 1}),
        ("demo/report/index.html", {"pages": 1}),
    ],
)
def test_a_part_of_the_results(results: Path, path: str, counts: dict[str, int]) -> None:
    checked = verify.verify([results / path])
    assert {kind: count for kind, count in checked.counts.items() if count} == counts
    assert checked.findings == ()


def test_what_has_changed_since_is_told_and_no_mismatch(results: Path) -> None:
    def age(content: dict[str, Any]) -> None:
        content["code"]["rkd/losses.py"] = "0" * 12
        content["packages"]["numpy"] = "1.0"
        content["data"]["files"] = {"dataset/x.arrow": "0" * 64}
        content["teacher"] = {"model.safetensors": "0" * 64}

    edited_json(results / KD / "run.json", age)
    (results / f"{DATA}/dataset/x.arrow").touch()
    (results / f"{DATA}/manifest.json").write_text('{"sha256": "other"}')
    for folder in ("demo/tables", "demo/report"):  # which were made from the run
        shutil.rmtree(results / folder)
    checked = verify.verify([results / KD])
    assert checked.mismatches == []
    told = str(checked)
    for part in (
        f"changed since: results/{KD}/run.json: code: rkd/losses.py",
        f"package numpy: {np.__version__} is installed, the run had 1.0",
        f"results/{DATA}/dataset/x.arrow: sha256 is e3b0c442",
        "data: the manifest's sha256 is other",
        f"results/{TEACHER}/model/model.safetensors: sha256 is",
    ):
        assert part in told


def test_only_the_workflows_own_scripts_are_run(results: Path) -> None:
    touched = Path("touched").absolute()
    Path("make_evil.py").write_text(f"open({str(touched)!r}, 'w')")
    for name in ("make_evil.py", "workflow_scripts/../make_evil.py", str(Path("make_evil.py").absolute())):
        edited_json(
            results / "demo/tables/main.json",
            lambda content, name=name: content["origin"].update(command=[name, "--out-dir", "x"]),
        )
        assert "demo/tables/main.json: is no record" in str(verify.verify([results / "demo/tables"]))
    assert not touched.exists()


def test_a_table_is_made_in_no_other_folder_than_verifys_own(results: Path) -> None:
    def redirected(content: dict) -> None:
        content["origin"]["command"] += ["--out-dir", str(Path("elsewhere").absolute())]

    edited_json(results / "demo/tables/main.json", redirected)
    assert "main.json: its command writes to results/demo/tables" not in str(verify.verify([results / "demo/tables"]))
    assert not Path("elsewhere").exists()


def test_what_cannot_be_verified_is_an_error(results: Path) -> None:
    with pytest.raises(RkdError, match="nowhere: does not exist; expected a results folder"):
        verify.verify([Path("nowhere")])
    Path("empty").mkdir()
    with pytest.raises(RkdError, match="empty: nothing there can be verified"):
        verify.verify([Path("empty")])


def test_the_command_and_its_exit_codes(results: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rkd", "verify", *arguments]
        environment = {"PATH": "", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=TIMEOUT)

    whole = run()
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout == f"{WHOLE}\n"
    replaced(results / "demo/tables/main.csv", first_number(results), "99.9")
    tampered = run("results/demo/tables/main.json")
    assert tampered.returncode == 1
    assert "does not match: results/demo/tables/main.csv: line 2, mean: found 99.9" in tampered.stdout
    missing = run("nowhere")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: nowhere: does not exist")


def test_verification_loads_no_torch() -> None:
    code = "import sys, rkd.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=TIMEOUT).returncode == 0


def test_commands_of_earlier_versions_are_read_as_todays():
    """The axes of ablation were an option of their own, and two scripts had other names."""
    old, new = (f"workflow_scripts/plot_{name}.py" for name in ("cost", "score_vs_cost"))
    assert current_command([old, "--out", "x"]) == current_command([new, "--out", "x"]) == [new, "--out", "x"]
    axes = [{"axis": "heat", "value": 5, "variant": "hot"}, {"axis": "heat", "value": 1.0, "variant": "kd"}]
    axes.append({"axis": "map", "value": "skip", "variant": "kd", "tasks": ["rte"]})
    script = "workflow_scripts/plot_ablation.py"

    def command(axis, cells=None):
        return [
            script,
            "--spec",
            '{"tasks":["cola","rte"]}',
            "--ablations",
            cells or json.dumps(axes),
            "--axis",
            axis,
            "--out",
            "x",
        ]

    words = current_command(command("heat"))
    assert (words[:2], words[3:]) == ([script, "--spec"], ["--out", "x"])
    heat = {"name": "heat", "tasks": ["cola", "rte"], "values": [[1.0, "kd"], [5, "hot"]]}
    assert json.loads(words[2]) == {"tasks": ["cola", "rte"], "axis": heat}
    assert json.loads(current_command(command("map"))[2])["axis"]["tasks"] == ["rte"]
    for damaged in (command("none"), command("heat", "{"), command("heat", "[5]")):
        assert current_command(damaged) == damaged
