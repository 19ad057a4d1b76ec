"""OnlineKD against a literal restatement."""

import copy

import pytest
import torch

from rkd.errors import RkdError
from rkd.methods import KD, OnlineKD
from rkd.methods.base import task_loss as own_task_loss
from rkd.models.unpadded import logits
from tests.reference.methods import KD as KD_SETTINGS
from tests.reference.methods import (
    STUDENT_LR,
    TEACHER_LR,
    Learner,
    assert_same,
    batches,
    follow_loss,
    forward,
    kd_objective,
    pair,
    restores_exactly,
    task_loss,
)


def online(student, teacher, **overrides):
    return OnlineKD(student, teacher, **{**KD_SETTINGS, "teacher_lr": TEACHER_LR, **overrides})


@pytest.mark.parametrize("follow", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("labels", [3, 1])
def test_equals_the_literal_method(labels, follow):
    student, teacher = pair(labels)
    literal_student, literal_teacher = copy.deepcopy(student), copy.deepcopy(teacher)
    student_learner = Learner(literal_student, STUDENT_LR)
    teacher_learner = Learner(literal_teacher, TEACHER_LR)
    method = online(student, teacher, follow_weight=follow)
    for batch in batches(5, labels):
        z_t, z_s = forward(literal_teacher, batch).logits, forward(literal_student, batch).logits.detach()
        teacher_loss = (1 - follow) * task_loss(z_t, batch["labels"]) + follow * follow_loss(z_t, z_s)
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


class PlainOnlineKD(OnlineKD):
    """The method without ProKT: the teacher's step on its task, then the student's."""

    def step(self, batch):
        for micro_batch, weight in self.micro_batches(batch):
            loss = own_task_loss(logits(self.teacher, micro_batch), micro_batch["labels"])
            (weight * loss).backward()
        self.teacher_optimizer.step()
        return KD.step(self, batch)


@pytest.mark.parametrize("labels", [2, 1])
@pytest.mark.parametrize("parts", [1, 3])
def test_without_a_follow_weight_it_is_the_plain_method_bit_for_bit(labels, parts):
    """Float32 with dropout: masks, arithmetic and the random generator's position are all the same."""
    methods, positions = [], []
    for kind, options in ((PlainOnlineKD, {}), (OnlineKD, {}), (OnlineKD, {"follow_weight": 0.0})):
        models = pair(labels, dtype=torch.float32, dropout=0.1)
        settings = {"teacher_lr": TEACHER_LR, "gradient_accumulation": parts, **options}
        methods.append(kind(*models, **{**KD_SETTINGS, **settings}))
        torch.manual_seed(0)
        for batch in batches(3, labels, dtype=torch.float32):
            methods[-1].step(batch)
        positions.append(torch.get_rng_state())
    for method, position in zip(methods[1:], positions[1:], strict=True):
        assert_same(methods[0].student, method.student, 0.0)
        assert_same(methods[0].teacher, method.teacher, 0.0)
        assert torch.equal(positions[0], position)


def test_a_teacher_that_only_follows_comes_to_its_student():
    """λ = 1 with a student that stands still: widths may differ, and labels do not matter."""
    student, _ = pair()
    teacher = pair(hidden=24)[1]
    method = online(student, teacher, follow_weight=1.0, student_lr=0.0, weight_decay=0.0, teacher_lr=1e-2)
    batch = next(batches(1))
    losses = [method.step(batch)["teacher"] for _ in range(10)]
    assert losses[-1] < 0.5 * losses[0]


def test_both_updates_see_one_dropout_mask():
    student, teacher = pair(dropout=0.3)
    method = online(student, teacher, follow_weight=0.4, gradient_accumulation=2)
    seen = []
    answers, objective = method.student_logits, method.objective
    method.student_logits = lambda micro_batches: (found := answers(micro_batches), seen.extend(found))[0]
    method.objective = lambda z_s, z_t, y: (seen.append(z_s.detach()), objective(z_s, z_t, y))[1]
    method.step(next(batches(1)))
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])


def test_regression_without_a_soft_term_follows_nothing():
    models = pair(1)
    methods = [
        online(*copy.deepcopy(models), regression_kd="none", follow_weight=weight, weight_decay=0.0)
        for weight in (0.0, 0.4)
    ]
    batch = next(batches(1, 1))
    plain, following = (method.step(batch)["teacher"] for method in methods)
    assert following == pytest.approx(0.6 * plain, rel=1e-12)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_follow_weight_out_of_range(weight):
    with pytest.raises(RkdError, match=f"follow_weight: found {weight}; expected a number from 0 to 1"):
        online(*pair(), follow_weight=weight)


def test_the_teacher_stays_in_eval_mode():
    student, teacher = pair(dropout=0.1)
    online(student, teacher.train()).step(next(batches(1)))
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("follow", [0.0, 0.4])
def test_gradient_accumulation_changes_nothing(follow):
    student, teacher = pair()
    whole = online(copy.deepcopy(student), copy.deepcopy(teacher), follow_weight=follow)
    split = online(student, teacher, gradient_accumulation=4, follow_weight=follow)
    for batch in batches(3):
        assert split.step(batch) == pytest.approx(whole.step(batch), abs=1e-9)
    assert_same(student, whole.student, 1e-9)
    assert_same(teacher, whole.teacher, 1e-9)


def test_state_restores_exactly():
    restores_exactly(lambda: online(*pair(), follow_weight=0.4), list(batches(4)))
