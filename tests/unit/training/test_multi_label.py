"""Tasks in which a text may have several labels: losses, sets as numbers, metrics, data, whole distillations."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.distributions import Bernoulli, kl_divergence
from transformers import pipeline

from rkd.config.load import check, load
from rkd.data.files import find_labels, parts
from rkd.errors import RkdError
from rkd.inference import Classifier
from rkd.label_sets import set_names, set_number
from rkd.losses import multi_label_kd_loss, soft_binary_cross_entropy
from rkd.methods.base import indicators, task_loss
from rkd.metrics import scores, weighted
from rkd.metrics.by_class import by_class
from rkd.models.soft_labels import SoftLabels
from rkd.runs.history import read_history
from rkd.tasks import define, get, label_text, label_value
from rkd.training import evaluation
from rkd.training.batches import load_prepared
from rkd.verify import verify
from rkd.workflow.plan import Plan
from tests.helpers.architectures import save
from tests.helpers.configs import merged
from tests.helpers.label_sets import ENTRY, LABELS, TASK, distil, feelings
from tests.helpers.models import bert

# Losses.


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_distillation_loss_is_the_mean_divergence_of_the_answers(temperature):
    z_s, z_t = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    answers = [Bernoulli(logits=z / temperature) for z in (z_t, z_s)]
    expected = temperature**2 * kl_divergence(*answers).mean()
    found = multi_label_kd_loss(z_s, z_t, temperature)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    assert multi_label_kd_loss(z_s, z_s, temperature) == 0
    assert torch.autograd.gradcheck(
        lambda z: multi_label_kd_loss(z, z_t.detach(), temperature), z_s.detach().requires_grad_()
    )


def test_extreme_logits_stay_finite():
    z = torch.tensor([[1e4, -1e4, 0.0]])
    assert multi_label_kd_loss(-z, z, 5.0).isfinite()
    assert SoftLabels([bert(1, seed=0, labels=3)]).divisor == 1


def test_the_soft_cross_entropy_is_the_divergence_and_the_entropy():
    z_s, z_t = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    entropy = Bernoulli(logits=z_t).entropy().mean()
    torch.testing.assert_close(soft_binary_cross_entropy(z_s, z_t), multi_label_kd_loss(z_s, z_t, 1.0) + entropy)
    found = evaluation.soft_label_statistics(z_s, z_t, 2.0, multi_label=True)
    assert found["entropy"] == pytest.approx(float(Bernoulli(logits=z_t / 2).entropy().mean()))
    assert found["kl"] == pytest.approx(float(multi_label_kd_loss(z_s, z_t, 2.0)) / 4)


def test_the_task_loss_is_that_of_transformers():
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    sets = torch.tensor([0, 5, 7, 2])
    targets = torch.tensor([[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]])
    assert torch.equal(indicators(sets, 3), targets)
    expected = torch.nn.BCEWithLogitsLoss()(z, targets.float())
    assert torch.equal(task_loss(z, sets, multi_label=True), expected)
    torch.testing.assert_close(task_loss(z, sets, multi_label=True, unlabelled=True), expected)
    known = torch.tensor([-1, 5, -1, 2])
    half = torch.nn.BCEWithLogitsLoss(reduction="sum")(z[[1, 3]], targets[[1, 3]].float()) / 12
    torch.testing.assert_close(task_loss(z, known, multi_label=True, unlabelled=True), half)


def test_several_teachers_give_the_mean_of_their_probabilities():
    teachers = [bert(1, seed=seed, labels=3).eval() for seed in (0, 1)]
    for each in teachers:
        each.config.problem_type = "multi_label_classification"
    ids, mask = (
        torch.randint(5, 50, (4, 6), generator=torch.Generator().manual_seed(0)),
        torch.ones(4, 6, dtype=torch.long),
    )
    found = SoftLabels(teachers)(ids, mask).logits.sigmoid()
    expected = torch.stack([each(ids, mask).logits.sigmoid() for each in teachers]).mean(dim=0)
    torch.testing.assert_close(found, expected)


# Sets as numbers, and their metrics.


def test_sets_are_numbers_and_names():
    for names in ([], ["anger"], ["good", "sadness"], LABELS):
        number = set_number(LABELS.index(name) for name in names)
        assert set_names(number, LABELS) == names
        assert label_value(TASK, label_text(TASK, number)) == number
    many = [f"label {index}" for index in range(50)]
    assert set_names(float(set_number(range(50))), many) == many, "exact as the number of a file"


def indicator(sets):
    return np.array([[number >> label & 1 for label in range(3)] for number in sets])


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    predicted, true = (np.concatenate([rng.integers(0, 8, 40), [7]]) for _ in range(2))
    found = scores.compute(TASK, predicted, true)
    a, b = indicator(predicted), indicator(true)
    assert found["micro_f1"] == pytest.approx(sklearn.f1_score(b, a, average="micro"))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(b, a, average="macro"))
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(b, a))
    each = sklearn.precision_recall_fscore_support(b, a, zero_division=np.nan)
    classes = by_class(LABELS, predicted, true, multi_label=True)
    for name, expected in zip(("precision", "recall", "f1", "support"), each, strict=True):
        assert [getattr(one, name) for one in classes.classes] == pytest.approx(expected.tolist())
    assert classes.confusion is None
    assert "confusion" not in classes.as_dict()
    weights = rng.multinomial(41, np.full(41, 1 / 41), size=6).astype(float)
    for name in TASK.metrics:
        one = get("one", define({**ENTRY, "metrics": [name], "primary_metrics": [name]}))
        drawn = weighted.primary_scores(one, true.astype(float), predicted[None].astype(float), weights)
        expected = [
            scores.compute(one, np.repeat(predicted, w.astype(int)), np.repeat(true, w.astype(int)))[name]
            for w in weights
        ]
        assert drawn[0] == pytest.approx(expected)


def test_no_label_anywhere_is_no_error():
    found = scores.compute(TASK, [0, 0], [0, 0])
    assert found == {"micro_f1": 0.0, "macro_f1": 0.0, "accuracy": 1.0}
    with pytest.raises(RkdError, match="no sets of labels, the first is 8; expected whole numbers from 0 to 7"):
        scores.compute(TASK, [8, 0], [0, 0])


def test_a_set_holds_the_labels_with_a_probability_above_one_half():
    z = torch.tensor([[1.0, -1.0, 2.0], [-1.0, -1.0, -0.1], [0.0, 3.0, -2.0]])
    assert evaluation.decide(TASK, z).tolist() == [5, 0, 2]


# Data.


def test_cells_are_lists_or_text():
    assert parts("a;  b ;", ";") == ["a", "b"]
    assert parts("a|b", "|") == ["a", "b"]
    assert parts(["a", "b"], ";") == ["a", "b"]
    assert parts(None, ";") == parts("", ";") == parts([], ";") == []
    assert parts(3, ";") == [3]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_gives_the_same_sets(suffix, tmp_path):
    frame = feelings(40, lists=suffix != "csv")
    file = tmp_path / f"data.{suffix}"
    if suffix == "csv":
        frame.to_csv(file, index=False)
    elif suffix == "parquet":
        frame.to_parquet(file, index=False)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    assert find_labels({"path": str(file)}, "tags", ";") == LABELS
    distil(file, method="finetune", out=tmp_path / "out", epochs=1, teacher=None, finetune_teacher=False)
    found = load_prepared(tmp_path / "out/data")[2]["train"].labels.tolist()
    expected = [set_number(map(LABELS.index, tags)) for tags in feelings(40, lists=True)["tags"]]
    assert found == expected
    assert 0 in found


# Whole distillations.


@pytest.mark.parametrize("method", ["kd", "reptile", "online", "metadistil", "tinybert", "pkd"])
def test_every_method_learns_sets(method, tmp_path):
    options = {"quiz_fraction": 0.2} if method == "metadistil" else {}
    out = tmp_path / "out"
    distil(feelings(), method=method, options=options, out=out, epochs=1)
    last = read_history(out / "student/history.jsonl")[-1]
    assert set(last["dev"]["validation"]) == {"micro_f1"}
    assert last["teacher"]["kl"] >= 0
    assert verify([out]).findings == ()


def test_predictions_exports_and_the_pipeline_agree(tmp_path):
    out = tmp_path / "out"
    result = distil(feelings(), out=out, metrics=["micro_f1", "accuracy"], learning_rate=3e-3)
    dev = tmp_path / "dev.csv"
    feelings(60, 7).to_csv(dev, index=False)
    answers = Classifier(out / "student").predict(dev)
    recorded = result.predictions.query("split == 'validation'").sort_values("idx")
    assert answers["prediction"].tolist() == recorded["prediction"].tolist()
    assert recorded["label"].tolist() == ["".join(tags).replace("; ", ";") for tags in feelings(60, 7)["tags"]]
    found = Classifier(out / "student").evaluate(dev, each_class=True)
    assert found["micro_f1"] == pytest.approx(result.metrics["splits"]["validation"]["micro_f1"])
    assert [one["label"] for one in found["classes"]] == LABELS
    card = (result.save(tmp_path / "export") / "README.md").read_text()
    assert "| sadness |" in card
    assert "finds the labels of texts: none, one or several of anger, good, sadness" in card
    snippet = card.split("```python\n")[1].split("```")[0].replace('"…"', "text")
    snippet = snippet.replace('model="export"', f'model="{tmp_path / "export"}"').replace("print", "found.append")
    for text, tags in zip(feelings(60, 7)["text"][:8], answers["prediction"], strict=False):
        found = []
        exec(snippet, {"text": text, "found": found})
        assert {*found[0]} == {*filter(None, tags.split(";"))}
    assert "Confusion" not in card
    classify = pipeline("text-classification", model=str(tmp_path / "export"), top_k=None)
    for text, (_, answer) in zip(feelings(60, 7)["text"][:8], answers.iterrows(), strict=False):
        for entry in classify([text])[0]:
            assert entry["score"] == pytest.approx(answer[f"p_{entry['label']}"], abs=1e-4)


def test_unlabelled_rows_go_with_several_labels(tmp_path):
    distil(feelings(), unlabelled=feelings(30, 3)[["text"]], out=tmp_path / "out", epochs=1)
    assert (~load_prepared(tmp_path / "out/data")[2]["train"].labelled).sum() == 30


WRONG = {
    "weights": ({"class_weights": "balanced"}, "class_weights: found balanced; expected null with multi_label"),
    "soft labels": (
        {"soft_labels": ["a", "b"], "method": "kd"},
        "soft_labels: found 'a', 'b'; expected none with multi_label",
    ),
    "scores": ({"scores": "any", "labels": None}, "scores: found 'any' beside multi_label; expected one of them"),
    "metrics": ({"metrics": ["balanced_accuracy"]}, "metrics"),
    "no separator": ({"label_separator": ""}, "^label_separator: found ''; expected at least one character$"),
    "a word": ({"multi_label": "yes"}, "multi_label: found 'yes'; expected True or False"),
    "alone": (
        {"multi_label": False, "label_separator": "|"},
        "label_separator: found '|'; expected none without multi_label",
    ),
    "one label": ({"multi_label": False}, "expected one of the labels anger, good, sadness"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_go_together_is_refused(fields, message, tmp_path):
    with pytest.raises(RkdError, match=message.replace("|", r"\|")):
        distil(feelings(), out=tmp_path / "out", **fields)
    assert not (tmp_path / "out/student").exists()


def test_unknown_labels_and_files_without_any_are_refused(tmp_path):
    frame = feelings()
    frame.loc[4, "tags"] = "good; joy"
    with pytest.raises(
        RkdError, match="row 5, column 'tags': found 'good; joy'; expected labels of anger, good, sadness"
    ):
        distil(frame)
    for empty in ("", None, [[]] * len(frame)):
        with pytest.raises(RkdError, match="found no label in any row"):
            distil(frame.assign(tags=empty))


@pytest.mark.parametrize("labels", [LABELS, None])
def test_another_separator_than_that_of_the_rows_is_named(labels):
    frame = feelings()
    frame["tags"] = frame["tags"].str.replace("; ", "|")
    with pytest.raises(RkdError, match=r"found 'good\|sadness|found the label 'good\|sadness'") as error:
        distil(frame, labels=labels)
    assert "'|'" in str(error.value)
    assert "label_separator" in str(error.value)


def test_lists_as_text_and_sets_of_different_types_are_told():
    frame = feelings(40, lists=True)
    for cell, message in (
        ("['good']", "separated by ';' and without brackets"),
        ({1, "good"}, "column 'tags': found lists with values of the types int, str; expected one type"),
    ):
        with pytest.raises(RkdError, match=message):
            distil(frame.assign(tags=[cell] * 40))


@pytest.mark.parametrize("form", [np.array, tuple, set])
def test_cells_of_a_dataframe_may_be_arrays_tuples_or_sets(form, tmp_path):
    lists = feelings(lists=True)
    frames = {"out": lists.assign(tags=[form(tags) for tags in lists["tags"]]), "lists": lists}
    for name, frame in frames.items():
        distil(frame, out=tmp_path / name, epochs=1, labels=None)
    found = [load_prepared(tmp_path / name / "data")[2]["train"].labels for name in frames]
    assert torch.equal(*found)


def test_cells_without_a_value_are_told(caplog):
    frame = feelings()
    distil(frame.assign(tags=frame["tags"].mask(frame.index % 10 == 3)), epochs=1)
    assert "column 'tags': 12 rows have no value, the first is row 4; they are read as texts with none" in caplog.text


def test_a_teacher_of_the_other_kind_is_refused(tmp_path):
    one = save(tmp_path / "one", "bert")
    several = save(tmp_path / "several", "bert", problem_type="multi_label_classification")
    short = {"finetune_teacher": False, "labels": ["bad", "good"], "max_length": 16}
    tags = pd.DataFrame({"text": ["good film", "bad film", "so so"] * 8, "tags": ["good", "bad", "good;bad"] * 8})
    with pytest.raises(RkdError, match="found problem_type None; expected multi_label_classification"):
        distil(tags, teacher=one, student=one, dev=tags, **short)
    with pytest.raises(RkdError, match="found problem_type multi_label_classification; expected one label per text"):
        distil(tags[tags["tags"] != "good;bad"], teacher=several, student=several, dev=None, multi_label=False, **short)
    distil(tags, teacher=several, student=several, dev=tags, **{**short, "epochs": 1})


def test_a_teacher_of_rare_labels_is_not_near_chance():
    rng = torch.Generator().manual_seed(0)
    members = (torch.rand(400, 3, generator=rng) < 0.03).long()
    sets = (members << torch.arange(3)).sum(dim=1)
    noise = torch.randn(400, 3, generator=rng)
    assert evaluation.near_chance(TASK, 3.0 * members + noise - 3, sets) == ""
    assert evaluation.near_chance(TASK, noise - 3, sets).startswith("correlation of logits and labels")
    assert evaluation.near_chance(TASK, torch.zeros(400, 3), sets) == "correlation of logits and labels 0.00"


# The config.


@pytest.fixture
def content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev"):
        feelings(30, len(name)).to_csv(f"{name}.csv", index=False)
    task = {
        "train": "train.csv",
        "dev": "dev.csv",
        "text": ["text"],
        "label": "tags",
        "labels": LABELS,
        "multi_label": True,
    }
    return merged() | {"tasks": ["feelings"], "custom_tasks": {"feelings": task}, "ablations": {}}


def test_a_plan_of_several_labels(content):
    plan = Plan(load(content))
    spec = plan.student("feelings", "kd", 1)
    assert spec.custom_task is not None
    assert (spec.custom_task["multi_label"], spec.custom_task["label_separator"]) == (True, ";")
    assert spec.custom_task["metrics"] == ["micro_f1"]
    one = {**content["custom_tasks"]["feelings"], "multi_label": False}
    other = Plan(load({**content, "custom_tasks": {"feelings": one}}))
    assert "multi_label" not in other.student("feelings", "kd", 1).json()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"metrics": ["f1"]}, "metrics[0]"),
        ({"label_separator": "ge"}, "labels[0]"),
        ({"multi_label": False, "label_separator": "|"}, "label_separator"),
        ({"labels": [f"l{n}" for n in range(51)]}, "labels"),
        ({"soft_labels": ["a", "b", "c"]}, "soft_labels"),
    ],
)
def test_a_config_that_does_not_go_together_says_where(content, changes, path):
    content["custom_tasks"]["feelings"] |= changes
    found = [problem.path for problem in check(content)]
    assert any(each.replace(".0", "[0]").endswith(path) for each in found), found
