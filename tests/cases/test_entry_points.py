"""Every command and script, with odd arguments, damaged folders and full disks: one line that names the thing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import pandas as pd
import pytest
import torch

import rkd
from rkd.errors import RkdError
from rkd.export import export
from rkd.inference import Classifier, write_table
from rkd.runs.result import read_result
from rkd.utils.option_values import labels_of
from rkd.utils.script import run_script
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.commands import SCRIPTS, Ends, check_one_error, distill_arguments
from tests.helpers.distillation import TINY, reviews


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a finished distillation in out/, and labelled rows in dev.csv; no test may change it."""
    folder = tmp_path_factory.mktemp("project")
    reviews(20, 1).to_csv(folder / "dev.csv", index=False)
    rkd.distill(reviews(40), dev=reviews(20, 1), out=folder / "out", **TINY)
    return folder


@pytest.fixture
def run_folder(project, tmp_path):
    """A copy of the finished run, to be damaged."""
    return Path(shutil.copytree(project / "out/student", tmp_path / "run"))


@pytest.fixture
def ends(capsys):
    return Ends(capsys)


ODD = [
    ({"--seed": -1}, "--seed: found -1; expected a whole number from 0 to 4294967295"),
    ({"--seed": 10**23}, "--seed: found 100000000000000000000000; expected a whole number"),
    ({"--seed": "1.5"}, "Invalid value for '--seed'"),
    ({"--threads": 0}, "--threads: found 0; expected a whole number from 1 to 4096"),
    ({"--threads": -1}, "--threads: found -1; expected"),
    ({"--max-length": 0}, "--max-length: found 0; expected a whole number from 8"),
    ({"--vocab-size": -5}, "--vocab-size: found -5; expected a whole number from 100"),
    ({"--device": "tpu"}, "--device: found 'tpu' (text); expected one of auto, cpu, cuda"),
    ({"--method": "kdd"}, "--method: found 'kdd'; expected one of"),
    ({"--metric": "pearson"}, "--metric: found 'pearson' (text); expected one of accuracy, f1"),
    ({"--metric": "speed"}, "--metric: found 'speed' (text); expected one of accuracy, f1"),
    ({"--scores": "5,1"}, "--scores: found [5.0, 1.0]; expected a lowest score below the highest"),
    ({"--scores": "1,nan"}, "--scores: found nan; expected a number"),
    ({"--labels": "good"}, "--labels: found ['good']; expected a list of at least two labels"),
    ({"--labels": "good,,bad"}, "--labels: found the blank label ''; expected a name"),
    ({"--labels": "good,good"}, "--labels: found 'good' and 'good', which are one label; expected different ones"),
    ({"--labels": 'good,"bad'}, "--labels: found 'good,\"bad'; expected labels separated by commas"),
    ({"--text": "mood"}, "--label: found 'mood'; expected another column than those of text"),
    ({"--option": "alpha=2"}, "--option alpha: found 2; expected a number from 0 to 1"),
    ({"--option": "beta=2"}, "--option: found beta, which method reptile does not read"),
    ({"--setting": "epochs=0"}, "--setting epochs: found 0; expected a whole number from 1"),
    ({"--setting": "gradient_accumulation=3"}, "--setting gradient_accumulation: found 3; expected a divisor of batch"),
    ({"--setting": "alpha=1"}, "--setting: found the unknown alpha (give it in --option); expected some of"),
    ({"--setting": "epoch=1"}, "--setting: found the unknown epoch (did you mean epochs?)"),
    ({"--teacher-setting": "epochs=x"}, "--teacher-setting epochs: found 'x' (text); expected a whole number"),
    ({"--teacher": "no/such/folder"}, "--teacher: "),
    ({"--teacher": "./nowhere"}, "--teacher: model folder './nowhere' does not exist"),
    ({"--teacher": "teacher-layers:1"}, "--teacher: found 'teacher-layers:1'"),
    ({"--student": "nowhere.json"}, "--student: model config file 'nowhere.json' does not exist"),
    ({"--student": ""}, "--student: found ''; expected a model of transformers"),
    (
        {"--data": "nowhere.csv"},
        "--data: found 'nowhere.csv'; expected a .csv, .tsv, .jsonl or .parquet file; there is",
    ),
    (
        {"--data": "folder.csv"},
        "--data: found 'folder.csv'; expected a .csv, .tsv, .jsonl or .parquet file; this is no",
    ),
    ({"--dev": "a.txt"}, "--dev: found 'a.txt'; expected a .csv, .tsv, .jsonl or .parquet file"),
    ({"--test": "broken.csv"}, "--test: found 'broken.csv'; expected a .csv"),
    ({"--out": "a.txt"}, "--out: found 'a.txt', a file; expected a folder"),
    ({"--out": "a.txt/below"}, "a.txt is not a folder; expected a path that can be created"),
    ({"--out": "model"}, "--out: found 'model', the folder of a model or run"),
    (
        {"--out": "."},
        "--out: found '.', which holds a.txt, broken.csv, data, … (4 in all), not written by",
    ),
    ({"--tensorboard": "a.txt"}, "--tensorboard: found 'a.txt', a file"),
    ({"--tensorboard": "new"}, "--tensorboard: found 'new', which is --out; expected another folder"),
]


@pytest.fixture
def odd_place(tmp_path, monkeypatch):
    """A working directory with a file, a folder called as a file, a broken link, a model and data of the user's."""
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("mine")
    Path("folder.csv").mkdir()
    Path("broken.csv").symlink_to("gone.csv")
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    Path("data").mkdir()
    Path("data/mine.csv").write_text("a\n1\n")
    return tmp_path


@pytest.mark.parametrize(("changes", "error"), ODD, ids=[str(changes) for changes, _ in ODD])
def test_distill_refuses_odd_options_by_their_names(changes, error, project, odd_place, ends):
    before = sorted(odd_place.rglob("*"))
    check_one_error(ends.command(*distill_arguments(project, **changes)), error)
    assert sorted(odd_place.rglob("*")) == before


def test_odd_options_are_refused_before_anything_heavy_is_imported(project, odd_place):
    cases = [distill_arguments(project, **changes) for changes, _ in ODD]
    cases += [["predict", "no/model", "nowhere.csv"], ["evaluate", "./none", str(project / "dev.csv")]]
    cases += [["predict", str(project / "out/student"), str(project / "dev.csv"), "--out", "x.doc"]]
    cases += [["export", str(project / "out"), "new"], ["predict", TINY["student"], str(project / "dev.csv")]]
    code = (
        "import contextlib, io, json, sys\nfrom rkd.cli import main\n"
        "for case in json.load(sys.stdin):\n"
        "    try:\n        with contextlib.redirect_stderr(io.StringIO()): main(case)\n"
        "    except SystemExit as end:\n        assert end.code == 2, case\n"
        "    assert not {'torch', 'pandas', 'transformers', 'datasets'} & set(sys.modules), case\n"
        "import rkd\n"
        "try:\n    rkd.distill(None, teacher=None, student=None, text=0, label=0)\n"
        "except ValueError as error:\n    assert 'teacher: found none' in str(error)\n"
        "assert not {'torch', 'pandas', 'transformers', 'datasets'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], input=json.dumps(cases), text=True, check=True, timeout=TIMEOUT)


HELD_OUT = ("selection=held-out", "held_out_fraction=0.001")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("-s", HELD_OUT[0], "-s", HELD_OUT[1]), "error: --setting held_out_fraction: 0.001 of 20 training rows are 0"),
        (
            ("--teacher-setting", HELD_OUT[0], "--teacher-setting", HELD_OUT[1]),
            "teacher: --teacher-setting held_out_fraction: 0.001 of 20 training rows are 0 rows; expected at least 1",
        ),
        (
            ("--method", "metadistil", "-o", "quiz_fraction=0.01"),
            "metadistil: --option quiz_fraction: 0.01 of 20 training",
        ),
        (("-o", "layer_map=[[9]]"), "--option layer_map: "),
    ],
)
def test_what_does_not_fit_the_data_or_the_models_is_told_by_the_option(options, error, project, tmp_path, ends):
    dev = {"--out": tmp_path / "new", "--dev": project / "dev.csv", "--max-length": 32, "--vocab-size": 200}
    end = ends.command(*distill_arguments(project, **dev), *options)
    check_one_error(end, error)
    assert end.err.count("--") == 1


ARGUMENTS = [
    ({"data": None}, "data: found None; expected a DataFrame or a .csv, .tsv, .jsonl or .parquet file"),
    ({"data": [{"text": "a", "mood": "b"}]}, "data: found a list; expected a DataFrame"),
    ({"data": {"text": ["a"]}}, "data: found a dict; expected a DataFrame"),
    ({"data": datasets.Dataset.from_dict({"text": ["a"]})}, "data: found a datasets.Dataset; .*; call its to_pandas"),
    ({"data": pd.DataFrame({"mood": ["a"]})}, "data: column 'text' is missing; found 'mood'"),
    ({"dev": pd.DataFrame({"text": ["a"]})}, "dev: column 'mood' is missing; found 'text'"),
    ({"test": pd.Series(["a"])}, "test: found a pandas.Series"),
    ({"teacher": None}, "teacher: found none; expected a fine-tuned classifier, or --finetune-teacher"),
    ({"teacher": torch.nn.Linear(1, 1)}, "teacher: found a torch.Linear; expected a model"),
    ({"student": 5}, "student: found 5; expected a model"),
    ({"text": 0}, "text: found 0; expected one or two column names, which are text: rename columns that are numbers"),
    ({"text": []}, r"text: found \[\]; expected one or two column names"),
    ({"text": ["a", "b", "c"]}, r"text: found \['a', 'b', 'c'\]; expected one or two column names"),
    ({"text": ["text", "text"]}, r"text: found \['text', 'text'\]; expected one or two"),
    ({"text": [1, "text"]}, "text: found 1; expected one or two column names, which are text"),
    ({"label": 0}, "label: found 0; expected a column name, which is text: rename columns that are numbers"),
    ({"label": ["mood"]}, r"label: found \['mood'\]; expected one column, or two or more, one per label$"),
    ({"method": None}, "method: found None; expected text"),
    ({"method": "base"}, "method: "),
    ({"options": "alpha=1"}, "options: found 'alpha=1'; expected a mapping"),
    ({"options": {"alpha": "x"}}, r"options.alpha: found 'x' \(text\); expected a number from 0 to 1"),
    ({"options": {"alpha": None}}, "options.alpha: found None; expected a number"),
    ({"labels": "good,bad"}, "labels: found 'good,bad'; expected a list of names"),
    ({"labels": ["good", None]}, "labels: found None; expected names: text or whole numbers"),
    ({"labels": [0.5, 1.5]}, "labels: found 0.5; expected names"),
    ({"labels": ["a", "b"], "scores": "any"}, "scores: found 'any' beside labels; expected one of them"),
    ({"scores": 5}, "scores: found 5; expected a range"),
    ({"scores": (1, 2, 3)}, r"scores: found \[1, 2, 3\]; expected a range"),
    ({"metrics": "accuracy"}, "metrics: found 'accuracy'; expected a list of names"),
    (
        {"primary_metrics": ["f1"], "metrics": ["accuracy"]},
        "primary_metrics: found 'f1' .*; expected one of the task's metrics",
    ),
    ({"finetune_teacher": "yes"}, "finetune_teacher: found 'yes'; expected True, False or settings"),
    ({"finetune_teacher": {"epochs": 0}}, "finetune_teacher.epochs: found 0; expected a whole number from 1"),
    ({"finetune_teacher": {"alpha": 0}}, r"finetune_teacher: found the unknown alpha \(give it in options\)"),
    ({"tokenizer": object()}, "tokenizer: found an object; expected none: a teacher that is a folder or a name brings"),
    ({"name": "no good name"}, "name: found the name 'no good name'"),
    ({"name": "cola"}, "name: found the name 'cola'.*another name"),
    ({"dev_fraction": 1}, "dev_fraction: found 1; expected a number above 0 and below 1"),
    ({"dev_seed": -1}, "dev_seed: found -1; expected"),
    ({"seed": "1"}, r"seed: found '1' \(text\); expected a whole number from 0 to 4294967295$"),
    ({"seed": True}, "seed: found true .*; expected a whole number"),
    ({"threads": 1.5}, "threads: found 1.5; expected a whole number"),
    ({"device": None}, "device: found None; expected one of auto, cpu, cuda"),
    ({"out": 5}, "out: found 5; expected the path of a folder"),
    ({"tensorboard": 5}, "tensorboard: found 5; expected the path of a folder"),
    ({"epochs": "many"}, r"^epochs: found 'many' \(text\); expected a whole number"),
    ({"learning_rate": float("nan")}, "^learning_rate: found nan; expected a number"),
    ({"seed": -1, "threads": 0, "text": 0}, "seed: .*; threads: .*; text: "),
    ({"seed": -1, "options": {"alpha": 2}, "epochs": 0, "dev": "x"}, "seed: .*; dev: .*; epochs: .*; options.alpha: "),
]


@pytest.mark.parametrize(("changes", "message"), ARGUMENTS, ids=[str(list(changes)) for changes, _ in ARGUMENTS])
def test_the_library_refuses_arguments_of_wrong_types(changes, message):
    with pytest.raises(RkdError, match=message):
        rkd.distill(**{"data": reviews(20), **TINY, **changes})


def test_numbers_of_numpy_are_numbers():
    from rkd.distillation.request import Request

    row = pd.DataFrame({"seed": [3], "rate": [0.5]}).iloc[0]
    request = Request(
        **{key: TINY[key] for key in ("teacher", "student", "text", "label", "finetune_teacher")},
        data=reviews(20),
        seed=pd.Series([3])[0],
        dev_fraction=row["rate"],
        settings={"learning_rate": row["rate"]},
    )
    assert (request.seed, request.dev_fraction, request.settings["learning_rate"]) == (3, 0.5, 0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_told_first(project, tmp_path, ends):
    arguments = distill_arguments(project, **{"--out": tmp_path / "new", "--device": "cuda"})
    check_one_error(ends.command(*arguments), "device: found 'cuda', but torch sees no GPU here")
    assert not (tmp_path / "new").exists()


def test_labels_may_stand_among_blanks_and_hold_commas():
    assert labels_of("good, bad") == ["good", "bad"]
    assert labels_of('good, "bad, very" ,so-so') == ["good", "bad, very", "so-so"]
    assert labels_of('"say ""no""",yes') == ['say "no"', "yes"]


# --- nothing is written over what is read --------------------------------------------------------------------


@pytest.fixture
def mine(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.csv").write_bytes((project / "dev.csv").read_bytes())
    Path("symlink.csv").symlink_to("mine.csv")
    os.link("mine.csv", "hardlink.csv")
    return tmp_path


@pytest.mark.parametrize("out", ["mine.csv", "./mine.csv", "symlink.csv", "hardlink.csv", "{cwd}/mine.csv"])
def test_predict_never_overwrites_its_input(out, project, mine, ends):
    before = Path("mine.csv").read_bytes()
    out = out.format(cwd=mine)
    check_one_error(
        ends.command("predict", project / "out/student", "mine.csv", "--out", out), "--out: found", "which is DATA; "
    )
    assert Path("mine.csv").read_bytes() == before


def test_predict_writes_nothing_into_the_model(project, run_folder, mine, ends):
    before = sorted(run_folder.rglob("*"))
    for model in (run_folder, run_folder / "model"):
        for out in (run_folder / "predictions.parquet", run_folder / "model/answers.csv"):
            end = ends.command("predict", model, "mine.csv", "--out", out)
            check_one_error(end, "--out", f"found '{out}', which lies in MODEL ({run_folder}); expected another place")
    assert sorted(run_folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("out", "error"),
    [
        ("a.doc", "--out: found 'a.doc'; expected a file with the ending .csv, .tsv, .jsonl, .parquet"),
        ("folder.csv", "--out: found 'folder.csv', a folder; expected a file"),
        ("mine.csv/x.csv", "mine.csv is not a folder"),
        ("/dev/null/x.csv", "/dev/null is not a folder"),
    ],
)
def test_predict_refuses_what_cannot_be_written(out, error, project, mine, ends):
    Path("folder.csv").mkdir()
    check_one_error(ends.command("predict", project / "out/student", "mine.csv", "--out", out), error)


def test_predict_makes_the_folder_of_its_output(project, mine, ends):
    end = ends.command("predict", project / "out/student", "mine.csv", "--device", "cpu", "--out", "new/deep/x.tsv")
    assert end.code == 0
    lines = Path("new/deep/x.tsv").read_text().splitlines()
    assert (lines[0], len(lines)) == ("text\tmood\tprediction\tp_bad\tp_good", 21)


def test_a_field_that_a_tsv_cannot_hold_is_refused(tmp_path):
    (tmp_path / "x.tsv").write_text("before")
    with pytest.raises(RkdError, match=r"x\.tsv, row 2: found a tab or a line break in 'a\\tb'; expected none"):
        write_table(pd.DataFrame({"prediction": ["good", "a\tb"]}), tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_text() == "before"
    write_table(pd.DataFrame({"prediction": ['say "no"'], "p": [0.25]}), tmp_path / "x.tsv")
    assert (tmp_path / "x.tsv").read_bytes() == b'prediction\tp\nsay "no"\t0.25\n'


def test_an_export_lies_beside_its_run(run_folder, ends):
    before = sorted(run_folder.rglob("*"))
    for out in (run_folder, run_folder / "model", run_folder / "export", run_folder.parent):
        check_one_error(ends.command("export", run_folder, out), f"OUT: found '{out}', which ", " RUN")
    check_one_error(ends.command("export", run_folder, ROOT / "README.md"), "README.md', a file; expected a folder")
    assert sorted(run_folder.rglob("*")) == before


def test_a_distillation_lies_beside_its_models_and_data(project, tmp_path, ends):
    folder = tmp_path / "d"
    shutil.copytree(project / "out", folder)
    reviews(20).to_csv(folder / "tables/mine.csv")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for changes, name in (
        ({"--teacher": folder / "teacher/model"}, f"which holds --teacher ({folder}/teacher/model)"),
        ({"--student": folder / "student"}, "which is --student"),
        ({"--data": folder / "tables/mine.csv"}, f"which holds --data ({folder}/tables/mine.csv)"),
        ({"--out": folder / "student", "--student": folder / "student"}, f"lies in --student ({folder}/student)"),
        ({"--tensorboard": folder / "teacher"}, f"lies in --out/teacher ({folder}/teacher)"),
    ):
        arguments = distill_arguments(project, **{"--out": folder, **changes})
        check_one_error(ends.command(*arguments), name, "expected another place")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


# --- damaged folders -----------------------------------------------------------------------------------------


def _change(name, **changes):
    def change(folder):
        content = json.loads((folder / name).read_text())
        for path, value in changes.items():
            place = content
            *above, last = path.split("__")
            for key in above:
                place = place[key]
            if value is KeyError:
                del place[last]
            else:
                place[last] = value
        (folder / name).write_text(json.dumps(content))

    return change


def _write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def _drop(name):
    def drop(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return drop


def _folder(name):
    def make(folder):
        (folder / name).unlink()
        (folder / name).mkdir()

    return make


def _unlisted(folder):
    """The run as an earlier version left it: its record lists no digests, so that the readers see all damage."""
    _change("run.json", outputs=KeyError)(folder)


RECORD = {
    "not JSON": _write("run.json", b"{"),
    "empty": _write("run.json", b""),
    "a list": _write("run.json", b"[]"),
    "null": _write("run.json", b"null"),
    "not UTF-8": _write("run.json", b"\xff{}"),
    "deep": _write("run.json", b"[" * 100_000),
    "NaN": _write("run.json", b'{"spec": NaN}'),
    "a huge number": _write("run.json", b'{"spec": 1e999}'),
    "half a surrogate": _write("run.json", b'{"spec": "\\ud800"}'),
    "no spec": _change("run.json", spec=KeyError),
    "spec is a list": _change("run.json", spec=[]),
    "no task": _change("run.json", spec__task=KeyError),
    "task is a number": _change("run.json", spec__task=5),
    "task is a path": _change("run.json", spec__task="../../x"),
    "no labels": _change("run.json", spec__custom_task__labels=KeyError),
    "labels are numbers": _change("run.json", spec__custom_task__labels=[1, 2]),
    "custom_task is text": _change("run.json", spec__custom_task="x"),
    "a folder": _folder("run.json"),
}
PARTS = {
    "no predictions": (_drop("predictions.parquet"), "predictions.parquet"),
    "predictions are no Parquet": (_write("predictions.parquet", b"PAR1"), "predictions.parquet"),
    "predictions are empty": (_write("predictions.parquet", b""), "predictions.parquet"),
    "predictions are a folder": (_folder("predictions.parquet"), "predictions.parquet"),
    "no history": (_drop("history.jsonl"), "history.jsonl"),
    "an empty history": (_write("history.jsonl", b""), "history.jsonl: no evaluations"),
    "half a history": (_write("history.jsonl", b'{"epoch": 0,'), "history.jsonl, line 1: not JSON"),
    "a history of lists": (_write("history.jsonl", b"[]\n"), "history.jsonl, line 1: found []; expected an object"),
    "no model": (_drop("model"), "model/config.json"),
    "no config": (_drop("model/config.json"), "model"),
}


@pytest.mark.parametrize("damage", RECORD)
def test_a_damaged_record_is_told(damage, project, run_folder, ends):
    RECORD[damage](run_folder)
    data = project / "dev.csv"
    if damage != "a folder":  # a model's folder without a run.json is a model alone
        check_one_error(ends.command("predict", run_folder, data, "--device", "cpu"), run_folder / "run.json")
        check_one_error(ends.command("evaluate", run_folder / "model", data, "--device", "cpu"), "run.json")
    check_one_error(ends.command("export", run_folder, run_folder.parent / "out"), run_folder)
    with pytest.raises(RkdError, match=str(run_folder)):
        read_result(run_folder)
    assert not (run_folder.parent / "out").exists()


@pytest.mark.parametrize("damage", PARTS)
def test_a_damaged_part_of_a_run_is_told(damage, run_folder, ends):
    change, named = PARTS[damage]
    _unlisted(run_folder)
    change(run_folder)
    check_one_error(ends.command("export", run_folder, run_folder.parent / "out"), run_folder, named)
    assert not (run_folder.parent / "out").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"idx": None}, "no column 'idx'; found split"),
        ({"split": 1}, "column 'split': found int64; expected text"),
        ({"label": "x"}, "column 'label': found (object|str|string); expected numbers"),
        ({"prediction": float("nan")}, "predictions.parquet: predictions of validation: .* are NaN or infinite"),
        ({"prediction": 7}, "predictions.parquet: .* not class ids"),
        ({"split": "other"}, "logits.parquet: found other examples; expected those of predictions.parquet"),
    ],
)
def test_predictions_of_another_kind_are_told(columns, message, run_folder):
    _unlisted(run_folder)
    file = run_folder / "predictions.parquet"
    frame = pd.read_parquet(file).assign(**columns)
    frame.drop(columns=[name for name, value in columns.items() if value is None]).to_parquet(file)
    with pytest.raises(RkdError, match=message):
        read_result(run_folder)


def test_an_undefined_score_of_the_teacher_is_told_as_such(run_folder, tmp_path):
    _unlisted(run_folder)
    lines = [json.loads(line) for line in (run_folder / "history.jsonl").read_text().splitlines()]
    lines[0]["teacher"]["primary_score"] = None
    (run_folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = (export(run_folder, tmp_path / "student") / "README.md").read_text()
    assert "teacher undefined (before the student's training), student 0." in card


def test_a_damaged_manifest_is_told(project, tmp_path):
    for content in ("[]", "{}", '{"task": "data", "sha256": "x", "splits": []}', "{"):
        shutil.copytree(project / "out", tmp_path / "out", dirs_exist_ok=True)
        (tmp_path / "out/data/manifest.json").write_text(content)
        with pytest.raises(RkdError, match=r"manifest\.json: "):
            export(tmp_path / "out/student", tmp_path / "export")


def test_what_is_damaged_is_trained_again(project, tmp_path):
    """A finished run whose record is of another form is no finished run; nothing ends in a traceback."""
    shutil.copytree(project / "out", tmp_path / "out")
    for content in ("[]", '{"spec": 5}', "{"):
        (tmp_path / "out/student/run.json").write_text(content)
        result = rkd.distill(reviews(40), dev=reviews(20, 1), out=tmp_path / "out", **TINY)
        pd.testing.assert_frame_equal(result.predictions, read_result(project / "out/student").predictions)


# --- runs that were changed ----------------------------------------------------------------------------------


def _other_ids(folder):
    """A tokenizer with the ids of its words in reverse."""
    file = folder / "model/tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    content["model"]["vocab"] = dict(zip(words, reversed(words.values()), strict=True))
    file.write_text(json.dumps(content))


def _other_scores(folder):
    """Predictions of a run that got everything right."""
    file = folder / "predictions.parquet"
    pd.read_parquet(file).assign(prediction=lambda frame: frame["label"]).to_parquet(file)


CHANGED = {
    "model/tokenizer.json": _other_ids,
    "model/config.json": _change("model/config.json", id2label={"0": "good", "1": "bad"}),
    "model/model.safetensors": lambda folder: _flip(folder / "model/model.safetensors"),
    "model/tokenizer_config.json": _drop("model/tokenizer_config.json"),
    "model/added_tokens.json": _write("model/added_tokens.json", b"{}"),
    "predictions.parquet": _other_scores,
    "history.jsonl": lambda folder: _flip(folder / "history.jsonl"),
}


def _flip(file):
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", CHANGED)
def test_a_run_that_was_changed_since_its_training_is_not_used(name, project, run_folder, tmp_path, ends):
    CHANGED[name](run_folder)
    named = (f"error: {run_folder / name}: ", "run.json", "; expected the run as its training left it")
    check_one_error(ends.command("export", run_folder, tmp_path / "export"), *named)
    assert not (tmp_path / "export").exists()
    with pytest.raises(RkdError, match=f"^{run_folder / name}: "):
        read_result(run_folder)
    (tmp_path / "link").symlink_to(run_folder / "model")
    for model in (run_folder, run_folder / "model", tmp_path / "link"):
        uses_model = ("--text", "text", "--device", "cpu")
        end = ends.command("predict", model, project / "dev.csv", *uses_model)
        if name.startswith("model/"):
            check_one_error(end, *named)
            assert end.out == ""
            check_one_error(ends.command("evaluate", model, project / "dev.csv", *uses_model), *named)
        else:
            assert end.code == 0, "predictions need the model alone"


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_run_that_was_changed_is_neither_teacher_nor_student_of_another(role, run_folder, tmp_path):
    _other_ids(run_folder)
    arguments = {**TINY, "finetune_teacher": role == "student", "out": tmp_path / "out", role: run_folder}
    with pytest.raises(RkdError, match=rf"^{run_folder}/model/tokenizer\.json: sha256 is \w+; run\.json records \w+; "):
        rkd.distill(reviews(40), dev=reviews(20, 1), **arguments)
    assert not (tmp_path / "out/student").exists()


def test_a_run_of_an_earlier_version_is_used_and_the_log_says_that_it_is_unchecked(project, run_folder, ends, caplog):
    expected = ends.command("predict", run_folder, project / "dev.csv", "--device", "cpu").out
    assert "unchecked" not in caplog.text
    _unlisted(run_folder)
    assert ends.command("predict", run_folder, project / "dev.csv", "--device", "cpu").out == expected
    told = "run.json: lists no SHA-256 of its files, as those of earlier versions; they are used unchecked"
    assert [each.message for each in caplog.records if "unchecked" in each.message] == [f"{run_folder}/{told}"]


def test_hidden_files_beside_a_model_do_not_matter(run_folder, tmp_path, ends):
    (run_folder / "model/.cache").mkdir()
    for name in (".snakemake_timestamp", ".cache/x"):
        (run_folder / "model" / name).touch()
    assert ends.command("export", run_folder, tmp_path / "export").code == 0
    assert not list((tmp_path / "export").glob(".*"))


def test_a_card_tells_nothing_of_data_that_are_not_those_of_the_run(project, tmp_path):
    shutil.copytree(project / "out", tmp_path / "out")
    export(tmp_path / "out/student", tmp_path / "export")
    assert "- train: 40 rows" in (tmp_path / "export/README.md").read_text()
    _change("manifest.json", sha256="another", splits__train__rows=9)(tmp_path / "out/data")
    export(tmp_path / "out/student", tmp_path / "another")
    assert "- train: " not in (tmp_path / "another/README.md").read_text()


# --- files that do not fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "option", "error"),
    [
        (b"", (), "x.csv"),
        (b"text,mood\n", (), "x.csv"),
        (b"words,mood\na,good\n", (), "column 'text' is missing; found 'words', 'mood'"),
        (b"text\na\n", (), "column 'mood' is missing; found 'text'"),
        (b"text,mood\na,fine\n", (), "x.csv, row 1, column 'mood'"),
        (b"text,mood\na,good\n", ("--text", "word"), "column 'word' is missing"),
        (b"text,mood\na,good\n", ("--label", "moods"), "column 'moods' is missing"),
        (b"text,mood\na,good\n", ("--metric", "pearson"), "--metric: found 'pearson' (text); expected one of accuracy"),
        (b"text,mood\na,good\n", ("--metric", "speed"), "--metric: found 'speed' (text); expected one of accuracy"),
    ],
)
def test_evaluate_names_file_and_column(content, option, error, project, tmp_path, ends):
    (tmp_path / "x.csv").write_bytes(content)
    arguments = ("evaluate", project / "out/student", tmp_path / "x.csv", "--device", "cpu", *option)
    check_one_error(ends.command(*arguments), error)


def test_a_model_without_a_run_needs_its_columns(project, tmp_path, ends):
    model = shutil.copytree(project / "out/student/model", tmp_path / "other")
    data = project / "dev.csv"
    check_one_error(
        ends.command("predict", model, data), f"--text: found no column; expected one or two columns that {model}"
    )
    check_one_error(ends.command("evaluate", model, data, "--text", "text"), "--label: found no column")
    with pytest.raises(RkdError, match=r"^text: found 0; expected"):
        Classifier(model, text=0)
    with pytest.raises(RkdError, match=r"^reference: found None; expected"):
        Classifier(None)
    with pytest.raises(RkdError, match=r"^file: found a list; expected the path"):
        Classifier(model, text="text", device="cpu").predict([])


# --- scripts -------------------------------------------------------------------------------------------------

SPEC = json.dumps(
    {
        "tasks": ["mrpc"],
        "variants": [{"name": "kd", "method": "kd", "label": "KD"}],
        "seeds": [1],
        "synthetic": True,
        "teacher_model": "t",
        "student_model": "s",
        "selection": {"teacher": "best", "student": "best"},
    }
)
RUN = "students/mrpc/kd/seed-1"
PAGE = ["--results", "r", "--citation", "c", "--tables", "main", "--figures", "--out", "o"]
ABLATION = json.dumps(json.loads(SPEC) | {"axis": {"name": "alpha", "values": [[0.5, "kd"]], "tasks": ["mrpc"]}})
METRICS = json.dumps({"task": "mrpc", "variant": "kd", "method": "kd", "seed": 1, "synthetic": True})
# The arguments of each script, {file} standing for what it reads.
READING = {
    "compute_metrics.py": ["--spec", METRICS, "--predictions", "{file}", "--out", "out.json"],
    "make_ablation_table.py": ["--spec", ABLATION, "--metrics", "{file}"],
    "make_comparisons.py": ["--spec", SPEC, "--predictions", "{file}"],
    "make_cost_table.py": ["--spec", SPEC, "--measurement", "{file}"],
    "make_efficiency_table.py": ["--measurements", "{file}"],
    "make_provenance.py": ["--planned", "1", "--runs", "{file}"],
    "make_selection_table.py": ["--spec", SPEC, "--histories", "{file}"],
    "make_submission.py": ["--predictions", "{file}", "--out", "out.zip"],
    "make_main_table.py": ["--spec", SPEC, "--metrics", "{file}"],
    "plot_ablation.py": ["--spec", ABLATION, "--metrics", "{file}", "--out", "f"],
    "plot_score_vs_cost.py": ["--spec", SPEC, "--metrics", "--runs", "{file}", "--out", "f"],
    "plot_latency.py": ["--spec", SPEC, "--metrics", "--efficiency", "{file}", "--out", "f"],
    "plot_learning_curves.py": ["--spec", SPEC, "--histories", "{file}", "--out", "f"],
    "plot_teacher_dynamics.py": ["--spec", SPEC, "--histories", "{file}", "--out", "f"],
}
CONTENTS = [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b'"x"', b"5", b"PAR1", b'{"rows": [], "task": "mrpc"}', None]


@pytest.mark.parametrize("script", READING)
def test_scripts_tell_files_that_they_cannot_read(script, tmp_path, monkeypatch, ends):
    monkeypatch.chdir(tmp_path)
    file = Path(RUN) / "file.json"
    file.parent.mkdir(parents=True)
    arguments = [file if part == "{file}" else part for part in READING[script]]
    arguments += ["--out-dir", "tables"] * (script.startswith("make_") and "--out" not in arguments)
    for content in CONTENTS:
        if content is None:
            file.unlink()
            file.mkdir()
        else:
            file.write_bytes(content)
        check_one_error(ends.script(script, *arguments), RUN)
    file.rmdir()
    check_one_error(ends.script(script, *arguments), RUN)
    assert not {"tables", "out.json", "out.zip"} & set(os.listdir())


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_scripts_tell_arguments_that_they_cannot_read(script, ends):
    check_one_error(ends.script(script), "the following arguments are required: --")
    check_one_error(ends.script(script, "--no-such-option"), "error: ")
    for option, value in {"--spec": "not JSON", "--config": "[]", "--planned": "x"}.items():
        if option in (SCRIPTS / script).read_text():
            end = ends.script(script, option, value)
            assert end.code == 2
            assert "Traceback" not in end.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["measure_cost.py", "--spec", "{}"],
            "step cost spec: the key 'student' is missing; expected student, variants",
        ),
        (["measure_cost.py", "--steps", "0"], "--steps: found '0'; expected a whole number of at least 1"),
        (["measure_cost.py", "--threads", "-1"], "--threads: found '-1'; expected"),
        (["measure_efficiency.py", "--repeats", "x"], "--repeats: found 'x'; expected a whole number"),
        (
            ["measure_efficiency.py", "--data", "d", "--out", "o", "--models", "x"],
            "--models: found x; expected ROW=FOLDER",
        ),
        (["make_provenance.py", "--planned", "-1"], "--planned: found '-1'"),
        (["make_comparisons.py", "--resamples", "0"], "--resamples: found '0'; expected a whole number of at least 1"),
        (["make_submission.py", "--seed", "one"], "--seed: found 'one'"),
        (["compute_metrics.py", "--spec", "{"], "metrics spec: not JSON"),
        (
            ["compute_metrics.py", "--spec", "[]"],
            "metrics spec: found []; expected an object with task, variant, method",
        ),
        (["make_report.py", "--config", "5", *PAGE], "config: not a checked config"),
        (["make_report.py", "--config", "{}", *PAGE], "config: not a checked config: KeyError('tasks')"),
        (["make_report.py", "--config", "{", *PAGE], "config: not JSON"),
        (["make_main_table.py", "@nowhere"], "nowhere"),
        (["train.py", "--spec", "{"], "run spec: not JSON"),
        (
            ["train.py", "--spec", "{}"],
            "run spec: the key 'task' is missing; expected task, variant, method, seed, model",
        ),
        (["train.py", "--threads", "0"], "--threads: found '0'; expected a whole number of at least 1"),
        (["prepare_data.py", "--spec", "[]"], "data spec: found []; expected an object with task, source, path"),
    ],
)
def test_arguments_of_scripts_are_checked(arguments, error, ends):
    check_one_error(ends.script(*arguments), error)


# --- the ends of a process -----------------------------------------------------------------------------------


def test_ctrl_c_ends_with_130_and_one_line(monkeypatch, ends, tmp_path):
    monkeypatch.setattr("rkd.verify.verify", lambda paths: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    end = ends.command("verify", tmp_path)
    signal.signal(signal.SIGINT, before)
    assert (end.code, end.err) == (130, "error: stopped by Ctrl-C\n")


def process(*command, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(
        command, stderr=subprocess.PIPE, text=True, check=False, env=environment, **options, timeout=TIMEOUT
    )


def test_a_closed_pipe_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    end = process("-m", "rkd", "--help", stdout=writing)
    os.close(writing)
    assert (end.returncode, end.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_the_output_is_one_error():
    with open("/dev/full", "w") as full:
        end = process("-m", "rkd", "--help", stdout=full)
    assert (end.returncode, end.stderr) == (
        2,
        "error: standard output: cannot be written: No space left on device\n",
    )


def test_an_output_that_the_caller_has_closed_is_one_error(project, tmp_path):
    """What was asked for is not there; that nothing could be told is no success."""
    told = "error: standard output: cannot be written: Bad file descriptor"
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable]
    predict = ["-m", "rkd", "predict", project / "out/student", project / "dev.csv", "--device", "cpu"]
    for command in (predict, ["-m", "rkd", "--help"], [SCRIPTS / "make_main_table.py", "--help"]):
        arguments = [*closed, *map(str, command)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        end = subprocess.run(
            arguments, stderr=subprocess.PIPE, text=True, check=False, env=environment, timeout=TIMEOUT
        )
        assert (end.returncode, end.stderr.splitlines()[-1:]) == (2, [told])


def test_a_script_that_prints_nothing_needs_no_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    run_script(lambda: None)
    assert sys.stdout is None


def test_a_full_disk_under_a_file_is_one_error(project, mine, ends, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    Path("x.csv").write_text("before")
    monkeypatch.setattr("os.fsync", full)
    end = ends.command("predict", project / "out/student", "mine.csv", "--device", "cpu", "--out", "x.csv")
    check_one_error(end, "x.csv: cannot be written: No space left on device")
    assert Path("x.csv").read_text() == "before"
    assert sorted(path.name for path in mine.iterdir()) == ["hardlink.csv", "mine.csv", "symlink.csv", "x.csv"]


def test_a_submission_with_windows_line_ends_is_refused(tmp_path, capsys):
    import zipfile

    from rkd.submission import MEMBERS, main

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member in MEMBERS:
            end = "\r\n" if member.name == "AX.tsv" else "\n"
            answer = "2.5" if member.task.regression else member.task.file_labels[0]
            lines = ["index\tprediction", *(f"{n}\t{answer}" for n in range(member.rows))]
            archive.writestr(member.name, end.join(lines) + end)
    assert main(["validate", str(tmp_path / "a.zip")]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"{tmp_path}/a.zip: AX.tsv: 1105 carriage returns, as in Windows line ends; "
        "expected lines that end in \\n alone"
    ]
