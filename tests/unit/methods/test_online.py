"""OnlineKD against a literal restatement."""

import copy

import pytest

from rkd.methods import KD, OnlineKD
from tests.reference.methods import KD as KD_SETTINGS
from tests.reference.methods import (
    STUDENT_LR,
    TEACHER_LR,
    Learner,
    assert_same,
    batches,
    forward,
    kd_objective,
    pair,
    restores_exactly,
    task_loss,
)


def online(student, teacher, **overrides):
    return OnlineKD(student, teacher, **{**KD_SETTINGS, "teacher_lr": TEACHER_LR, **overrides})


@pytest.mark.parametrize("labels", [3, 1])
def test_equals_the_literal_method(labels):
    student, teacher = pair(labels)
    literal_student, literal_teacher = copy.deepcopy(student), copy.deepcopy(teacher)
    student_learner = Learner(literal_student, STUDENT_LR)
    teacher_learner = Learner(literal_teacher, TEACHER_LR)
    method = online(student, teacher)
    for batch in batches(5, labels):
        teacher_loss = task_loss(forward(literal_teacher, batch).logits, batch["labels"])
        teacher_learner.step(teacher_loss)
        z_t = forward(literal_teacher, batch).logits.detach()
        loss = kd_objective(forward(literal_student, batch).logits, z_t, batch["labels"])
        student_learner.step(loss)
        found = method.step(batch)
        assert found["teacher"] == pytest.approx(float(teacher_loss.detach()), rel=1e-7)
        assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-7)
    assert_same(student, literal_student, 1e-8)
    assert_same(teacher, literal_teacher, 1e-8)


def test_without_a_learning_rate_it_is_kd():
    student, teacher = pair()
    plain = KD(copy.deepcopy(student), copy.deepcopy(teacher), **KD_SETTINGS)
    method = online(student, teacher, teacher_lr=0.0)
    for batch in batches(3):
        plain.step(batch)
        method.step(batch)
    assert_same(student, plain.student, 0.0)
    assert_same(teacher, plain.teacher, 0.0)


def test_the_teacher_stays_in_eval_mode():
    student, teacher = pair(dropout=0.1)
    online(student, teacher.train()).step(next(batches(1)))
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())


def test_gradient_accumulation_changes_nothing():
    student, teacher = pair()
    whole = online(copy.deepcopy(student), copy.deepcopy(teacher))
    split = online(student, teacher, gradient_accumulation=4)
    for batch in batches(3):
        assert split.step(batch) == pytest.approx(whole.step(batch), abs=1e-9)
    assert_same(student, whole.student, 1e-9)
    assert_same(teacher, whole.teacher, 1e-9)


def test_state_restores_exactly():
    restores_exactly(lambda: online(*pair()), list(batches(4)))
