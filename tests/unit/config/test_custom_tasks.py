"""Tasks of a user's own: reading files, checking the config, what a change runs again, metrics and texts."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import balanced_accuracy_score, f1_score

from rkd.config.load import check, load
from rkd.data import load_raw
from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.metrics.file import metrics_file
from rkd.metrics.weighted import primary_scores
from rkd.report.captions import data_text
from rkd.report.names import score_name
from rkd.report.tables.main import averaged as averaged_columns
from rkd.report.tables.main import columns
from rkd.specs.report import ReportSpec
from rkd.submission import submit
from rkd.tasks import averaged, define, get
from rkd.workflow.plan import Plan
from tests.helpers import ROOT

ROWS = [
    ('say "hi", twice', "line one\nline two", "1"),
    ("NA", "null", "0"),
    ("tab\there", "ünïcode", "1"),
]
ENTRY = {
    "title": "My pairs",
    "text": ["first", "label"],  # a text column may be called as the dataset's own columns are
    "label": "same?",
    "labels": ["0", "1"],
    "metrics": ["accuracy", "f1"],
    "primary_metrics": ["accuracy", "f1"],
    "test": None,
}


def write(path: Path, rows=ROWS, names=("first", "label", "same?")) -> str:
    frame = pd.DataFrame([(number, *row) for number, row in enumerate(rows)], columns=["id", *names])
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif path.suffix == ".tsv":
        lines = [frame.columns, *frame.astype(str).to_numpy()]
        path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    else:
        frame.to_csv(path, index=False)
    return str(path)


def read(train: str, validation: str | None = None, test: str | None = None, entry=ENTRY, **more):
    files = {"train": train, "validation": validation, "test": test}
    found = {split: {"path": path} for split, path in files.items() if path}
    own = {**define({**entry, "test": test}), "files": found, "scores": None, **more}
    return load_raw("pairs", "files", custom_task=own)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    # TSV has no way to write a tab or a line break inside a field.
    rows = [(first.replace("\t", " "), second.replace("\n", " "), same) for first, second, same in ROWS]
    rows = rows if suffix == "tsv" else ROWS
    path = write(tmp_path / f"data.{suffix}", rows)
    data = read(path, path)["validation"]
    assert list(zip(data["text_1"], data["text_2"], strict=True)) == [row[:2] for row in rows]
    assert data["label"] == [1, 0, 1]
    assert data["idx"] == [0, 1, 2]
    assert data.features["label"].names == ["0", "1"]


@pytest.mark.parametrize(
    ("values", "labels"),
    [([1, 0], ["0", "1"]), ([1.0, 0.0], ["0", "1"]), ([True, False], ["false", "true"]), (["b", "a"], ["a", "b"])],
)
def test_labels_are_read_by_name_whatever_their_type(tmp_path, values, labels):
    for suffix in ("jsonl", "parquet"):
        path = write(tmp_path / f"data.{suffix}", [("x", "y", value) for value in values])
        assert read(path, path, entry={**ENTRY, "labels": labels})["train"]["label"] == [1, 0]


def test_a_byte_order_mark_and_a_last_empty_line_are_no_data(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"\xef\xbb\xbffirst,label,same?\r\na,b,1\r\n\r\n")
    assert read(str(path), str(path))["train"]["text_1"] == ["a"]


def test_the_dev_share_is_chosen_by_its_seed_alone_and_shares_no_row_with_train(tmp_path):
    path = write(tmp_path / "data.csv", [(f"text {n}", "", "1") for n in range(200)])
    first, again, other = (read(path, dev_fraction=0.1, dev_seed=seed) for seed in (0, 0, 1))
    assert list(first["validation"]["idx"]) == list(again["validation"]["idx"]) != list(other["validation"]["idx"])
    assert sorted([*first["train"]["idx"], *first["validation"]["idx"]]) == list(range(200))
    assert first["validation"].num_rows == 20
    assert list(first["validation"]["idx"]) == sorted(first["validation"]["idx"])
    assert [f"text {n}" for n in first["validation"]["idx"]] == list(first["validation"]["text_1"])


def test_a_test_file_may_have_labels_for_none_some_or_all_of_its_rows(tmp_path):
    train = write(tmp_path / "train.csv")
    bare, some = tmp_path / "bare.csv", tmp_path / "some.csv"
    bare.write_text("first,label\na,b\n")
    some.write_text("first,label,same?\na,b,1\na,b,\n")
    assert read(train, train, str(bare))["test"]["label"] == [-1]
    assert read(train, train, str(some))["test"]["label"] == [1, -1]


SCORES = {**ENTRY, "text": ["first"], "labels": [], "metrics": ["pearson"], "primary_metrics": ["pearson"]}


@pytest.mark.parametrize(
    ("name", "content", "entry", "message"),
    [
        ("d.csv", "first,label\na,b\n", ENTRY, "column 'same?' is missing; found 'first', 'label'"),
        ("d.csv", "first,first,label,same?\n", ENTRY, "column 'first' occurs 2 times; expected once"),
        ("d.csv", "", ENTRY, "the file is empty; expected a line with the columns' names"),
        ("d.csv", "first,label,same?\n", ENTRY, "found no rows; expected at least one"),
        ("d.csv", "first,label,same?\na,b,1\na,b\n", ENTRY, "row 2 (line 3): found 2 fields; expected 3"),
        ("d.csv", "first,label,same?\na,b,1\na,b,c,1\n", ENTRY, "row 2 (line 3): found 4 fields; expected 3"),
        ("d.csv", 'first,label,same?\na,"b,1\n', ENTRY, "line 2: unexpected end of data; expected valid CSV"),
        ("d.csv", "first,label,same?\na,b,yes\n", ENTRY, "column 'same?': found 'yes'; expected one of the labels 0"),
        ("d.csv", "first,label,same?\na,b,\n", ENTRY, "row 1, column 'same?': found nothing; expected one of"),
        ("d.jsonl", '{"first": "a", "label": "b", "same?": 1}\n{"first": \n', ENTRY, "row 2: not JSON"),
        ("d.jsonl", "[1]\n", ENTRY, "row 1: found a JSON array; expected one object per line"),
        ("d.jsonl", '{"first": 7, "label": "b", "same?": 1}', ENTRY, "row 1, column 'first': found 7 (int)"),
        (
            "d.jsonl",
            '{"first": "a", "label": "b", "same?": 1}\n{"first": "a", "same?": 1}',
            ENTRY,
            "row 2, column 'label': found nothing; expected text",
        ),
        ("d.csv", "first,same?\na,x\n", SCORES, "row 1, column 'same?': found 'x'; expected a number"),
        ("d.csv", "first,same?\na,nan\n", SCORES, "row 1, column 'same?': found 'nan'; expected a number"),
        ("d.csv", "first,same?\na,7\n", {**SCORES, "range": [1, 5]}, "found '7'; expected a number from 1 to 5"),
        ("d.parquet", "no Parquet", ENTRY, "cannot be read as Parquet"),
        ("d.txt", "", ENTRY, "unsupported file extension '.txt'; expected one of .csv, .tsv, .jsonl, .parquet"),
    ],
)  # fmt: skip
def test_errors_name_file_place_found_and_expected(tmp_path, name, content, entry, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(RkdError) as error:
        read(str(path), str(path), entry=entry, scores=entry.get("range", "any"))
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)


def test_a_missing_file_bytes_that_are_no_text_and_a_changed_file(tmp_path):
    with pytest.raises(RkdError, match=r"nowhere\.csv: file not found"):
        read(str(tmp_path / "nowhere.csv"), None)
    path = tmp_path / "data.csv"
    path.write_bytes(b"first,label,same?\na,\xff,1\n")
    with pytest.raises(RkdError, match="line 2: found byte 0xff; expected UTF-8 text"):
        read(str(path), str(path))
    own = {**define(ENTRY), "files": {"train": {"path": write(path), "sha256": "0" * 64}}, "scores": None}
    with pytest.raises(RkdError, match=r"the file has changed"):
        load_raw("pairs", "files", custom_task=own)


def test_what_is_seldom_meant_is_a_warning(tmp_path, caplog):
    path = write(tmp_path / "data.csv")
    own = {
        **define({**ENTRY, "labels": ["0", "1", "2"]}),
        "files": {"train": {"path": path}, "validation": {"path": path}},
        "scores": None,
    }
    prepare("pairs", tmp_path / "out", source="files", tokenizer="tiny.json", vocab_size=100, custom_task=own)
    assert "train: 1 of 3 labels never occur: '2'" in caplog.text
    assert "validation: 3 of 3 texts also occur in train" in caplog.text


def config(folder: Path, tasks=("pairs",), **changes) -> dict:
    content = yaml.safe_load((ROOT / "config.yaml").read_text())
    entry = {"train": write(folder / "train.csv"), "text": ["first"], "label": "same?", "labels": [0, 1], **changes}
    entry = {key: value for key, value in entry.items() if value != "none"}
    return {**content, "tasks": list(tasks), "ablations": {}, "custom_tasks": {"pairs": entry}}


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_what_is_not_given_has_its_default(tmp_path):
    entry = load(config(tmp_path))["custom_tasks"]["pairs"]
    expected = {"title": "pairs", "dev": None, "test": None, "dev_fraction": 0.1, "dev_seed": 0}
    assert expected.items() <= entry.items()
    assert (entry["labels"], entry["metrics"], entry["primary_metrics"]) == (["0", "1"], ["accuracy"], ["accuracy"])
    scores = load(config(tmp_path, labels="none", scores="any"))["custom_tasks"]["pairs"]
    assert scores["metrics"] == scores["primary_metrics"] == ["pearson", "spearmanr"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"train": "nowhere.csv"}, ".train: found 'nowhere.csv' (text); expected a .csv, .tsv, .jsonl or"),
        ({"train": "config.yaml"}, ".train: found 'config.yaml' (text); expected a .csv"),
        ({"labels": "none"}, ": found neither labels nor scores; expected labels (classification) or"),
        ({"scores": "any"}, ": found both labels and scores"),
        ({"labels": ["a"]}, ".labels: found ['a']; expected a list of at least two labels"),
        ({"labels": ["1", 1]}, ".labels[1]: found 1, which is one label with '1'; expected every label only once"),
        ({"labels": [True, False]}, ".labels[0]: found true (a truth value); expected text or a whole number"),
        ({"labels": "none", "scores": [5, 1]}, ".scores: found [5, 1]; expected a lowest score below the highest"),
        ({"labels": "none", "scores": "all"}, ".scores: found 'all' (text); expected a range [lowest, highest]"),
        ({"metrics": ["pearson"]}, ".metrics[0]: found 'pearson' (text); expected one of accuracy, f1,"),
        ({"labels": ["a", "b", "c"], "metrics": ["f1"]}, ".metrics[0]: found 'f1' (text); expected one of"),
        ({"metrics": ["accuracy"], "primary_metrics": ["f1"]}, ".primary_metrics[0]: found 'f1' (text); expected one"),
        ({"label": "first"}, ".label: found 'first'; expected another column than those of text"),
        ({"text": "first"}, ".text: found 'first' (text); expected a list of one or two column names"),
        ({"dev_fraction": 1.5}, ".dev_fraction: found 1.5; expected a number above 0 and below 1"),
        ({"tst": "x"}, ".tst: found this unknown key"),
        ({"compare_on": "train"}, ".compare_on: found 'train' (text); expected one of dev, test"),
        ({"compare_on": "test"}, ".compare_on: found test, without the key test; expected dev, or a labelled file"),
    ],
)  # fmt: skip
def test_problems_of_an_entry(tmp_path, changes, problem):
    found = [str(one) for one in check(config(tmp_path, **changes))]
    assert any(text.startswith(f"custom_tasks.pairs{problem}") for text in found), found


@pytest.mark.parametrize(
    ("rows", "names", "found"),
    [
        (
            [("a", "b", "1"), ("c", "d", ""), ("e", "f", None)],
            None,
            "found 2 of 3 rows without a label, the first in row 2",
        ),
        ([], None, "found no rows; expected a label in every row"),
        ([("a", "b", "1")], ("first", "label", "other"), "same?"),
    ],
)
def test_a_comparison_on_test_needs_all_its_labels(tmp_path, rows, names, found):
    test = write(tmp_path / "test.csv", rows, names or ("first", "label", "same?"))
    assert check(config(tmp_path, test=test)) == []
    (problem,) = check(config(tmp_path, test=test, compare_on="test"))
    assert str(problem).startswith("custom_tasks.pairs.test: found ")
    assert found in str(problem)
    assert "compare_on is test" in str(problem)
    assert check(config(tmp_path, tasks=("cola",), test=test, compare_on="test")) == []


def test_names_are_paths_and_no_task_of_glue(tmp_path):
    content = config(tmp_path)
    (entry,) = content["custom_tasks"].values()
    for name in ("a/b", "cola", "Ümläut"):
        problems = check({**content, "custom_tasks": {"pairs": entry, name: entry}})
        assert len(problems) == 1
        assert "the name" in str(problems[0])
    misspelt = check({**content, "tasks": ["pears"]})
    assert "did you mean pairs?" in str(misspelt[0])


@pytest.mark.parametrize(
    ("changes", "prepares", "trains", "scores"),
    [
        ({"title": "Another"}, False, False, True),
        ({"metrics": ["accuracy", "f1"], "primary_metrics": ["accuracy"]}, False, False, True),
        ({"metrics": ["accuracy", "f1"]}, True, True, True),
        ({"labels": [1, 0]}, True, True, True),
        ({"text": ["label"]}, True, True, True),
        ({"dev_seed": 1}, True, False, False),
    ],
)
def test_a_change_of_the_task_runs_what_it_concerns(tmp_path, changes, prepares, trains, scores):
    """By the jobs' specs, which Snakemake compares; a changed dev split trains again through the prepared data."""
    before, after = (Plan(load(config(tmp_path, **more))) for more in ({}, changes))
    assert (before.data("pairs").json() != after.data("pairs").json()) is prepares
    for spec in (lambda plan: plan.teacher("pairs", 1), lambda plan: plan.student("pairs", "kd", 1)):
        assert (spec(before).json() != spec(after).json()) is trains
    assert (before.metrics("pairs", "kd", 1) != after.metrics("pairs", "kd", 1)) is scores


def test_the_split_of_the_comparison_changes_scores_alone(tmp_path):
    test = write(tmp_path / "test.csv")
    dev, on_test = (Plan(load(config(tmp_path, test=test, compare_on=split))) for split in ("dev", "test"))
    assert dev.data("pairs").json() == on_test.data("pairs").json()
    assert dev.runs() == on_test.runs()
    assert dev.metrics("pairs", "kd", 1) == Plan(load(config(tmp_path, test=test))).metrics("pairs", "kd", 1)
    spec = on_test.metrics("pairs", "kd", 1)
    frame = pd.DataFrame(
        [("validation", 0, 1.0, 1.0), ("test", 0, 1.0, 0.0), ("test", 1, 0.0, 0.0)],
        columns=["split", "idx", "label", "prediction"],
    )
    found = metrics_file(spec, frame)
    assert {split: scores["accuracy"] for split, scores in found["splits"].items()} == {"validation": 1.0, "test": 0.5}
    assert found["primary_score"] == 0.5
    assert metrics_file(dev.metrics("pairs", "kd", 1), frame)["primary_score"] == 1.0
    with pytest.raises(RkdError, match="predictions of test: pairs: 1 of 2 labels are NaN"):
        metrics_file(spec, frame.assign(label=[1.0, None, 0.0]))


def test_captions_say_the_split_of_each_task(tmp_path):
    test = write(tmp_path / "test.csv")
    for tasks, text in {
        ("pairs",): "Test scores (×100) on pairs (custom data, not GLUE).",
        (
            "mrpc",
            "pairs",
        ): "Dev or test scores (×100) on GLUE's MRPC (dev) and on pairs (test) (custom data, not GLUE).",
    }.items():
        plan = Plan(load({**config(tmp_path, tasks=tasks, test=test, compare_on="test"), "glue_dir": str(tmp_path)}))
        spec = ReportSpec.from_json(plan.report().json())
        assert data_text(spec) == text
        assert [column.split for column in columns(tasks)][-1] == "test"


def test_glue_s_specs_do_not_change_by_own_tasks(tmp_path):
    content = config(tmp_path, tasks=["mrpc", "pairs"])
    with_own, without = Plan(load(content)), Plan(load({**content, "tasks": ["mrpc"], "custom_tasks": {}}))
    for spec in (lambda plan: plan.data("mrpc").json(), lambda plan: plan.student("mrpc", "kd", 1).json()):
        assert spec(with_own) == spec(without)
        assert "custom_task" not in spec(with_own)
    assert with_own.is_synthetic("mrpc")
    assert not with_own.is_synthetic("pairs")
    assert with_own.glue_tasks == ["mrpc"]


def three_classes(primary_score=("macro_f1",)):
    entry = {**ENTRY, "labels": ["a", "b", "c"], "metrics": ["accuracy", "macro_f1", "balanced_accuracy"]}
    return get("three", define({**entry, "primary_metrics": list(primary_score)}))


@pytest.mark.parametrize("seed", range(20))
def test_metrics_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    high = rng.integers(1, 4, size=2)  # some classes are never predicted or never labelled
    predicted, true = rng.integers(high[0], size=30), rng.integers(high[1], size=30)
    found = metrics.compute(three_classes(), predicted, true)
    recall = [np.mean(predicted[true == kind] == kind) for kind in range(3) if (true == kind).any()]
    assert found["macro_f1"] == pytest.approx(f1_score(true, predicted, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(np.mean(recall))
    if set(predicted) <= set(true):
        assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))


@pytest.mark.parametrize("primary_score", [("macro_f1",), ("balanced_accuracy",), ("accuracy", "macro_f1")])
def test_resampled_scores_are_the_scores_of_the_resamples(primary_score):
    rng = np.random.default_rng(0)
    task, labels, predictions = three_classes(primary_score), rng.integers(3, size=12), rng.integers(3, size=(2, 12))
    drawn = rng.integers(12, size=(50, 12))
    weights = np.array([np.bincount(line, minlength=12) for line in drawn], dtype=float)
    found = primary_scores(task, labels.astype(float), predictions.astype(float), weights)
    for run, predicted in enumerate(predictions):
        for sample, rows in enumerate(drawn):
            scores = metrics.compute(task, predicted[rows], labels[rows])
            assert found[run, sample] == pytest.approx(np.mean([scores[name] for name in primary_score]))


def test_a_labelled_test_split_is_scored_and_an_unlabelled_one_is_not():
    task = get("pairs", define({**ENTRY, "test": "test.csv"}))
    frame = pd.DataFrame({"split": ["validation", "test", "test"], "idx": [0, 0, 1], "prediction": [1.0, 1, 0]})
    labelled = metrics.from_predictions(task, frame.assign(label=[1.0, 1, 1]))["splits"]
    assert labelled["test"]["accuracy"] == 0.5
    assert list(metrics.from_predictions(task, frame.assign(label=[1.0, 1, math.nan]))["splits"]) == ["validation"]


def report(tasks, synthetic=False) -> ReportSpec:
    own = {"pairs": define(ENTRY), "three": define({**ENTRY, "title": "CoLA"})}
    content = {
        "tasks": tasks,
        "custom_tasks": {task: own[task] for task in tasks if task in own},
        "variants": [{"name": "kd", "method": "kd", "label": "kd"}],
        "seeds": [1],
        "synthetic": synthetic,
        "teacher_model": "big",
        "student_model": "small",
        "selection": {"teacher": "best", "student": "best"},
    }
    return ReportSpec.from_json(json.dumps(content))


def test_texts_say_whose_data_they_are_about():
    own = "My pairs (custom data, not GLUE)"
    assert data_text(report(["pairs"])) == f"Dev scores (×100) on {own}."
    assert data_text(report(["rte", "pairs"])) == f"Dev scores (×100) on GLUE's RTE and on {own}."
    mixed = data_text(report(["rte", "pairs"], synthetic=True))
    assert mixed.startswith(
        f"Dev scores (×100) on SYNTHETIC stand-ins for RTE: generated text, not GLUE, and on {own}."
    )
    assert report(["rte", "pairs"], synthetic=True).heading == "RTE: synthetic data, not GLUE."
    assert report(["rte"], synthetic=True).heading == "Synthetic data, not GLUE."
    assert report(["pairs"]).heading == ""
    assert score_name(get("pairs")) == "Accuracy–F1 mean"


def test_averages_do_not_mix_glue_with_other_tasks():
    report(["pairs", "three"])
    assert averaged(["pairs", "rte", "wnli", "cola"]) == ["rte", "cola"]
    assert averaged(["pairs", "three"]) == ["pairs", "three"]
    assert [task.name for task in averaged_columns(columns(["pairs", "rte", "cola"]))] == ["rte", "cola"]


def test_runs_of_own_tasks_are_not_synthetic_and_those_beside_them_are():
    spec = report(["rte", "pairs"], synthetic=True)
    runs = pd.DataFrame({"task": ["rte", "pairs"], "variant": "kd", "seed": 1, "synthetic": [True, False], "file": "f"})
    spec.admit(runs)
    with pytest.raises(RkdError, match="synthetic is False"):
        spec.admit(runs.assign(synthetic=False))
    with pytest.raises(RkdError, match="synthetic is True"):
        replace(spec, synthetic=False).admit(runs)


def test_published_rows_are_glue_s_whatever_the_title():
    from rkd.report.tables import literature

    report(["three"])
    assert get("three").title == "CoLA"
    assert all(literature.scores(row, get("three")) == [] for row in literature.ENTRIES)


def test_a_submission_without_any_task_of_glue_says_what_it_wants(tmp_path):
    with pytest.raises(RkdError, match=r"submission: no predictions for AX\.tsv, CoLA\.tsv"):
        submit([], tmp_path / "kd.zip")
