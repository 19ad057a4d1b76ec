"""Helpers of the literal reference methods: models, batches and textbook training, without code from `rkd`."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.models import bert, random_batch
from tests.reference.reptile import decay_groups

STUDENT_LR, TEACHER_LR, WEIGHT_DECAY, TOTAL_STEPS = 5e-4, 3e-4, 0.01, 20
ALPHA, TEMPERATURE = 0.4, 3.0
SETTINGS = {"student_lr": STUDENT_LR, "weight_decay": WEIGHT_DECAY, "total_steps": TOTAL_STEPS}
KD = {**SETTINGS, "alpha": ALPHA, "temperature": TEMPERATURE}


def pair(labels=2, student_layers=2, teacher_layers=4, dtype=torch.float64, dropout=0.0, hidden=16):
    """Return a student in train mode and a teacher with different weights."""
    student = bert(student_layers, seed=1, labels=labels, dropout=dropout, hidden=hidden)
    teacher = bert(teacher_layers, seed=2, labels=labels, dropout=dropout, hidden=hidden)
    return student.to(dtype).train(), teacher.to(dtype).eval()


def batches(count, labels=2, dtype=torch.float64, first=0, size=6):
    """Yield padded batches; labels have the models' floating-point type for regression."""
    for seed in range(first, first + count):
        batch = random_batch(seed, size=size, labels=labels)
        if labels == 1:
            batch["labels"] = batch["labels"].to(dtype)
        yield batch


def assert_same(model, other, tolerance):
    """Assert that all parameters of two models agree."""
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert (a - b).abs().max() <= tolerance, name


def moved(model, before):
    """Return the names of the parameters that differ."""
    named = zip(model.named_parameters(), before.parameters(), strict=True)
    return {name for (name, a), b in named if not torch.equal(a, b)}


def forward(model, batch, **arguments):
    """Run the classifier's own padded forward pass."""
    return model(**{name: tensor for name, tensor in batch.items() if name != "labels"}, **arguments)


def task_loss(z, y):
    return (z.squeeze(1) - y).square().mean() if z.shape[1] == 1 else F.cross_entropy(z, y)


def soft_loss(z_s, z_t, temperature=TEMPERATURE):
    if z_s.shape[1] == 1:
        return (z_s - z_t).square().mean()
    p_t = torch.softmax(z_t / temperature, dim=1)
    ratio = p_t.log() - torch.log_softmax(z_s / temperature, dim=1)
    return temperature**2 * (p_t * ratio).sum() / len(z_s)


def kd_objective(z_s, z_t, y):
    return (1 - ALPHA) * task_loss(z_s, y) + ALPHA * soft_loss(z_s, z_t)


def follow_loss(z_t, z_s):
    """Compute KL(softmax(z_S) ‖ softmax(z_T)), or the squared difference of two scores."""
    if z_s.shape[1] == 1:
        return (z_s - z_t).square().mean()
    p_s = torch.softmax(z_s, dim=1)
    return (p_s * (p_s.log() - torch.log_softmax(z_t, dim=1))).sum() / len(z_s)


class Learner:
    """A model with AdamW, gradient clipping at global norm 1, and a linear decay of the learning rate to 0."""

    def __init__(self, model, lr, total_steps=TOTAL_STEPS, extra=()):
        self.parameters = [*model.parameters(), *extra]
        groups = decay_groups(model, WEIGHT_DECAY)
        groups[0]["params"] += list(extra)
        self.adamw = torch.optim.AdamW(groups, lr=lr, eps=1e-8)
        self.lr, self.total_steps, self.taken = lr, total_steps, 0

    def step(self, loss):
        self.apply(torch.autograd.grad(loss, self.parameters, allow_unused=True))

    def apply(self, gradients):
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.adamw.param_groups:
            group["lr"] = self.current_lr()
        self.adamw.step()
        self.adamw.zero_grad()
        self.taken += 1

    def current_lr(self):
        return self.lr * max(0.0, 1 - self.taken / self.total_steps)


def restores_exactly(make, batch_list):
    """Assert that a new method with a restored state continues exactly like the original.

    Args:
        make: builds the method from the same initial weights.
        batch_list: the batches; the state is saved before the last two.
    """
    method = make()
    for batch in batch_list[:-2]:
        method.step(batch)
    state = copy.deepcopy(method.state_dict())
    expected = [method.step(batch) for batch in batch_list[-2:]]
    other = make()
    other.load_state_dict(state)
    assert [other.step(batch) for batch in batch_list[-2:]] == expected
    assert_same(other.student, method.student, 0.0)
    assert_same(other.teacher, method.teacher, 0.0)


class Questions:
    """An iterator over quiz batches with a position that can be saved."""

    def __init__(self, labels=2):
        self.labels, self.position = labels, 0

    def __next__(self):
        self.position += 1
        return next(batches(1, self.labels, first=100 + self.position))

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]
