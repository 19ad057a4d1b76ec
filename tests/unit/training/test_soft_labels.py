"""Unlabelled rows and soft labels: their terms of the loss, their rows in a run, and whole distillations."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from datasets import load_from_disk

import rkd
from rkd.data.soft_columns import columns_of, labels_of
from rkd.data.unlabelled import SOFT
from rkd.errors import RkdError
from rkd.losses import kd_loss
from rkd.methods import KD, FineTune
from rkd.methods.base import task_loss
from rkd.methods.build import build
from rkd.runs.history import read_history
from rkd.runs.manifest import read_manifest
from rkd.runs.record import read_record
from rkd.training.batches import load_prepared
from rkd.verify import verify
from tests.helpers.distillation import TINY, reviews
from tests.helpers.models import bert, random_batch

SETTINGS = {"student_lr": 1e-2, "total_steps": 10}


def with_probabilities(frame: pd.DataFrame, sure=0.9) -> pd.DataFrame:
    good = np.where(frame["mood"] == "good", sure, 1 - sure)
    return frame.assign(p_bad=1 - good, p_good=good)


def student(**fields):
    return rkd.distill(**{**TINY, "teacher": None, "finetune_teacher": False, "dev": reviews(40, seed=7), **fields})


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0])])
def test_an_unlabelled_example_adds_nothing_to_the_task_loss(weights):
    z, labels = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, -1, 1, -1])
    known = [0, 2]
    each = F.cross_entropy(z[known], labels[known], weights, reduction="none")
    assert torch.allclose(task_loss(z, labels, weights, unlabelled=True), each.sum() / 4)
    all_labelled = torch.tensor([0, 1, 1, 0])
    assert torch.allclose(task_loss(z, all_labelled, weights, unlabelled=True), task_loss(z, all_labelled, weights))


def test_an_example_without_a_score_adds_nothing_to_the_task_loss():
    z, scores = torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([0.0, torch.nan, 3.0])
    assert task_loss(z, scores, unlabelled=True) == pytest.approx((1 + 4) / 3)
    assert task_loss(z, scores.new_full((3,), torch.nan), unlabelled=True) == 0


@pytest.mark.parametrize("parts", [1, 3])
def test_a_step_on_a_batch_without_any_label_is_distillation_alone(parts):
    batch = random_batch(0)
    batch["labels"] = torch.full_like(batch["labels"], -1)
    model, teacher = bert(2, seed=0), bert(4, seed=1)
    method = KD(copy.deepcopy(model), teacher, alpha=0.5, unlabelled=True, gradient_accumulation=parts, **SETTINGS)
    only = KD(copy.deepcopy(model), teacher, alpha=1.0, **SETTINGS)
    losses = method.step(batch)
    assert losses["task"] == 0
    assert losses["kd"] == pytest.approx(only.step(random_batch(0))["kd"], rel=1e-4)
    assert losses["loss"] == pytest.approx(0.5 * losses["kd"])


def test_soft_labels_of_a_teacher_give_the_step_of_that_teacher():
    batch, model, teacher = random_batch(0), bert(2, seed=0), bert(4, seed=1).eval()
    z = teacher(**{key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids")}).logits.detach()
    taught = KD(copy.deepcopy(model), teacher, alpha=0.3, temperature=4.0, **SETTINGS)
    given = KD(copy.deepcopy(model), None, alpha=0.3, temperature=4.0, **SETTINGS)
    expected = taught.step(batch)
    found = given.step({**batch, SOFT: F.log_softmax(z, dim=-1)})
    assert found == pytest.approx(expected, rel=1e-5)


def test_examples_without_soft_labels_add_nothing_to_the_soft_term():
    batch = random_batch(0)
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(3))
    z[1] = z[4] = torch.nan
    method = KD(bert(2, seed=0), None, alpha=1.0, temperature=2.0, **SETTINGS)
    z_s = torch.randn(6, 2, generator=torch.Generator().manual_seed(4))
    known = [0, 2, 3, 5]
    assert torch.allclose(method.soft_loss(z_s, z), kd_loss(z_s[known], z[known], 2.0) * 4 / 6)
    assert method.soft_loss(z_s, torch.full_like(z, torch.nan)) == 0
    assert np.isfinite(method.step({**batch, SOFT: z})["loss"])


def test_columns_find_their_labels_in_any_order():
    assert columns_of(["bad", "good"], ["good", "bad"]) == ["bad", "good"]
    assert columns_of(["0", "1"], {1: "positive", 0: "negative"}) == ["negative", "positive"]
    assert columns_of([], ["score"]) == ["score"]
    assert labels_of(["p_1", "p_0"]) == ["1", "0"]
    assert labels_of(["p_bad", "other"]) == ["p_bad", "other"]


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        (["bad", "good"], ["p_bad"], "no column of the label 'good' among p_bad"),
        (["bad", "good"], ["p_bad", "good", "p_ugly"], "'p_ugly', which is of no label"),
        (["bad", "good"], {"bad": "a", "god": "b"}, "no column of the label 'good'"),
        (["bad", "good"], {"bad": "a", "good": "b", "ugly": "c"}, "'ugly', which is of no label"),
        ([], ["a", "b"], "expected one column, that of the score"),
    ],
)
def test_columns_of_other_labels_are_refused(labels, given, message):
    with pytest.raises(RkdError, match=message):
        columns_of(labels, given)


def test_soft_labels_reach_the_student_as_logarithms(tmp_path):
    frame = with_probabilities(reviews(), sure=1.0)
    frame.loc[3, ["p_bad", "p_good"]] = np.nan
    out = tmp_path / "out"
    result = student(data=frame, soft_labels=["p_good", "p_bad"], labels=["bad", "good"], out=out)
    split = load_prepared(out / "data")[2]["train"]
    one = split.batch(torch.tensor([0]))[SOFT][0]
    assert sorted(one.tolist()) == [-1e4, 0.0]
    assert int(one.argmax()) == split.labels[0]
    assert split.soft_labels[3].isnan().all()
    record = read_record(out / "student/run.json", "spec", "teacher")
    assert record["spec"]["options"][SOFT] is True
    assert record["teacher"] is None
    assert "teacher" not in read_history(out / "student/history.jsonl")[-1]
    assert verify([out]).findings == ()
    assert (
        "soft labels from the data in place of a teacher"
        in (result.save(tmp_path / "export") / "README.md").read_text()
    )


def test_a_file_of_predictions_takes_the_place_of_a_teacher(tmp_path):
    frame, file = reviews(), tmp_path / "answers.csv"
    with_probabilities(frame)[["text", "p_bad", "p_good"]].to_csv(file, index=False)
    student(data=frame, soft_labels=file, out=tmp_path / "a")
    student(data=with_probabilities(frame), soft_labels=["p_bad", "p_good"], out=tmp_path / "b")
    histories = [read_history(tmp_path / each / "student/history.jsonl")[-1]["train"] for each in "ab"]
    assert histories[0] == histories[1]
    digests = [read_manifest(tmp_path / each / "data/manifest.json")["soft_labels"]["sha256"] for each in "ab"]
    assert digests[0] == digests[1]


def test_rows_may_have_soft_labels_alone_and_no_label_column_is_needed(tmp_path):
    frame = with_probabilities(reviews()).drop(columns="mood")
    student(data=frame, soft_labels=["p_bad", "p_good"], out=tmp_path / "out")
    last = read_history(tmp_path / "out/student/history.jsonl")[-1]
    assert last["train"]["task"] == 0
    assert last["train"]["kd"] > 0


def test_held_out_rows_and_dev_rows_are_labelled_ones(tmp_path):
    frame = with_probabilities(reviews(200))
    frame.loc[50:, "mood"] = None
    student(
        data=frame, dev=None, soft_labels=["p_bad", "p_good"], out=tmp_path / "out", dev_fraction=0.2,
        selection="held-out", held_out_fraction=0.25,
    )  # fmt: skip
    rows = load_from_disk(str(tmp_path / "out/data/dataset"))
    assert rows["validation"].num_rows == 10
    assert max(rows["validation"]["idx"]) < 50
    assert (rows["train"].num_rows, sum(label == -1 for label in rows["train"]["label"])) == (190, 150)


def test_regression_takes_scores_as_soft_labels():
    frame = reviews()
    frame["score"] = np.where(frame["mood"] == "good", 4.0, 1.0)
    given = frame.assign(mood=frame["score"] - 0.5, teacher=frame["score"])
    found = student(data=given, dev=None, soft_labels=["teacher"], scores=(0, 5))
    assert found.metrics["splits"]["validation"]["rows"] == 10


@pytest.mark.parametrize("method", ["kd", "reptile", "online", "lgtm", "metadistil", "pkd", "tinybert"])
def test_every_method_with_a_teacher_learns_from_unlabelled_rows(method, tmp_path):
    more = reviews(32, seed=5)[["text"]]
    out = tmp_path / "out"
    quiz = method in ("lgtm", "metadistil")
    options = {"quiz_fraction": 0.2} if quiz else {}
    rkd.distill(reviews(), **{**TINY, "method": method}, options=options, unlabelled=more, out=out)
    whole = read_manifest(out / "data/manifest.json")
    assert whole["unlabelled"]["rows"] == 32
    assert whole["splits"]["train"]["rows"] == 86 + 32
    teacher, ours = (read_history(out / part / "history.jsonl")[-1]["step"] for part in ("teacher", "student"))
    assert teacher == 6
    assert ours == (7 if quiz else 8)  # 17 of the labelled rows are the quiz
    assert verify([out]).findings == ()


def test_without_unlabelled_rows_a_step_keeps_its_bits():
    batch, model = random_batch(1), bert(2, seed=0)
    plain, flagged = (FineTune(copy.deepcopy(model), **SETTINGS, unlabelled=each) for each in (False, True))
    assert plain.step(batch)["loss"] == pytest.approx(flagged.step(batch)["loss"], rel=1e-6)
    with pytest.raises((IndexError, RuntimeError)):  # a label that no task has is never read as a missing one
        plain.step({**batch, "labels": torch.full_like(batch["labels"], -1)})


def test_methods_that_read_more_than_logits_are_refused():
    with pytest.raises(RkdError, match="method: found reptile; expected kd with soft_labels"):
        student(data=with_probabilities(reviews()), soft_labels=["p_bad", "p_good"], method="reptile")
    with pytest.raises(RkdError, match="found soft labels; expected a teacher"):
        build("reptile", bert(2, seed=0), options={SOFT: True}, student_lr=1e-3, total_steps=1)


CASES = {
    "a sum": ({"p_good": 0.2}, "row 4: the probabilities sum to"),
    "a hole": ({"p_good": None}, "row 4, column 'p_good': found nothing; expected a probability as in the other"),
    "not a number": ({"p_good": "much"}, "row 4, column 'p_good': found 'much'; expected a probability from 0 to 1"),
    "a percentage": ({"p_good": 90.0}, "row 4, column 'p_good': found 90.0; expected a probability from 0 to 1"),
    "nothing": ({"p_good": None, "p_bad": None, "mood": None}, "row 4: found neither a label nor soft labels"),
    "a negative one": ({"p_good": -0.1, "p_bad": 1.1}, "found 1.1; expected a probability"),
}


@pytest.mark.parametrize(("cells", "message"), CASES.values(), ids=CASES)
def test_wrong_soft_labels_are_refused_before_any_training(cells, message, tmp_path):
    frame = with_probabilities(reviews())
    for column, value in cells.items():
        if isinstance(value, str):
            frame[column] = frame[column].astype(str)
        frame.loc[3, column] = value
    with pytest.raises(RkdError, match=message):
        student(data=frame, soft_labels=["p_bad", "p_good"], out=tmp_path / "out")
    assert not (tmp_path / "out/student").exists()


FRAME = with_probabilities(reviews())
ARGUMENTS = {
    "a teacher, too": ({"teacher": "x"}, "teacher: found 'x' beside soft_labels; expected one of them"),
    "one column": ({"soft_labels": ["p_bad"]}, "soft_labels: found 'p_bad'; expected a column per label"),
    "another column": ({"soft_labels": ["p_bad", "p_god"]}, "column 'p_god' is missing"),
    "one for two": ({"soft_labels": {"bad": "p_bad", "good": "p_bad"}}, "soft_labels: found 'p_bad' for two labels"),
    "a text": (
        {"soft_labels": {"bad": "p_bad", "good": "text"}},
        "soft_labels: found 'text', a column of text or label",
    ),
    "none in any row": (
        {"data": FRAME.assign(p_bad=np.nan, p_good=np.nan)},
        "columns 'p_bad', 'p_good': found no training row with soft labels",
    ),
    "another order": (
        {"soft_labels": FRAME[["p_bad", "p_good"]].iloc[::-1]},
        "soft_labels: found the index of data in another order; expected the same order",
    ),
    "a number": ({"soft_labels": 3}, "soft_labels: found 3; expected columns"),
    "no such file": ({"soft_labels": "no.csv"}, "soft_labels: found 'no.csv'; expected a .csv"),
    "fewer rows": ({"soft_labels": FRAME.iloc[1:]}, "found 95 rows of soft labels; expected 96, one per training row"),
    "other texts": ({"soft_labels": FRAME.iloc[::-1].reset_index()}, "the text of that training row"),
    "rows without": ({"unlabelled": FRAME[["text"]]}, "unlabelled: columns 'p_bad', 'p_good' are missing"),
    "no teacher at all": (
        {"method": "finetune", "soft_labels": None, "unlabelled": FRAME[["text"]]},
        "method finetune learns from labels alone",
    ),
}


@pytest.mark.parametrize(("given", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(RkdError, match=message):
        student(**{"data": FRAME, "soft_labels": ["p_bad", "p_good"], **given})
