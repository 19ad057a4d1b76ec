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

from rkd import runtime, verify
from rkd.code_inputs import code_digests
from rkd.errors import RkdError
from tests.conftest import ROOT

RUNS = {"teacher": "teachers/cola/seed-1", "kd": "students/cola/kd/seed-1", "reptile": "students/cola/reptile/seed-1"}
SPEC = {
    "tasks": ["cola"],
    "variants": [{"name": name, "method": name, "label": name} for name in ("kd", "reptile")],
    "seeds": [1],
    "synthetic": True,
    "teacher_model": "big",
    "student_model": "small",
    "selection": {"teacher": "best", "student": "best"},
}


def script(folder: Path, name: str, *arguments: str) -> None:
    command = [sys.executable, str(ROOT / "workflow_scripts" / name), *arguments]
    subprocess.run(command, cwd=folder, check=True)


def write_run(folder: Path, variant: str, seed: int, task: str = "cola") -> None:
    """A run as training leaves it, with random predictions."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"split": "validation", "idx": range(40), "label": rng.integers(0, 2, 40).astype(float)})
    frame["prediction"] = np.where(rng.random(40) < 0.8, frame["label"], 1 - frame["label"])
    frame.to_parquet(folder / "predictions.parquet", index=False)
    (folder / "history.jsonl").write_text('{"epoch": 1}\n')
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(bytes(100))
    method = "finetune" if variant == "teacher" else variant
    runtime.write_json(
        folder / "run.json",
        {
            "spec": {"task": task, "variant": variant, "method": method, "seed": 1},
            "data": {"sha256": "d" * 64, "files": {}},
            "code": code_digests("workflow_scripts/train.py", f"rkd.methods.{method}"),
            "outputs": runtime.digests(folder, "model", "predictions.parquet", "history.jsonl"),
            "packages": {"numpy": np.__version__},
        },
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of a teacher and two students, with metrics and the main table by the workflow's scripts."""
    folder = tmp_path_factory.mktemp("project")
    for number, (variant, place) in enumerate(RUNS.items()):
        write_run(folder / "results" / place, variant, number)
        spec = {"task": "cola", "variant": variant, "method": variant, "seed": 1, "synthetic": True}
        (folder / "results/metrics/cola" / variant).mkdir(parents=True)
        predictions, out = f"results/{place}/predictions.parquet", f"results/metrics/cola/{variant}/seed-1.json"
        script(folder, "compute_metrics.py", "--spec", json.dumps(spec), "--predictions", predictions, "--out", out)
    metrics = [f"results/metrics/cola/{variant}/seed-1.json" for variant in RUNS]
    script(folder, "make_table.py", "--spec", json.dumps(SPEC), "--out-dir", "results/tables", "--metrics", *metrics)
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to tamper with, in the working directory."""
    shutil.copytree(made / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    verify._sha256.cache_clear()
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
    assert checked.counts == {"runs": 3, "metrics files": 3, "tables": 1}
    assert checked.findings == ()
    assert str(checked) == "verified 3 runs, 3 metrics files, 1 tables: no mismatch"


def test_a_results_folder_of_another_name_elsewhere(results: Path) -> None:
    results.rename("copied")
    assert verify.verify([Path("copied")]).findings == ()


def test_a_task_of_ones_own(results: Path) -> None:
    own = {"text": ["a"], "label": "b", "labels": ["no", "yes"], "metrics": ["accuracy", "f1"], "headline": ["f1"]}
    definition = {**own, "test": False, "title": "Mine"}
    spec = {"task": "mine", "variant": "kd", "method": "kd", "seed": 1, "synthetic": False, "own_task": definition}
    run, out = results / "students/mine/kd/seed-1", results / "metrics/mine/kd/seed-1.json"
    write_run(run, "kd", 5, task="mine")
    out.parent.mkdir(parents=True)
    predictions = str(run / "predictions.parquet")
    script(Path(), "compute_metrics.py", "--spec", json.dumps(spec), "--predictions", predictions, "--out", str(out))
    assert verify.verify([run, out]).findings == ()
    edited_json(out, lambda content: content["splits"]["validation"].update(f1=0.999))
    assert "splits.validation.f1: found 0.999" in str(verify.verify([out]))


def flip_prediction(path: Path) -> None:
    frame = pd.read_parquet(path)
    frame.loc[0, "prediction"] = 1 - frame.loc[0, "prediction"]
    frame.to_parquet(path, index=False)


def first_number(results: Path) -> str:
    return (results / "tables/main.csv").read_text().splitlines()[1].split(",")[4]


KD = "students/cola/kd/seed-1"
# What is tampered with, the files that must be told, and a part of what is said.
TAMPERED: dict[str, tuple[Callable[[Path], Any], set[str], str]] = {
    "prediction": (
        lambda results: flip_prediction(results / KD / "predictions.parquet"),
        {f"{KD}/predictions.parquet", "metrics/cola/kd/seed-1.json"},
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
        lambda results: edited_json(
            results / "metrics/cola/kd/seed-1.json", lambda content: content.update(headline=0.999)
        ),
        {"metrics/cola/kd/seed-1.json"},
        "headline: found 0.999; its predictions give 0.",
    ),
    "nested metric": (
        lambda results: edited_json(
            results / "metrics/cola/kd/seed-1.json",
            lambda content: content["splits"]["validation"].update(matthews_correlation=0.999),
        ),
        {"metrics/cola/kd/seed-1.json"},
        "splits.validation.matthews_correlation: found 0.999; its predictions give 0.",
    ),
    "row of the metrics": (
        lambda results: edited_json(
            results / "metrics/cola/kd/seed-1.json", lambda content: content.update(variant="reptile")
        ),
        {"metrics/cola/kd/seed-1.json"},
        'variant: found "reptile"; its predictions give "kd"',
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
        lambda results: replaced(results / "tables/main.csv", first_number(results), "99.9"),
        {"tables/main.csv"},
        "line 2, mean: found 99.9; its sources give",
    ),
    "row of the CSV": (
        lambda results: (results / "tables/main.csv").write_text(
            "".join((results / "tables/main.csv").read_text().splitlines(keepends=True)[:-1])
        ),
        {"tables/main.csv"},
        "found nothing; its sources give",
    ),
    "cell of the Markdown": (
        lambda results: replaced(results / "tables/main.md", f"{float(first_number(results)):.1f}", "99.9"),
        {"tables/main.md"},
        "its sources give",
    ),
    "cell of the LaTeX": (
        lambda results: replaced(results / "tables/main.tex", f"{float(first_number(results)):.1f}", "99.9"),
        {"tables/main.tex"},
        "its sources give",
    ),
    "cell of the sidecar": (
        lambda results: edited_json(
            results / "tables/main.json", lambda content: content["cells"][0].update(mean=99.9)
        ),
        {"tables/main.json"},
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
    out = str(results / "metrics/cola/kd/seed-1.json")
    predictions = str(results / KD / "predictions.parquet")
    script(Path(), "compute_metrics.py", "--spec", json.dumps(spec), "--predictions", predictions, "--out", out)
    found = {finding.file for finding in verify.verify([results / KD, results / "metrics"]).mismatches}
    assert found == {f"results/{KD}/predictions.parquet", "results/metrics/cola/kd/seed-1.json"}


def test_without_predictions_a_tampered_metric_is_found_by_its_table(results: Path) -> None:
    """As in published results, which leave the predictions out."""
    (results / KD / "predictions.parquet").unlink()
    edited_json(results / "metrics/cola/kd/seed-1.json", lambda content: content.update(headline=0.999))
    checked = verify.verify([results])
    assert [finding.file for finding in checked.mismatches] == ["results/metrics/cola/kd/seed-1.json"]
    assert "main.json, made from it, recorded" in str(checked)
    assert "not checked: results/students/cola/kd/seed-1/predictions.parquet (and 1 more): is not there" in str(checked)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        (KD, (1, 0, 0)),
        (f"{KD}/predictions.parquet", (1, 0, 0)),
        (f"{KD}/model/model.safetensors", (1, 0, 0)),
        ("students", (2, 0, 0)),
        ("metrics/cola", (0, 3, 0)),
        ("metrics/cola/kd/seed-1.json", (0, 1, 0)),
        ("tables/main.tex", (0, 0, 1)),
        ("tables", (0, 0, 1)),
    ],
)
def test_a_part_of_the_results(results: Path, path: str, counts: tuple[int, int, int]) -> None:
    checked = verify.verify([results / path])
    assert tuple(checked.counts.values()) == counts
    assert checked.findings == ()


def test_what_has_changed_since_is_told_and_no_mismatch(results: Path) -> None:
    def age(content: dict[str, Any]) -> None:
        content["code"]["rkd/losses.py"] = "0" * 12
        content["packages"]["numpy"] = "1.0"
        content["data"]["files"] = {"dataset/x.arrow": "0" * 64}
        content["teacher"] = {"model.safetensors": "0" * 64}

    edited_json(results / KD / "run.json", age)
    (results / "data/cola/dataset").mkdir(parents=True)
    (results / "data/cola/dataset/x.arrow").touch()
    (results / "data/cola/manifest.json").write_text('{"sha256": "other"}')
    checked = verify.verify([results / KD])
    assert checked.mismatches == []
    told = str(checked)
    for part in (
        "changed since: results/students/cola/kd/seed-1/run.json: code: rkd/losses.py",
        f"package numpy: {np.__version__} is installed, the run had 1.0",
        "results/data/cola/dataset/x.arrow: sha256 is e3b0c442",
        "data: the manifest's sha256 is other",
        "results/teachers/cola/seed-1/model/model.safetensors: sha256 is",
    ):
        assert part in told


def test_only_the_workflows_own_scripts_are_run(results: Path) -> None:
    touched = Path("touched").absolute()
    Path("make_evil.py").write_text(f"open({str(touched)!r}, 'w')")
    for name in ("make_evil.py", "workflow_scripts/../make_evil.py", str(Path("make_evil.py").absolute())):
        edited_json(
            results / "tables/main.json",
            lambda content, name=name: content["origin"].update(command=[name, "--out-dir", "x"]),
        )
        [finding] = verify.verify([results / "tables"]).mismatches
        assert "is no sidecar of a table" in finding.text
    assert not touched.exists()


def test_a_table_is_made_in_no_other_folder_than_verifys_own(results: Path) -> None:
    def redirected(content: dict) -> None:
        content["origin"]["command"] += ["--out-dir", str(Path("elsewhere").absolute())]

    edited_json(results / "tables/main.json", redirected)
    assert not verify.verify([results / "tables"]).mismatches
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
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    whole = run()
    assert (whole.returncode, whole.stderr) == (0, "")
    assert whole.stdout == "verified 3 runs, 3 metrics files, 1 tables: no mismatch\n"
    replaced(results / "tables/main.csv", first_number(results), "99.9")
    tampered = run("results/tables")
    assert tampered.returncode == 1
    assert "does not match: results/tables/main.csv: line 2, mean: found 99.9" in tampered.stdout
    missing = run("nowhere")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: nowhere: does not exist")


def test_verification_loads_no_torch() -> None:
    code = "import sys, rkd.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
