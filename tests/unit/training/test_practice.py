"""Settings for data of practice: weights of classes and early stopping."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import rkd
from rkd.errors import RkdError
from rkd.methods import KD, FineTune
from rkd.methods.base import task_loss
from rkd.runs.history import read_history
from rkd.runs.record import read_record
from rkd.training.job import class_weights
from rkd.utils.option_values import pairs
from rkd.verify import verify
from tests.helpers.distillation import TINY, reviews
from tests.helpers.models import bert, random_batch

LABELS, NAMES = torch.tensor([0, 0, 0, 1]), ["bad", "good"]


def test_balanced_weights_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    labels = torch.tensor([0] * 7 + [1] * 2 + [2])
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert class_weights("balanced", labels, ["a", "b", "c"]).tolist() == pytest.approx(expected.tolist())


def test_given_weights_have_a_mean_of_one_over_the_rows():
    weights = class_weights([1, 5], LABELS, NAMES)
    assert weights[1] / weights[0] == pytest.approx(5)
    assert weights[LABELS].mean() == pytest.approx(1)
    assert torch.equal(class_weights({"good": 5, "bad": 1}, LABELS, NAMES), weights)
    assert class_weights(None, LABELS, NAMES) is None
    assert class_weights("balanced", torch.zeros(4, dtype=torch.int64), NAMES).isfinite().all()  # a class without rows


@pytest.mark.parametrize(
    ("rule", "labels", "message"),
    [
        ([1, 2, 3], LABELS, "class_weights: found 3 numbers; expected 2, one per label in this order: bad, good"),
        ({"bad": 1, "ugly": 2}, LABELS, "class_weights: found those of bad, ugly; expected one of each of bad, good"),
        ({"bad": 1, "bad ": 2}, LABELS, "class_weights: found 'bad' and 'bad ', which are one label"),
        ("balanced", LABELS.float(), "class_weights: found balanced for a regression task; expected null"),
    ],
)
def test_weights_that_do_not_fit_are_refused(rule, labels, message):
    with pytest.raises(RkdError, match=message):
        class_weights(rule, labels, NAMES)


def test_the_weighted_loss_is_its_definition_and_without_weights_the_plain_one():
    z, weights = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5, 3.0])
    each = F.cross_entropy(z, LABELS, reduction="none")
    assert torch.allclose(task_loss(z, LABELS, weights), (weights[LABELS] * each).mean())
    assert torch.equal(task_loss(z, LABELS), F.cross_entropy(z, LABELS))


@pytest.mark.parametrize("kind", [FineTune, KD])
def test_micro_batches_make_the_same_weighted_update(kind):
    """Also where a micro-batch holds one class alone."""
    models = [bert(2, seed=seed, labels=2) for seed in range(1 if kind is FineTune else 2)]
    students, weights = [], torch.tensor([0.5, 3.0])
    for parts in (1, 4):
        own = [model.double() for model in copy.deepcopy(models)]
        method = kind(*own, student_lr=1e-3, total_steps=4, gradient_accumulation=parts, class_weights=weights)
        for batch in map(random_batch, range(4)):
            method.step(batch)
        students.append(torch.cat([p.detach().flatten() for p in method.student.parameters()]))
    assert torch.allclose(*students, atol=1e-8)


def test_training_stops_early_and_keeps_the_best_epoch(tmp_path):
    settings = {**TINY, "method": "finetune", "teacher": None, "finetune_teacher": False, "learning_rate": 1e-8}
    result = rkd.distill(reviews(), dev=reviews(20, 1), **{**settings, "epochs": 9, "patience": 2})
    assert [record["epoch"] for record in result.history] == [0, 1, 2, 3]  # the first is the best
    whole = rkd.distill(reviews(), dev=reviews(20, 1), **{**settings, "epochs": 3})
    assert len(whole.history) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patience": 0}, "patience: found 0; expected null, or a whole number from 1"),
        ({"patience": 2, "selection": "last"}, "patience: found 2; expected null with selection last"),
        ({"class_weights": "even"}, "class_weights: found 'even'"),
        ({"class_weights": [1, 0]}, "class_weights: found 0"),
        (
            {"class_weights": [1, 2, 3]},
            "class_weights: found 3 numbers; expected 2, one per label in this order: bad, good",
        ),
        ({"class_weights": "balanced", "scores": "any", "label": "mood"}, "class_weights: found balanced"),
    ],
)
def test_bad_settings_are_told_before_any_training(tmp_path, changes, message):
    with pytest.raises(RkdError, match=message):
        rkd.distill(reviews(), out=tmp_path / "out", **{**TINY, **changes})
    assert not list(tmp_path.rglob("run.json"))


def test_of_several_learning_rates_the_best_on_held_out_rows_is_kept(tmp_path):
    settings = {**TINY, "method": "kd", "epochs": 2}
    rates = [1e-8, 2e-3]

    def call():
        return rkd.distill(reviews(), dev=reviews(20, 1), out=tmp_path / "out", **{**settings, "learning_rate": rates})

    result = call()
    best = {}
    for rate in rates:
        history = read_history(tmp_path / f"out/tries/learning_rate-{rate}/history.jsonl")
        best[rate] = max(line["held_out"] for line in history[1:])
    record = read_record(tmp_path / "out/student/run.json", "spec")["spec"]["training"]
    assert record["learning_rate"] == max(best, key=best.get) == 2e-3
    assert record["selection"] == "held-out"
    before = (tmp_path / "out/student/run.json").stat().st_mtime_ns
    pd.testing.assert_frame_equal(call().predictions, result.predictions)
    assert (tmp_path / "out/student/run.json").stat().st_mtime_ns == before
    assert not verify([tmp_path / "out"]).mismatches


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": [1e-3, 2]}, "learning_rate: found 2; expected a number"),
        ({"learning_rate": [1e-3, 1e-3]}, "expected two different values or more"),
        ({"learning_rate": []}, "expected two different values or more"),
        ({"learning_rate": [1e-3, 2e-3], "selection": "best"}, "selection: found best; expected held-out or held-out"),
        ({"learning_rate": [1e-3, 2e-3], "finetune_teacher": True}, "finetune_teacher.learning_rate: found none"),
    ],
)
def test_bad_lists_of_learning_rates_are_told(tmp_path, changes, message):
    with pytest.raises(RkdError, match=message):
        rkd.distill(reviews(), out=tmp_path / "out", **{**TINY, **changes})


def test_a_learning_rate_that_is_given_twice_is_a_list():
    assert pairs("-s", ["learning_rate=1e-4", "learning_rate=2e-4"], ["learning_rate"]) == {
        "learning_rate": [1e-4, 2e-4]
    }
    assert pairs("-s", ["epochs=3", "epochs=4"], ["learning_rate"]) == {"epochs": 4}
