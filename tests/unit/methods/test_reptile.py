"""ReptileKD.step against a literal restatement of the method and against hand arithmetic."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rkd.layer_map import LayerMap
from rkd.methods import ReptileKD
from tests.helpers.models import bert, random_batch
from tests.reference.reptile import LiteralReptileKD

SETTINGS = {
    "alpha": 0.5,
    "temperature": 5.0,
    "student_lr": 5e-4,
    "teacher_lr": 3e-4,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "total_steps": 20,
}


def pair(student_layers, teacher_layers, labels=2, dtype=torch.float64, dropout=0.0):
    student = bert(student_layers, seed=1, labels=labels, dropout=dropout).to(dtype)
    return student.train(), bert(teacher_layers, seed=2, labels=labels, dropout=dropout).to(dtype).eval()


def reptile(student, teacher, strategy="skip", **overrides):
    layer_map = LayerMap.from_strategy(strategy, student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    return ReptileKD(student, teacher, layer_map=layer_map, **{**SETTINGS, **overrides})


def batches(count, labels=2, dtype=torch.float64):
    for seed in range(count):
        batch = random_batch(seed, labels=labels)
        if labels == 1:
            batch["labels"] = batch["labels"].to(dtype)
        yield batch


def assert_same(model, other, tolerance):
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        assert (a - b).abs().max() <= tolerance, name


# Float64 compares the algorithms: in float32 a gradient that is zero but for rounding (a key's bias) becomes, divided
# by its own size, a step of up to the whole learning rate in a direction that only rounding decides.
@pytest.mark.parametrize("strategy", ["first", "last", "skip", "both"])
@pytest.mark.parametrize(("student_layers", "teacher_layers", "labels"), [(6, 12, 2), (2, 4, 3), (2, 4, 1)])
def test_equals_the_literal_method(strategy, student_layers, teacher_layers, labels):
    check_against_the_literal_method(strategy, student_layers, teacher_layers, labels)


@pytest.mark.parametrize("labels", [2, 1])
def test_equals_the_literal_method_without_the_shortcut_for_one_direction(labels, monkeypatch):
    monkeypatch.setattr(ReptileKD, "has_one_direction", lambda self: False)
    check_against_the_literal_method("skip", 2, 4, labels)


def squares(z_s, z_t):
    """A soft loss that depends on each logit, not on their difference alone."""
    return (z_s - z_t).square().mean()


class OfLogits(ReptileKD):
    def soft_loss(self, student_logits, teacher_logits):
        return squares(student_logits, teacher_logits)


class Regularised(ReptileKD):
    def objective(self, z_s, z_t, labels):
        loss, task, soft = super().objective(z_s, z_t, labels)
        return loss + 0.05 * sum(p.square().sum() for p in self.student.parameters()), task, soft


def overwritten(*arguments, **settings):
    method = ReptileKD(*arguments, **settings)
    method.soft_loss = squares
    return method


@pytest.mark.parametrize("make", [OfLogits, Regularised, overwritten])
def test_other_losses_are_left_to_autograd(make, monkeypatch):
    made = []
    for shortcut in (True, False):
        models = pair(2, 4)
        method = make(*models, layer_map=LayerMap.from_strategy("skip", 2, 4), **SETTINGS)
        with monkeypatch.context() as patch:
            if not shortcut:
                patch.setattr(ReptileKD, "has_one_direction", lambda self: False)
            for batch in batches(3):
                method.step(batch)
        made.append(models)
    for model, other in zip(*made, strict=True):
        assert_same(model, other, 0.0)


def test_a_gradient_that_is_there_is_added_to(monkeypatch):
    """As `backward` does: a loop of one's own may add a loss."""
    made = []
    for shortcut in (True, False):
        student, teacher = pair(2, 4)
        method = reptile(student, teacher)
        with monkeypatch.context() as patch:
            if not shortcut:
                patch.setattr(ReptileKD, "has_one_direction", lambda self: False)
            sum(p.square().sum() for p in student.parameters()).backward()
            method.step(random_batch(0))
        made.append((student, teacher))
    for model, other in zip(*made, strict=True):
        assert_same(model, other, 1e-9)


@pytest.mark.parametrize("frozen", ["embeddings", "layer.1", "attention.self.query"])
def test_a_frozen_part_of_the_student_still_pulls_the_teacher(frozen):
    check_against_the_literal_method("both", 2, 4, 2, frozen)


def check_against_the_literal_method(strategy, student_layers, teacher_layers, labels, frozen=None):
    student, teacher = pair(student_layers, teacher_layers, labels)
    for name, parameter in student.named_parameters():
        parameter.requires_grad_(frozen is None or frozen not in name)
    before = copy.deepcopy(teacher)
    literal = LiteralReptileKD(copy.deepcopy(student), copy.deepcopy(teacher), strategy=strategy, **SETTINGS)
    method = reptile(student, teacher, strategy)
    for batch in batches(16, labels):
        literal.step(batch)
        method.step(batch)
    assert_same(student, literal.student, 1e-6)
    assert_same(teacher, literal.teacher, 1e-6)
    moved = [not torch.equal(a, b) for a, b in zip(teacher.parameters(), before.parameters(), strict=True)]
    assert any(moved)


def test_the_first_step_in_float32_equals_the_literal_one():
    student, teacher = pair(2, 4, dtype=torch.float32)
    literal = LiteralReptileKD(copy.deepcopy(student), copy.deepcopy(teacher), strategy="skip", **SETTINGS)
    method = reptile(student, teacher)
    batch = random_batch(0)
    literal.step(batch)
    method.step(batch)
    assert_same(teacher, literal.teacher, 1e-6)
    near = [(a - b).abs() <= 1e-6 for a, b in zip(student.parameters(), literal.student.parameters(), strict=True)]
    assert sum(int(n.sum()) for n in near) >= 0.995 * sum(n.numel() for n in near)


@pytest.mark.parametrize(
    ("strategy", "still"), [("skip", {0, 2}), ("first", {2, 3}), ("last", {0, 1}), ("both", set())]
)
def test_only_mapped_teacher_layers_move(strategy, still):
    student, teacher = pair(2, 4)
    before = copy.deepcopy(teacher)
    method = reptile(student, teacher, strategy)
    for batch in batches(3):
        method.step(batch)
    for layer, (now, then) in enumerate(zip(teacher.bert.encoder.layer, before.bert.encoder.layer, strict=True)):
        for a, b in zip(now.parameters(), then.parameters(), strict=True):
            assert torch.equal(a, b) == (layer in still), f"layer {layer}"
    for name in ("bert.embeddings.word_embeddings", "bert.pooler.dense", "classifier"):
        assert not torch.equal(teacher.get_submodule(name).weight, before.get_submodule(name).weight)


def test_the_student_is_untouched_until_the_third_update(monkeypatch):
    student, teacher = pair(2, 4)
    before = copy.deepcopy(student)
    method = reptile(student, teacher)
    steps = []

    def watch(step):
        assert_same(student, before, 0.0)
        steps.append("student")
        step()

    original = method.student_optimizer.step
    monkeypatch.setattr(method.student_optimizer, "step", lambda: watch(original))
    method.step(random_batch(0))
    assert steps == ["student"]
    assert any(not torch.equal(a, b) for a, b in zip(student.parameters(), before.parameters(), strict=True))


def test_the_teacher_stays_in_eval_mode_and_out_of_autograd():
    student, teacher = pair(2, 4, dropout=0.1)
    teacher.train()
    method = reptile(student, teacher)
    method.step(random_batch(0))
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_each_step_draws_new_dropout_masks(dropout):
    student, teacher = pair(2, 4, dropout=dropout)
    method = reptile(student, teacher, student_lr=0.0, teacher_lr=0.0, weight_decay=0.0)
    first, second = (method.step(random_batch(0))["task"] for _ in range(2))
    assert (first != second) == (dropout > 0)


class Scalar(nn.Module):
    """A regression "model" of two parameters: score = w · x + b, with x the first token's number."""

    def __init__(self, w, b):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.tensor(b))
        self.config = SimpleNamespace(model_type="scalar")

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=(self.w * input_ids[:, :1] + self.b))


def test_a_step_by_hand():
    """X = 2, y = 1; student w 1, b 0; teacher w 3, b 1; α 0.5; one step of each learning rate.

    Student score 2, teacher score 7. L = ½ (2−1)² + ½ (2−7)², dL/dscore = (2−1) + (2−7) = −4, so the gradient is
    (−8, −4) and its clipped signs are −: θ'_S = (1 + lr, 0 + lr). Pseudo-gradient θ_T − θ'_S = (2 − lr, 1 − lr) > 0:
    the teacher's first AdamW step goes down by μ: θ_T = (3 − μ, 1 − μ), score 7 − 3μ. The student's gradient stays
    negative, so θ_S = (1 + lr, 0 + lr).
    """
    lr, mu = 0.01, 0.1
    student, teacher = Scalar(1.0, 0.0), Scalar(3.0, 1.0)
    layer_map = LayerMap.from_strategy("skip", 1, 1)
    method = ReptileKD(
        student,
        teacher,
        layer_map=layer_map,
        alpha=0.5,
        temperature=5.0,
        student_lr=lr,
        teacher_lr=mu,
        total_steps=10,
    )
    batch = {
        "input_ids": torch.tensor([[2]]),
        "attention_mask": torch.ones(1, 1),
        "labels": torch.tensor([1.0]),
    }
    losses = method.step(batch)
    assert (teacher.w.item(), teacher.b.item()) == pytest.approx((3 - mu, 1 - mu), abs=1e-6)
    assert (student.w.item(), student.b.item()) == pytest.approx((1 + lr, lr), abs=1e-6)
    assert losses["task"] == pytest.approx(1.0)
    assert losses["kd"] == pytest.approx((2 - (7 - 3 * mu)) ** 2, rel=1e-6)
    assert losses["loss"] == pytest.approx((losses["task"] + losses["kd"]) / 2, rel=1e-6)
    now = math.hypot(3 - mu - 1 - lr, 1 - mu - lr)
    assert method.distance() == pytest.approx(now / math.hypot(2, 1), rel=1e-6)


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_gradient_accumulation_changes_nothing(parts):
    student, teacher = pair(2, 4)
    whole = reptile(copy.deepcopy(student), copy.deepcopy(teacher))
    split = reptile(student, teacher, gradient_accumulation=parts)
    for batch in batches(4):
        expected, found = whole.step(batch), split.step(batch)
        assert found == pytest.approx(expected, abs=1e-9)
    assert_same(student, whole.student, 1e-9)
    assert_same(teacher, whole.teacher, 1e-9)


def test_accumulation_replays_the_dropout_masks():
    """With equal masks in updates 1 and 3 and no movement of the teacher, both see the same logits."""
    student, teacher = pair(2, 4, dropout=0.3)
    method = reptile(student, teacher, teacher_lr=0.0, gradient_accumulation=3)
    seen = []
    objective = method.objective
    method.objective = lambda z_s, z_t, y: (seen.append(z_s.detach().clone()), objective(z_s, z_t, y))[1]
    method.step(random_batch(0))
    for first, third in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first, third)
    assert not torch.equal(seen[0], seen[1])


def test_state_restores_exactly():
    student, teacher = pair(2, 4)
    method = reptile(student, teacher)
    method.step(random_batch(0))
    state = copy.deepcopy(method.state_dict())
    method.step(random_batch(1))
    other = reptile(*pair(2, 4))
    other.load_state_dict(state)
    other.step(random_batch(1))
    assert_same(other.student, student, 0.0)
    assert_same(other.teacher, teacher, 0.0)


def test_gradients_that_share_memory_do_not_disturb_each_other():
    """Of a sum of two parameters autograd returns one gradient twice, and of a plain sum an expanded number."""

    class Sums(nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.a, self.b, self.c = (nn.Parameter(torch.randn(3, dtype=torch.float64)) for _ in range(3))
            self.config = SimpleNamespace(model_type="sums", num_hidden_layers=1)

        def forward(self, input_ids, **_):
            scores = input_ids[:, :3].double() / 60
            return SimpleNamespace(logits=((self.a + self.b) * scores).sum(1, keepdim=True) + self.c.sum())

    student, teacher = Sums(1), Sums(2)
    literal = LiteralReptileKD(copy.deepcopy(student), copy.deepcopy(teacher), strategy="skip", **SETTINGS)
    method = ReptileKD(student, teacher, layer_map=LayerMap.from_strategy("skip", 1, 1), **SETTINGS)
    for batch in batches(4, labels=1):
        literal.step(batch)
        method.step(batch)
    assert_same(student, literal.student, 1e-12)
    assert_same(teacher, literal.teacher, 1e-12)
