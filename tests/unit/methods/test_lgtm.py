"""LGTM against a literal restatement, its influence against exact derivatives, and its edges."""

import copy

import pytest
import torch
from torch.func import functional_call, grad, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from rkd.errors import RkdError
from rkd.methods import LGTM, OnlineKD, lgtm
from tests.reference.lgtm import LiteralLGTM
from tests.reference.methods import KD as KD_SETTINGS
from tests.reference.methods import (
    TEACHER_LR,
    Questions,
    assert_same,
    batches,
    follow_loss,
    moved,
    pair,
    restores_exactly,
    task_loss,
)

FOLLOW = 0.4


def make(student, teacher, labels=2, kind=LGTM, **overrides):
    quiz = {} if kind is OnlineKD else {"quiz": Questions(labels)}
    settings = {"teacher_lr": TEACHER_LR, "follow_weight": FOLLOW, **quiz, **overrides}
    return kind(student, teacher, **{**KD_SETTINGS, **settings})


def teacher_gradient(method, batch, monkeypatch):
    """The gradients that the teacher's optimizer is given for one batch."""
    found = []
    monkeypatch.setattr(
        method.teacher_optimizer, "step", lambda: found.extend(p.grad for p in method.teacher.parameters())
    )
    method.step(batch)
    return found


def influence_of(models, batch, monkeypatch, labels=2, **overrides):
    """g, from the gradients of two weights."""
    one, two = (
        teacher_gradient(make(*copy.deepcopy(models), labels, influence_weight=w, **overrides), batch, monkeypatch)
        for w in (1.0, 2.0)
    )
    return [a - b for a, b in zip(one, two, strict=True)]


def error(found, expected):
    """‖found − expected‖ / ‖expected‖ of two lists of tensors."""
    a, b = (torch.cat([g.detach().flatten() for g in each]) for each in (found, expected))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("weight", ["lr", 0.5])
@pytest.mark.parametrize("labels", [3, 1])
def test_equals_the_literal_method(labels, weight):
    student, teacher = pair(labels)
    number = None if weight == "lr" else weight
    literal = LiteralLGTM(*copy.deepcopy((student, teacher)), Questions(labels), FOLLOW, number)
    method = make(student, teacher, labels, influence_weight=weight)
    for batch in batches(5, labels):
        expected, found = literal.step(batch), method.step(batch)
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert_same(student, literal.student, 1e-7)
    assert_same(teacher, literal.teacher, 1e-7)


def exact_by_forward_mode(literal, v, batch):
    """d/dε ∇_{θ_T} L_T(θ_S + εv) at ε = 0, by `torch.func`."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    ours, theirs = (dict(model.named_parameters()) for model in (literal.student, literal.teacher))

    def teacher_objective(theta_t, theta_s):
        z_s = functional_call(literal.student, theta_s, (), inputs).logits
        z_t = functional_call(literal.teacher, theta_t, (), inputs).logits
        return (1 - FOLLOW) * task_loss(z_t, batch["labels"]) + FOLLOW * follow_loss(z_t, z_s)

    with sdpa_kernel(SDPBackend.MATH):
        _, found = jvp(lambda theta_s: grad(teacher_objective)(theirs, theta_s), (ours,), (v,))
    return list(found.values())


@pytest.mark.parametrize("labels", [3, 1])
def test_the_influence_is_the_derivative_that_it_stands_for(labels, monkeypatch):
    models = pair(labels)
    batch, literal = next(batches(1, labels)), LiteralLGTM(*models, None, FOLLOW, None)
    _, v = literal.held_out_gradient(batch, next(Questions(labels)))
    named = {name: g for (name, _), g in zip(models[0].named_parameters(), v, strict=True)}
    exact = exact_by_forward_mode(literal, named, batch)
    assert error(literal.exact_influence(v, batch), exact) < 1e-10  # the unrolled graph says the same
    assert error(influence_of(models, batch, monkeypatch, labels), exact) < 0.01
    monkeypatch.setattr(lgtm, "REACH", 1e-4)
    assert error(influence_of(models, batch, monkeypatch, labels), exact) < 1e-6


def test_the_influence_in_float32_is_that_in_float64(monkeypatch):
    batch = next(batches(1))
    exact = influence_of(pair(), batch, monkeypatch)
    found = influence_of(pair(dtype=torch.float32), batch, monkeypatch)
    assert error([g.double() for g in found], exact) < 0.01


@pytest.mark.parametrize("labels", [3, 1])
def test_without_influence_it_is_prokt_bit_for_bit(labels):
    """Float32 with dropout: masks, arithmetic and the random generator's position are all the same."""
    methods, positions = [], []
    for kind, options in ((LGTM, {"influence_weight": 0}), (OnlineKD, {})):
        torch.manual_seed(0)
        methods.append(make(*pair(labels, dtype=torch.float32, dropout=0.1), labels, kind, **options))
        losses = [methods[-1].step(batch) for batch in batches(3, labels, dtype=torch.float32)]
        positions.append((losses, torch.get_rng_state().tolist()))
    assert positions[0] == positions[1]
    assert_same(methods[0].student, methods[1].student, 0.0)
    assert_same(methods[0].teacher, methods[1].teacher, 0.0)


def test_the_pilot_goes_where_the_student_would():
    """From the second step on the optimizer has moments; the pilot is thrown away and touches none of them."""
    student, teacher = pair()
    method = make(student, teacher, teacher_lr=0.0, weight_decay=0.0)
    for batch in batches(3):
        pilot, _ = method.pilot(method.micro_batches(batch))
        assert moved(student, pilot)
        method.step(batch)
        assert_same(student, pilot, 1e-12)


def test_a_large_influence_moves_the_teacher_and_the_quiz_is_not_trained_on():
    models = pair()
    small, large = (make(*copy.deepcopy(models), influence_weight=w) for w in ("lr", 10.0))
    for batch in batches(2):
        ratios = [method.step(batch)["influence"] for method in (small, large)]
        assert ratios[0] < 0.01 < ratios[1]
    assert moved(small.teacher, large.teacher)
    still = [make(*copy.deepcopy(models), quiz=Questions(), teacher_lr=0.0) for _ in range(2)]
    still[1].quiz.position = 7  # other questions
    for method in still:
        method.step(next(batches(1)))
    assert_same(still[0].student, still[1].student, 0.0)


def test_dropout_masks_are_those_of_online():
    """With no influence on a teacher that stands still, the students are the same, mask by mask."""
    ours, plain = (make(*pair(dropout=0.2), kind=kind, teacher_lr=0.0, weight_decay=0.0) for kind in (LGTM, OnlineKD))
    for method in (ours, plain):
        torch.manual_seed(0)
        for batch in batches(3):
            method.step(batch)
    assert_same(ours.student, plain.student, 0.0)
    assert ours.student.training


def test_a_quiz_without_a_gradient_has_no_influence():
    student, teacher = pair(1)
    with torch.no_grad():
        student.classifier.weight.zero_()
        student.classifier.bias.zero_()
    batch = {**next(batches(1, 1)), "labels": torch.zeros(6, dtype=torch.float64)}
    method = make(student, teacher, 1, quiz=iter([batch]), student_lr=0.0, alpha=0.0)
    assert method.step(batch)["influence"] == 0.0
    assert all(p.isfinite().all() for p in teacher.parameters())


def test_gradient_accumulation_changes_nothing():
    methods = [make(*pair(), gradient_accumulation=parts, influence_weight=1.0) for parts in (1, 4)]
    for batch in batches(3):
        whole, split = (method.step(batch) for method in methods)
        assert split == pytest.approx(whole, abs=1e-8)
    assert_same(methods[0].student, methods[1].student, 1e-8)
    assert_same(methods[0].teacher, methods[1].teacher, 1e-8)


def test_state_restores_exactly():
    restores_exactly(lambda: make(*pair(dropout=0.0), influence_weight=1.0), list(batches(4)))


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (2, {"follow_weight": 0}, "follow_weight: found 0; expected a number above 0"),
        (2, {"follow_weight": 1.1}, "follow_weight: found 1.1; expected a number from 0 to 1"),
        (2, {"influence_weight": -1.0}, "influence_weight: found -1.0; expected 'lr' or a number from 0"),
        (2, {"influence_weight": float("inf")}, "influence_weight: found inf; expected 'lr' or a number from 0"),
        (2, {"influence_weight": "on"}, "influence_weight: found 'on'; expected 'lr' or a number from 0"),
        (1, {"regression_kd": "none"}, "regression_kd: found 'none'; expected 'mse'"),
    ],
)
def test_errors(labels, options, message):
    with pytest.raises(RkdError) as raised:
        make(*pair(labels), labels, **options)
    assert str(raised.value).startswith(message)
