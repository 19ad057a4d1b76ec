"""Predictions of a model: their order, their form as a table, and what they tell about a teacher."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Sequence, Value
from scipy.special import softmax
from scipy.stats import entropy

from rkd.tasks import get
from rkd.training import evaluation
from rkd.training.batches import Split
from tests.helpers.models import VOCABULARY, bert

CPU = torch.device("cpu")
FEATURES = {"input_ids": Sequence(Value("int32")), "label": Value("int64"), "idx": Value("int64")}


def split_of(lengths, labels, first_idx=0, score=False):
    generator = np.random.default_rng(0)
    features = {**FEATURES, "label": Value("float32")} if score else FEATURES
    columns = {
        "input_ids": [generator.integers(5, VOCABULARY, n).tolist() for n in lengths],
        "label": labels,
        "idx": list(range(first_idx, first_idx + len(lengths))),
    }
    return Split(Dataset.from_dict(columns, features=Features(features)), pad_token_id=0)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_predictions_are_in_file_order(batch_size, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH_SIZE", batch_size)
    model = bert(2, seed=0, labels=3)
    split = split_of([3, 9, 1, 4, 4, 9, 2], [0] * 7)
    z = evaluation.predict(model, split, CPU)
    assert (z.shape, z.dtype, z.device.type) == ((7, 3), torch.float32, "cpu")
    for row in range(7):
        batch = split.batch(torch.tensor([row]))
        own = model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        torch.testing.assert_close(z[row], own[0].detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_has_no_dropout_and_leaves_no_trace(training):
    model = bert(1, seed=0, dropout=0.5).train(training)
    split = split_of([3, 4], [0, 1])
    state = torch.get_rng_state()
    first, second = evaluation.predict(model, split, CPU), evaluation.predict(model, split, CPU)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), state), "a training run sees the same dropout masks with and without"


def test_an_empty_split_has_no_predictions():
    assert evaluation.predict(bert(1, seed=0, labels=3), split_of([], []), CPU).shape == (0, 3)


def test_decisions():
    z = torch.tensor([[0.1, 0.3, 0.2], [2.0, -1.0, 0.0]])
    assert evaluation.decide(get("mnli"), z).tolist() == [1.0, 0.0]
    scores = evaluation.decide(get("stsb"), torch.tensor([[2.5], [-0.5]]))
    assert (scores.tolist(), scores.dtype) == ([2.5, -0.5], np.float64)
    assert evaluation.decide(get("stsb"), torch.tensor([[2.5]])).shape == (1,)


def test_scores_and_primary_score_of_each_dev_split():
    z = {
        "validation_matched": torch.eye(3),
        "validation_mismatched": torch.eye(3),
        "ax": torch.eye(3),
    }
    splits = {
        "validation_matched": split_of([2, 2, 2], [0, 1, 0]),
        "validation_mismatched": split_of([2, 2, 2], [0, 1, 2]),
        "ax": split_of([2, 2, 2], [-1, -1, -1]),
    }
    dev = evaluation.scores(get("mnli"), z, splits)
    assert dev == {"validation_matched": {"accuracy": 2 / 3}, "validation_mismatched": {"accuracy": 1.0}}
    assert evaluation.dev_primary_score(get("mnli"), dev) == 2 / 3


def test_an_undefined_score_is_nan():
    splits = {"validation": split_of([2, 2], [1.0, 2.0], score=True)}
    dev = evaluation.scores(get("stsb"), {"validation": torch.ones(2, 1)}, splits)
    assert math.isnan(evaluation.dev_primary_score(get("stsb"), dev))


def test_the_table_of_predictions():
    splits = {"validation": split_of([2, 3], [1, 0], first_idx=7), "test": split_of([2], [-1])}
    z = {"validation": torch.tensor([[0.25, 0.5], [0.75, 0.0]]), "test": torch.tensor([[-1.0, -2.0]])}
    frame = evaluation.predictions_frame(get("rte"), z, splits)
    assert frame.columns.tolist() == ["split", "idx", "label", "prediction", "logit_0", "logit_1"]
    assert frame["split"].tolist() == ["validation", "validation", "test"]
    assert frame["idx"].tolist() == [7, 8, 0]
    np.testing.assert_array_equal(frame["label"], [1, 0, np.nan])
    assert frame["prediction"].tolist() == [1, 0, 0]
    assert frame[["logit_0", "logit_1"]].to_numpy().tolist() == [[0.25, 0.5], [0.75, 0.0], [-1.0, -2.0]]
    dtypes = frame.drop(columns="split").dtypes.astype(str).tolist()
    assert dtypes == ["int64", "float64", "float64", "float32", "float32"]


def test_the_table_of_scores():
    splits = {"validation": split_of([2], [3.5], score=True), "test": split_of([2], [math.nan], score=True)}
    z = {"validation": torch.tensor([[2.5]]), "test": torch.tensor([[-0.5]])}
    frame = evaluation.predictions_frame(get("stsb"), z, splits)
    np.testing.assert_array_equal(frame["label"], [3.5, np.nan])
    assert frame["prediction"].tolist() == frame["logit_0"].tolist() == [2.5, -0.5]


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_soft_label_statistics_against_scipy(temperature):
    generator = torch.Generator().manual_seed(0)
    z_s, z_t = 3 * torch.randn(2, 6, 3, generator=generator)
    p_s, p_t = (softmax(z.double().numpy() / temperature, axis=1) for z in (z_s, z_t))
    found = evaluation.soft_label_statistics(z_s, z_t, temperature)
    assert found["kl"] == pytest.approx(np.mean(entropy(p_t, p_s, axis=1)), rel=1e-9)
    assert found["entropy"] == pytest.approx(np.mean(entropy(p_t, axis=1)), rel=1e-9)


def test_soft_label_statistics_at_the_ends():
    same = evaluation.soft_label_statistics(torch.zeros(2, 4), torch.zeros(2, 4), 1.0)
    assert same == {"kl": 0.0, "entropy": pytest.approx(math.log(4))}
    certain = evaluation.soft_label_statistics(torch.zeros(1, 2), torch.tensor([[2000.0, 0.0]]), 1.0)
    assert certain == {"kl": pytest.approx(math.log(2)), "entropy": 0.0}
    regression = evaluation.soft_label_statistics(torch.zeros(2, 1), torch.ones(2, 1), 1.0)
    assert [math.isnan(value) for value in regression.values()] == [True, True]


@pytest.mark.parametrize(
    ("right", "expected"),
    [(0.5, "accuracy 50.0, always the most frequent class 60.0"), (0.65, "accuracy 65.0"), (0.8, "")],
)
def test_a_classifier_near_chance_is_recognised(right, expected):
    """100 examples, 60 of one class: up to 68 right answers may be chance."""
    labels = torch.tensor([0] * 60 + [1] * 40)
    answers = torch.where(torch.arange(100) < 100 * right, labels, 1 - labels)
    z = torch.nn.functional.one_hot(answers, 2).float()
    found = evaluation.near_chance(get("rte"), z, labels)
    assert found.startswith(expected)
    assert bool(found) == bool(expected)


def test_a_regression_near_chance_is_recognised():
    labels = torch.linspace(0, 5, 100)
    assert evaluation.near_chance(get("stsb"), labels[:, None], labels) == ""
    assert evaluation.near_chance(get("stsb"), torch.zeros(100, 1), labels) == "correlation 0.00"
    assert evaluation.near_chance(get("stsb"), -labels[:, None], labels) == "correlation -1.00"
