"""What a new user does first: a distillation on a file, its answers and its export; slips are told as such."""

import re
import shutil
from pathlib import Path

import datasets
import pandas as pd
import pytest

import rkd
from rkd.config.arguments import ArgumentError
from rkd.config.load import load
from rkd.errors import RkdError
from rkd.export import export
from rkd.inference import Classifier
from rkd.runs.result import read_result
from rkd.utils.files import digests
from rkd.workflow.forecast import Job, format_summary, summary
from tests.helpers.commands import Ends, check_one_error, distill_arguments
from tests.helpers.distillation import TINY, reviews

# What a request knows beside settings of the training.
ONLY = {key: TINY[key] for key in ("teacher", "student", "text", "label", "finetune_teacher")}

ROWS = {"data": 40, "dev": 20}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a finished distillation in out/, scored by accuracy and f1; no test may change it."""
    folder = tmp_path_factory.mktemp("project")
    rkd.distill(reviews(40), dev=reviews(20, 1), out=folder / "out", metrics=["accuracy", "f1"], max_length=16, **TINY)
    reviews(20, 1).to_csv(folder / "dev.csv", index=False)
    return folder


@pytest.fixture
def ends(capsys):
    return Ends(capsys)


def test_the_code_on_the_model_card_answers_long_texts_as_predict_does(project, tmp_path, monkeypatch, capsys):
    """Texts of more tokens than the training read, and of more than the model has positions for."""
    monkeypatch.chdir(tmp_path)
    card = (export(project / "out/student", "exported") / "README.md").read_text()
    code = re.search("```python\n(.*?)```", card, re.DOTALL)[1].replace('"…"', "texts")
    texts = ["a good film " + "bad " * words for words in (2, 30, 2000)]
    found = {"texts": texts}
    exec(code.replace("print(", "answers = (").replace("classify(texts)", "classify(texts, top_k=None)"), found)
    pd.DataFrame({"text": texts}).to_csv("texts.csv")
    expected = Classifier("exported", "text", device="cpu").predict("texts.csv")
    for answer, (_, row) in zip(found["answers"], expected.iterrows(), strict=True):
        assert {f"p_{each['label']}": pytest.approx(each["score"], abs=1e-6) for each in answer} == {
            name: row[name] for name in ("p_bad", "p_good")
        }


# --- models and folders that are not what was meant ----------------------------------------------------------


def test_a_teacher_without_weights_is_told_at_once(project, tmp_path, ends):
    arguments = distill_arguments(project, **{"--out": tmp_path / "new"})
    arguments.remove("--finetune-teacher")
    problem = f"found '{TINY['teacher']}', a model config without weights; expected a fine-tuned classifier, or"
    check_one_error(ends.command(*arguments), f"--teacher: {problem} --finetune-teacher")
    with pytest.raises(ArgumentError, match=r"teacher: found '.*finetune_teacher=True"):
        rkd.distill(project / "dev.csv", **{**TINY, "finetune_teacher": False})
    rkd.api.Request(data=project / "dev.csv", **{**ONLY, "finetune_teacher": False, "method": "finetune"})


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_model_without_weights_answers_nothing(command, project, ends):
    end = ends.command(command, TINY["student"], project / "dev.csv", "--text", "text")
    check_one_error(end, f"MODEL: found '{TINY['student']}', a model config without weights; expected a run's folder")


def test_soft_labels_are_a_file_or_columns(project, tmp_path, ends):
    more = ("--soft-labels", project / "dev.csv", "--soft-labels", "p_good", "--method", "kd")
    end = ends.command(*distill_arguments(project, **{"--out": tmp_path / "new"}), *more)
    check_one_error(end, f"--soft-labels: found '{project}/dev.csv', 'p_good'; expected either one file or columns")


def test_the_folder_of_a_distillation_is_taken_for_none_of_its_runs(project, tmp_path, ends):
    out = Path(shutil.copytree(project / "out", tmp_path / "o five"))
    hint = f"; did you mean '{out}/student'?"
    check_one_error(ends.command("predict", out, project / "dev.csv"), "MODEL: ", hint)
    check_one_error(ends.command("evaluate", out, project / "dev.csv"), "MODEL: ", hint)
    check_one_error(ends.command("export", out, tmp_path / "x"), f"{out}: no finished run: found no run.json", hint)
    with pytest.raises(RkdError, match=re.escape(hint)):
        read_result(out)


# --- a folder with a finished run ------------------------------------------------------------------------------


@pytest.fixture
def copy(project, tmp_path):
    """A copy of the finished distillation, to be trained over."""
    return Path(shutil.copytree(project / "out", tmp_path / "out"))


def again(out, **changes):
    arguments = {"data": reviews(40), "dev": reviews(20, 1), "metrics": ["accuracy", "f1"], "max_length": 16}
    return rkd.distill(**{**arguments, "out": out, **TINY, **changes})


@pytest.mark.parametrize(
    ("changes", "teacher", "student"),
    [
        ({"options": {"alpha": 0.9}}, None, "alpha 0.5 → 0.9"),
        ({"method": "reptile", "learning_rate": 1e-4}, None, "method kd → reptile; learning_rate 0.001 → 0.0001"),
        ({"max_length": 12}, "max_length 16 → 12", "max_length 16 → 12; the teacher"),
        ({"unlabelled": reviews(5, 2)[["text"]]}, "unlabelled none → given", "unlabelled none → given"),
        ({"student_tokenizer": "own"}, "student_tokenizer teacher → own", "student_tokenizer teacher → own"),
        (
            {"dev": None, "seed": 2},
            "seed 1 → 2; dev_fraction none → 0.1; dev_seed none → 0; dev given → none",
            "; the teacher",
        ),
    ],
)
def test_what_makes_a_finished_run_train_again_is_told(changes, teacher, student, copy, caplog):
    again(copy, **changes)
    causes = {}
    for record in caplog.records:
        run, found, what = record.getMessage().partition(": trained again: ")
        causes |= {run: what} if found else {}
    assert teacher is None or teacher in causes.pop(f"{copy}/teacher")
    assert list(causes) == [f"{copy}/student"]
    assert student in causes[f"{copy}/student"]


def test_what_was_edited_is_trained_again_with_a_word(copy, caplog):
    with (copy / "student/model/config.json").open("a") as file:
        file.write(" ")
    again(copy)
    assert f"{copy}/student: trained again: {copy}/student/model/config.json: sha256 is " in caplog.text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data": reviews(41)}, "training data data (DataFrame) → other rows in data (DataFrame)"),
        ({"data": "other.csv"}, "training data data (DataFrame) → other.csv"),
        ({"label": "stars"}, "label mood → stars"),
        ({"text": ["text", "more"]}, "text text → text, more"),
        ({"labels": ["good", "bad"]}, "labels bad, good → labels good, bad"),
        ({"label": "number", "scores": "any", "metrics": None}, "label mood → number"),
    ],
)
@pytest.mark.parametrize("left", ["all", "the teacher alone"])
def test_a_finished_run_of_another_task_is_kept(changes, problem, left, copy, monkeypatch):
    monkeypatch.chdir(copy.parent)
    reviews(41).to_csv("other.csv", index=False)
    if left != "all":
        shutil.rmtree(copy / "student")
    before = digests(copy)
    frames = {key: reviews(rows).assign(stars=reviews(rows)["mood"], more="", number=1) for key, rows in ROWS.items()}
    with pytest.raises(RkdError) as error:
        again(copy, **{**({} if "data" in changes else frames), **changes})
    message = f"{copy}: found a finished run of another task ({problem}); expected the same task"
    assert str(error.value).startswith(message)
    assert digests(copy) == before


# --- exports ---------------------------------------------------------------------------------------------------


def test_an_export_is_replaced_only_where_nothing_is_lost(project, copy, tmp_path, ends):
    out = tmp_path / "mine"
    out.mkdir()
    for _ in range(2):  # into an empty folder, and over the same export
        assert ends.command("export", project / "out/student", out).code == 0
    card = out / "README.md"
    card.write_text(card.read_text() + "By hand.")
    before = digests(out)
    message = "which the new export changes; expected a new or empty folder, or an unchanged export of this run"
    check_one_error(ends.command("export", project / "out/student", out), f"{out}: found README.md, {message}")
    card.write_text(card.read_text().removesuffix("By hand."))
    again(copy, options={"alpha": 0.9})
    with pytest.raises(RkdError, match=f"README.md, {message}"):
        export(copy / "student", out)
    card.write_text(card.read_text() + "By hand.")
    assert digests(out) == before


# --- words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes.md", "data/mine.csv", "student/x"])
def test_a_folder_of_something_else_is_no_place_for_a_distillation(name, project, tmp_path, monkeypatch, ends):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    message = f"--out: found '.', which holds {name.split('/')[0]}, not written by rkd distill; expected a new or empty"
    check_one_error(ends.command(*distill_arguments(project, **{"--out": "."})), message)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_logs_and_hidden_files_may_lie_in_the_folder_of_a_distillation(project, tmp_path):
    for name in ("run.log", "slurm-7.out", ".gitignore"):
        (tmp_path / name).touch()
    (tmp_path / "data").mkdir()
    rkd.api.Request(data=project / "dev.csv", out=tmp_path, **ONLY)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (reviews(0), "data (DataFrame): found no rows; expected labelled ones"),
        (reviews(1), "data (DataFrame), column 'mood': found only the label 'good'; expected 2 to 200"),
    ],
)
def test_too_few_labels_are_told_in_words(frame, error):
    with pytest.raises(RkdError, match=re.escape(error)):
        rkd.distill(frame, **TINY)


def test_two_spellings_of_a_label_are_shown_as_they_were_written(project):
    entry = {"train": str(project / "dev.csv"), "text": ["text"], "label": "mood", "labels": ["gut", "gut "]}
    with pytest.raises(RkdError, match=r"labels\[1\]: found 'gut ', which is one label with 'gut'; expected every"):
        load({"custom_tasks": {"moods": entry}, "tasks": ["moods"]})


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_help_names_arguments_as_errors_do(command, ends):
    end = ends.command(command, "--help")
    for name in ("RUN", "OUT") if command == "export" else ("MODEL", "DATA"):
        assert re.search(rf"^  {name} <", end.out, re.MULTILINE), end.out


def test_the_library_draws_no_bars_of_datasets(project, tmp_path, capfd):
    before = datasets.are_progress_bars_disabled()
    datasets.enable_progress_bars()
    try:
        rkd.distill(reviews(20), dev=reviews(20, 1), **TINY)
        Classifier(project / "out/student", device="cpu").predict(project / "dev.csv")
        assert not datasets.are_progress_bars_disabled()
    finally:
        (datasets.disable_progress_bars if before else datasets.enable_progress_bars)()
    assert "dataset" not in capfd.readouterr().err


def test_a_plan_lists_equal_counts_by_name():
    counts = {"rule_b": 2, "rule_c": 3, "rule_a": 2}
    jobs = [Job(rule, {}) for rule, count in counts.items() for _ in range(count)]
    assert format_summary(summary(jobs, [], 1.0)).startswith("7 jobs: 3 rule_c, 2 rule_a, 2 rule_b")
