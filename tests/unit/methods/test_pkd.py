"""PKD against a literal restatement, and its errors."""

import copy

import pytest
import torch

from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.losses import patience_loss
from rkd.methods import KD, PKD
from tests.reference.methods import KD as KD_SETTINGS
from tests.reference.methods import (
    STUDENT_LR,
    Learner,
    assert_same,
    batches,
    forward,
    kd_objective,
    pair,
    restores_exactly,
)


def pkd(student, teacher, strategy="skip", **overrides):
    depths = student.config.num_hidden_layers, teacher.config.num_hidden_layers
    layer_map = LayerMap.from_strategy(strategy, *depths)
    return PKD(student, teacher, layer_map=layer_map, **{**KD_SETTINGS, "beta": 50.0, **overrides})


# Layers of the teacher (from 1, as in the paper) for layers 1 … N−1 of a student of 3, with a teacher of 6.
@pytest.mark.parametrize(("strategy", "theirs"), [("skip", [2, 4]), ("last", [4, 5]), ([[5], [0], [1, 2]], [6, 1])])
@pytest.mark.parametrize("labels", [2, 1])
def test_equals_the_literal_method(strategy, theirs, labels):
    student, teacher = pair(labels, 3, 6)
    literal, before = copy.deepcopy(student), copy.deepcopy(teacher)
    learner = Learner(literal, STUDENT_LR)
    method = pkd(student, teacher, strategy)
    for batch in batches(5, labels):
        with torch.no_grad():
            t = forward(before, batch, output_hidden_states=True)
        s = forward(literal, batch, output_hidden_states=True)
        patience = 0.0
        for ours, layer in enumerate(theirs, start=1):
            a, b = s.hidden_states[ours][:, 0], t.hidden_states[layer][:, 0]
            difference = a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)
            patience = patience + difference.square().mean() / len(theirs)
        loss = kd_objective(s.logits, t.logits, batch["labels"]) + 50.0 * patience
        found = method.step(batch)
        assert found["patience"] == pytest.approx(float(patience), rel=1e-9)
        assert found["loss"] == pytest.approx(float(loss), rel=1e-9)
        learner.step(loss)
    assert_same(student, literal, 1e-9)
    assert_same(teacher, before, 0.0)


def test_beta_zero_is_kd():
    student, teacher = pair()
    plain = KD(copy.deepcopy(student), teacher, **KD_SETTINGS)
    method = pkd(student, teacher, beta=0.0)
    for batch in batches(3):
        plain.step(batch)
        method.step(batch)
    assert_same(student, plain.student, 1e-12)


def test_patience_loss_by_hand():
    """(3, 4) / 5 and (1, 0): differences −0.4 and 0.8, squares 0.16 and 0.64, mean 0.4; lengths do not matter."""
    student, teacher = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[7.0, 0.0]]])
    assert patience_loss(student, teacher).item() == pytest.approx(0.4)
    assert patience_loss(10 * student, teacher / 7).item() == pytest.approx(0.4)
    assert patience_loss(student, -student).item() == pytest.approx(4 / 2)


def test_gradient_accumulation_changes_nothing():
    student, teacher = pair()
    whole, split = pkd(copy.deepcopy(student), teacher), pkd(student, teacher, gradient_accumulation=4)
    for batch in batches(3):
        assert split.step(batch) == pytest.approx(whole.step(batch), abs=1e-9)
    assert_same(student, whole.student, 1e-9)


def test_leaves_no_hooks_behind():
    student, teacher = pair()
    pkd(student, teacher).step(next(batches(1)))
    assert not any(module._forward_hooks for model in (student, teacher) for module in model.modules())


def test_state_restores_exactly():
    restores_exactly(lambda: pkd(*pair()), list(batches(4)))


@pytest.mark.parametrize("strategy", ["both", [[1], [0, 2], [3]], [[1], [], [3]]])
def test_needs_one_teacher_layer_per_student_layer(strategy):
    with pytest.raises(RkdError, match=r"student layer \d is mapped to [02] teacher layers; pkd expects exactly 1"):
        pkd(*pair(2, 3, 6), strategy=strategy)


def test_needs_two_student_layers():
    with pytest.raises(RkdError, match="the student has 1 layer; expected at least 2"):
        pkd(*pair(2, 1, 4))


def test_needs_equal_widths():
    student, (_, wider) = pair()[0], pair(hidden=24)
    with pytest.raises(RkdError, match="16 and 24 wide; expected the same"):
        pkd(student, wider)


def test_beta_must_not_be_negative():
    with pytest.raises(RkdError, match="beta: found -1; expected a number from 0"):
        pkd(*pair(), beta=-1)


def test_unknown_architectures_are_refused():
    from transformers import XLNetConfig, XLNetForSequenceClassification

    xlnet = XLNetForSequenceClassification(XLNetConfig(vocab_size=20, d_model=16, n_layer=2, n_head=2, d_inner=16))
    with pytest.raises(RkdError, match="xlnet: its hidden states and attention are not accessible"):
        PKD(xlnet, xlnet, layer_map=LayerMap.from_strategy("skip", 2, 2), **KD_SETTINGS)
