"""Multi-label tasks whose labels have a column of 0 and 1 each, and what models of the other kind are refused for."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
from transformers import pipeline

from rkd.cli import main
from rkd.config.load import check, load
from rkd.data.files import find_labels, read_splits
from rkd.distillation.request import Request
from rkd.errors import RkdError
from rkd.export import export
from rkd.inference import Classifier
from rkd.label_sets import set_number
from rkd.runs.result import read_result
from rkd.tasks import define, get
from rkd.training.batches import load_prepared
from rkd.verify import verify
from rkd.workflow.plan import Plan
from tests.helpers.architectures import save
from tests.helpers.configs import merged
from tests.helpers.label_sets import ENTRY, LABELS, TASK, columns, distil, feelings

OWN_COLUMNS = {**ENTRY, "label": LABELS}
COLUMNS = get("columns", define(OWN_COLUMNS))


def splits(folder, task=COLUMNS, **frames):
    files = {}
    for split, frame in frames.items():
        files[split] = {"path": str(folder / f"{split}.csv")}
        frame.to_csv(folder / f"{split}.csv", index=False)
    return read_splits(task, {"files": files, "scores": None})


def with_cell(value, column="good", row=4) -> pd.DataFrame:
    frame = columns(20).astype(object)
    frame.loc[row, column] = value
    return frame


def test_columns_and_lists_are_the_same_task(tmp_path):
    of_columns = splits(tmp_path, train=columns(), validation=columns(60, 7))
    of_tags = splits(tmp_path, TASK, train=feelings(), validation=feelings(60, 7))
    for split in ("train", "validation"):
        assert of_columns[split]["label"][:] == of_tags[split]["label"][:]
    assert {0, 7} < set(of_columns["train"]["label"][:])


@pytest.mark.parametrize("value", [1, "1", 1.0, True, "True"])
def test_cells_may_be_numbers_text_or_truth_values(tmp_path, value):
    found = splits(tmp_path, train=with_cell(value), validation=columns(9))["train"]["label"][4]
    assert found >> LABELS.index("good") & 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (with_cell(2), "train.csv, row 5, column 'good': found '2'; expected 0 or 1"),
        (with_cell("yes"), "train.csv, row 5, column 'good': found 'yes'; expected 0 or 1"),
        (with_cell(""), "train.csv, row 5, column 'good': found nothing; expected 0 or 1"),
        (columns(20).assign(anger=0, good=0, sadness=0), "found 0 in every row; expected some 1"),
        (columns(20).drop(columns="good"), "train.csv: column 'good' is missing"),
    ],
)
def test_wrong_cells_are_one_error(tmp_path, frame, message):
    with pytest.raises(RkdError, match=message):
        splits(tmp_path, train=frame, validation=columns(9))


def test_test_rows_may_lack_labels(tmp_path):
    task = get("columns", define({**OWN_COLUMNS, "test": "test.csv"}))
    both = {"train": columns(), "validation": columns(9)}
    bare = splits(tmp_path, task, **both, test=columns(5)[["text"]])
    assert bare["test"]["label"][:] == [-1] * 5
    frame = columns(5).astype(object)
    frame.loc[2, LABELS] = None
    found = splits(tmp_path, task, **both, test=frame)["test"]["label"][:]
    assert (found[2], found[0]) == (-1, set_number(np.flatnonzero(frame.loc[0, LABELS]).tolist()))
    with pytest.raises(RkdError, match=r"found the label columns anger, sadness; expected good, too, or none"):
        splits(tmp_path, task, **both, test=columns(5).drop(columns="good"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("columns") / "out"
    distil(columns(), label=LABELS, labels=None, dev=columns(60, 7), test=columns(9, 8), out=out, learning_rate=3e-3)
    return out


def test_the_library_reads_columns(trained):
    assert verify([trained]).findings == ()
    labels = load_prepared(trained / "data")[2]["train"].labels.tolist()
    assert labels == [set_number(map(LABELS.index, tags)) for tags in feelings(lists=True)["tags"]]
    assert read_result(trained / "student").metrics["splits"].keys() == {"validation", "test"}
    with pytest.raises(RkdError, match="another task \\(label anger, good, sadness → tags\\)"):
        distil(feelings(), out=trained)


def test_the_command_scores_a_run_and_an_export_by_columns(trained, tmp_path, capsys):
    dev = tmp_path / "dev.csv"
    columns(60, 7).to_csv(dev, index=False)
    tags = tmp_path / "tags.csv"
    feelings(60, 7, lists=True).assign(tags=lambda rows: rows["tags"].map("|".join)).to_csv(tags, index=False)
    folder = export(trained / "student", tmp_path / "export")
    assert "label `anger`, `good`, `sadness`" in (folder / "README.md").read_text()
    own = [flag for name in reversed(LABELS) for flag in ("--label", name)]
    calls = (
        [str(trained / "student"), str(dev)],
        [str(folder), str(dev), "--text", "text", *own],
        [str(folder), str(tags), "--text", "text", "--label", "tags", "--label-separator", "|"],
    )
    found = []
    for call in calls:
        with pytest.raises(SystemExit):
            main(["evaluate", *call, "--metric", "micro_f1", "--json"])
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] == found[2]
    assert found[0]["micro_f1"] == pytest.approx(read_result(trained / "student").metrics["primary_score"])
    assert found[0]["micro_f1"] > 0.5
    answers = Classifier(folder, "text").predict(dev)
    classify = pipeline("text-classification", model=str(folder), top_k=None, truncation=True)
    for text, (_, answer) in zip(columns(60, 7)["text"][:8], answers.iterrows(), strict=False):
        scores = {entry["label"]: entry["score"] for entry in classify([text])[0]}
        assert scores == pytest.approx({name: answer[f"p_{name}"] for name in LABELS}, abs=1e-4)
        assert answer["prediction"] == ";".join(name for name in LABELS if scores[name] > 0.5)


def test_the_command_distils_by_columns(trained, tmp_path, capsys):
    data = tmp_path / "data.csv"
    columns().to_csv(data, index=False)
    given = ["--data", str(data), "--text", "text", *(flag for name in LABELS for flag in ("--label", name))]
    base = trained / "teacher/model"
    models = ["--student", str(base), "--teacher", str(base), "--method", "kd", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main(["distill", *given, *models])
    assert stopped.value.code == 2
    assert (
        "--label: found ['anger', 'good', 'sadness']; expected one column, or --multi-label" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit) as stopped:
        main(["distill", *given, *models, "--multi-label", "--json", "-s", "epochs=1", "--max-length", "16"])
    captured = capsys.readouterr()
    assert stopped.value.code == 0, captured.err
    assert "micro_f1" in json.loads(captured.out)["splits"]["validation"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": ["anger"]}, "label: found ['anger']; expected one column, or two or more, one per label"),
        ({"label": ["anger", 3]}, "label: found 3"),
        ({"labels": ["anger", "joy"]}, "label: found ['anger', 'good', 'sadness']; expected a column for each of the"),
        ({"text": "good"}, "label: found 'good'; expected another column than those of text"),
    ],
)
def test_wrong_columns_are_refused_by_name(fields, message):
    given = {
        "data": columns(9),
        "student": "a/b",
        "teacher": "a/b",
        "text": "text",
        "label": LABELS,
        "multi_label": True,
    }
    with pytest.raises(RkdError) as error:
        Request(**{**given, **fields})
    assert message in str(error.value)


def test_a_model_with_one_label_per_text_takes_no_label_columns(tmp_path):
    folder = save(tmp_path / "one", "bert")
    for fields, message in (
        ({"label": ["bad", "good"]}, "label: found ['bad', 'good']; expected one column"),
        ({"label": "x", "label_separator": "|"}, "label_separator: found '|'; expected none"),
    ):
        with pytest.raises(RkdError) as error:
            Classifier(folder, "text", **fields)
        assert message in str(error.value)


@pytest.fixture
def content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev"):
        columns(30, len(name)).to_csv(f"{name}.csv", index=False)
    task = {"train": "train.csv", "dev": "dev.csv", "text": ["text"], "label": LABELS, "multi_label": True}
    return merged() | {"tasks": ["feelings"], "custom_tasks": {"feelings": task}, "ablations": {}}


def test_a_config_needs_no_labels_beside_the_columns(content):
    spec = Plan(load(content)).student("feelings", "kd", 1)
    assert spec.custom_task is not None
    assert (spec.custom_task["label"], spec.custom_task["labels"]) == (LABELS, LABELS)
    assert get("feelings", spec.custom_task).label_columns == tuple(LABELS)


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"multi_label": False}, "label", "one column, or multi_label: true"),
        ({"label": ["anger"]}, "label", "a column name, or with multi_label a list"),
        ({"label": ["anger", "joy"]}, "train", "a file with the columns of text and label"),
        ({"labels": ["anger", "good", "joy"]}, "label", "a column for each of the labels anger, good, joy"),
        ({"metrics": ["f1"]}, "metrics[0]", "one of"),
    ],
)
def test_a_config_with_wrong_columns_says_where(content, changes, path, expected):
    content["custom_tasks"]["feelings"] |= changes
    problems = {problem.path: problem.expected for problem in check(content)}
    assert expected in problems[f"custom_tasks.feelings.{path}"], problems


# Warnings and errors of lists and text.


def test_a_separator_that_separates_nothing_is_told(tmp_path, caplog):
    file = tmp_path / "data.csv"
    pd.DataFrame({"tags": ["a,b", "a", ""]}).to_csv(file, index=False)
    with caplog.at_level(logging.WARNING):
        find_labels({"path": str(file)}, "tags", ";")
    assert "no row has several labels; is ';' what separates them" in caplog.text
    caplog.clear()
    assert find_labels({"path": str(file)}, "tags", ",") == ["a", "b"]
    assert "several labels" not in caplog.text


def test_no_label_and_too_many_are_errors_of_the_file(tmp_path):
    file = tmp_path / "data.jsonl"
    for rows, message in (
        ([[], []], "column 'tags': found no label in any row"),
        ([[f"l{n}" for n in range(51)]], "found 51 different labels; expected 2 to 50$"),
    ):
        file.write_text("".join(json.dumps({"tags": tags}) + "\n" for tags in rows))
        with pytest.raises(RkdError, match=message):
            find_labels({"path": str(file)}, "tags", ";")
