"""The command `rkd`: what it does, prints and refuses."""

import importlib.metadata
import json
import os
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from transformers import pipeline

from rkd.cli import main
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.distillation import reviews

MODELS = ROOT / "configs" / "models"


def run(*arguments: str) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as end:
        main(list(map(str, arguments)))
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with files of reviews and a finished distillation of them."""
    folder = tmp_path_factory.mktemp("project")
    reviews(96).to_csv(folder / "train.csv", index=False)
    reviews(20, 1).to_csv(folder / "dev.csv", index=False)
    code = run(*distill_arguments(folder))
    assert code == 0
    return folder


def distill_arguments(folder, **changes):
    options = {
        "--data": folder / "train.csv",
        "--dev": folder / "dev.csv",
        "--teacher": MODELS / "bert-4x128.json",
        "--student": MODELS / "bert-2x128.json",
        "--text": "text",
        "--label": "mood",
        "--method": "kd",
        "--out": folder / "out",
        "--device": "cpu",
        "--threads": 1,
        "--vocab-size": 200,
        "--teacher-setting": "learning_rate=5e-4",
        **changes,
    }
    pairs = [part for option, value in options.items() for part in (option, value)]
    return ["distill", "-o", "alpha=0.7", "-s", "epochs=1", "-s", "learning_rate=1e-3", "-s", "batch_size=16", *pairs]


def test_distill_keeps_its_settings_and_says_its_scores(project, capsys):
    assert run(*distill_arguments(project), "--json") == 0  # finished already
    found = json.loads(capsys.readouterr().out)
    record = json.loads((project / "out/student/run.json").read_text())
    assert record["spec"]["options"] == {"alpha": 0.7, "temperature": 5.0, "regression_kd": "mse"}
    assert record["spec"]["training"]["learning_rate"] == 1e-3
    teacher = json.loads((project / "out/teacher/run.json").read_text())
    assert teacher["spec"]["training"]["learning_rate"] == 5e-4
    frame = pd.read_parquet(project / "out/student/predictions.parquet")
    assert found["splits"]["validation"]["accuracy"] == np.mean(frame["label"] == frame["prediction"])


def test_predict_and_evaluate_agree_with_the_run(project, capsys):
    run_folder, dev = project / "out/student", project / "dev.csv"
    assert run("predict", run_folder, dev, "--device", "cpu", "--out", project / "answers.jsonl") == 0
    answers = pd.read_json(project / "answers.jsonl", lines=True)
    assert np.allclose(answers["p_bad"] + answers["p_good"], 1)
    frame = pd.read_parquet(run_folder / "predictions.parquet").sort_values("idx")
    assert list(answers["prediction"]) == [["bad", "good"][int(index)] for index in frame["prediction"]]
    capsys.readouterr()
    assert run("evaluate", run_folder, dev, "--device", "cpu", "--metric", "accuracy", "--metric", "f1", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == np.mean(answers["prediction"] == reviews(20, 1)["mood"])
    assert set(found) == {"accuracy", "f1", "rows", "classes", "confusion"}
    assert [one["support"] for one in found["classes"]] == [sum(line) for line in found["confusion"]]
    assert sum(map(sum, found["confusion"])) == 20
    assert run("evaluate", run_folder, dev, "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["label", "rows", "precision", "recall", "F1"]
    assert [line.split()[0] for line in (*lines[2:4], *lines[5:])] == ["bad", "good"] * 2


def test_predict_prints_csv_or_json(project, capsys):
    assert run("predict", project / "out/student/model", project / "dev.csv", "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "text,mood,prediction,p_bad,p_good"
    assert len(lines) == 21
    only = ("--device", "cpu", "--predictions-only")
    assert run("predict", project / "out/student/model", project / "dev.csv", *only) == 0
    assert capsys.readouterr().out.splitlines()[0] == "prediction,p_bad,p_good"
    assert run("predict", project / "out/student", project / "dev.csv", "--device", "cpu", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 20


def test_predict_keeps_the_columns_and_never_writes_over_its_input(project, capsys):
    rows = '{"text": "a good film", "id": 7, "when": null}\n{"text": "bad", "tags": ["a", "b"], "id": 2.5}\n'
    data, run_folder = project / "rows.jsonl", project / "out/student"
    data.write_text(rows)
    for name in ("answers.jsonl", "answers.csv", "answers.parquet"):
        assert run("predict", run_folder, data, "--device", "cpu", "--out", project / name) == 0
    first, second = map(json.loads, (project / "answers.jsonl").read_text().splitlines())
    assert list(first) == ["text", "id", "when", "tags", "prediction", "p_bad", "p_good"]
    assert (first["id"], second["id"], first["tags"], second["tags"]) == (7, 2.5, None, ["a", "b"])
    frame = pd.read_csv(project / "answers.csv")
    assert list(frame["tags"].fillna("")) == ["", '["a", "b"]']
    assert list(pd.read_parquet(project / "answers.parquet")["id"]) == [7, 2.5]
    capsys.readouterr()
    assert run("predict", run_folder, data, "--device", "cpu", "--out", data) == 2
    assert "which is DATA; expected another place" in capsys.readouterr().err
    assert data.read_text() == rows
    assert run("predict", run_folder, project / "answers.csv", "--device", "cpu") == 2
    assert "found a column 'prediction', which predictions have, too" in capsys.readouterr().err
    assert run("predict", run_folder, project / "answers.csv", "--device", "cpu", "--predictions-only") == 0


def test_predict_from_parquet_to_parquet_keeps_types(project):
    types = {"big": pyarrow.uint64(), "when": pyarrow.timestamp("ns"), "price": pyarrow.decimal128(30, 2)}
    values = {"big": [2**64 - 1], "when": [1577836800123456789], "price": [Decimal("1.50")], "raw": [b"\xff"]}
    table = pyarrow.table({"text": ["a good film"], **{k: pyarrow.array(v, types.get(k)) for k, v in values.items()}})
    pyarrow.parquet.write_table(table, project / "typed.parquet")
    arguments = ("predict", project / "out/student", project / "typed.parquet", "--device", "cpu", "--out")
    assert run(*arguments, project / "typed-answers.parquet") == 0
    found = pyarrow.parquet.read_table(project / "typed-answers.parquet")
    assert found.select(table.column_names).equals(table)
    assert found.column_names[5:] == ["prediction", "p_bad", "p_good"]
    assert run(*arguments, project / "typed-answers.csv") == 2  # bytes are no text


def test_what_is_printed_is_what_is_written(project, capsys):
    data = project / "nested.jsonl"
    data.write_text('{"text": "bad", "tags": {"a": [1, null]}, "none": null}\n')
    arguments = ("predict", project / "out/student", data, "--device", "cpu")
    assert run(*arguments, "--out", project / "nested.csv") == 0
    capsys.readouterr()
    assert run(*arguments) == 0
    assert capsys.readouterr().out == (project / "nested.csv").read_text()


def test_finetune_needs_no_teacher(project, capsys):
    arguments = distill_arguments(project, **{"--method": "finetune", "--out": project / "alone"})
    place = arguments.index("--teacher")
    alone = [each for each in arguments if not str(each).startswith("alpha")]
    alone.remove("-o")
    place = alone.index("--teacher")
    del alone[place : place + 2]
    place = alone.index("--teacher-setting")
    without = alone[:place] + alone[place + 2 :]
    assert run(*without, "--json") == 0
    assert "teacher" not in json.loads(capsys.readouterr().out)
    assert json.loads((project / "alone/student/run.json").read_text())["teacher"] is None
    assert run(*alone) == 2
    assert "--teacher: found none; expected a model to fine-tune, or no --finetune-teacher" in capsys.readouterr().err
    kd = [*without, "--method", "kd"]
    assert run(*kd) == 2
    assert "--teacher: found none; expected a fine-tuned classifier, or --finetune-teacher" in capsys.readouterr().err
    assert run(*without, "--student", "teacher-layers:1") == 2
    assert "method finetune has no teacher" in capsys.readouterr().err


def test_export_opens_in_a_pipeline_and_is_read_by_evaluate(project, capsys):
    assert run("export", project / "out/student", project / "export", "--json") == 0
    assert "README.md" in json.loads(capsys.readouterr().out)["files"]
    classify = pipeline("text-classification", model=str(project / "export"), device="cpu")
    assert classify("a good film")[0]["label"] in ("bad", "good")
    arguments = ("evaluate", project / "export", project / "dev.csv", "--device", "cpu", "--json")
    assert run(*arguments, "--text", "text", "--label", "mood") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 20
    assert run(*arguments) == 2
    assert "text: found no column" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["distill", "--data", "x.csv"], "Missing option '--student'."),
        (["predict", "nowhere/x", "x.csv", "--text", "a"], "nowhere/x@main: "),
        (["predict", "nowhere/x", "y.csv", "--text", "a"], "DATA: found 'y.csv'; expected a .csv, .tsv, .jsonl or"),
        (["export", "nowhere", "out"], "nowhere: no finished run"),
        (["verify", "nowhere"], "nowhere: does not exist"),
        (["distil"], "No such command 'distil'."),
    ],
)
def test_errors_are_one_line_and_exit_code_2(arguments, error, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("a\ngood\n")
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {error}")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"--option": "beta=1"}, "--option: found beta, which method kd does not read"),
        ({"--option": "alpha"}, "--option: found 'alpha'; expected KEY=VALUE"),
        ({"--setting": "epochs=none"}, "--setting epochs: found 'none' (text); expected a whole number"),
        ({"--scores": "low"}, "--scores: found 'low'; expected LOW,HIGH or any"),
        (
            {"--data": "nowhere.csv"},
            "--data: found 'nowhere.csv'; expected a .csv, .tsv, .jsonl or .parquet file; there is nothing at this",
        ),
        ({"--label": "moods"}, "column 'moods' is missing; found 'text', 'mood'"),
    ],
)
def test_errors_of_distill(changes, error, project, capsys, tmp_path):
    arguments = distill_arguments(project, **{"--out": tmp_path, **changes})
    assert run(*arguments) == 2
    assert error in capsys.readouterr().err.splitlines()[-1]


def test_a_setting_that_is_an_option_is_told(project, capsys):
    assert run(*distill_arguments(project), "-s", "seed=2") == 2
    assert "--setting: found seed, which is an option of its own" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["distill", "predict", "evaluate", "export", "plan", "verify"])
def test_help_has_examples(command, capsys):
    assert run(command, "--help") == 0
    told = capsys.readouterr().out
    assert f"rkd {command} " in told.split("Examples:")[1]


def test_help_and_completion_are_quick():
    code = (
        "import sys; from rkd.cli import main\ntry: main(['distill', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, timeout=TIMEOUT)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell):
    environment = {**os.environ, "_RKD_COMPLETE": f"complete_{shell}", "COMP_WORDS": "rkd ex", "COMP_CWORD": "1"}
    environment |= {"_TYPER_COMPLETE_ARGS": "rkd ex", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    code = "from rkd.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert "export" in found.stdout, found.stderr


def test_python_m_rkd_is_the_same_command():
    found = subprocess.run(
        [sys.executable, "-m", "rkd", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    assert "distill" in found.stdout
    [entry_point] = importlib.metadata.EntryPoints(
        [importlib.metadata.EntryPoint("rkd", "rkd.cli:main", "console_scripts")]
    )
    assert entry_point.load() is main
    assert 'rkd = "rkd.cli:main"' in (ROOT / "pyproject.toml").read_text()
