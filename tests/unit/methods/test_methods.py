"""Fine-tuning and distillation from a frozen teacher, and what all methods share."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import get_linear_schedule_with_warmup

import rkd.methods
from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.methods import KD, FineTune, ReptileKD, base, kd
from rkd.methods.base import Optimizer, first_adamw_step, no_decay
from rkd.models.unpadded import logits
from tests.helpers.models import bert, random_batch

SETTINGS = {"student_lr": 1e-3, "total_steps": 10, "weight_decay": 0.01, "max_grad_norm": 1.0}


def student(labels=2, dropout=0.0, dtype=torch.float64):
    return bert(2, seed=1, labels=labels, dropout=dropout).to(dtype).train()


def teacher(labels=2, dtype=torch.float64):
    return bert(3, seed=2, labels=labels, dropout=0.1).to(dtype)


def batch_of(seed, labels=2, size=6, dtype=torch.float64):
    batch = random_batch(seed, labels=labels, size=size)
    return {**batch, "labels": batch["labels"].to(dtype)} if labels == 1 else batch


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_bit_equal(model, other):
    for name, tensor in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_methods_by_name():
    assert [rkd.methods.by_name(name) for name in ("finetune", "kd", "reptile")] == [FineTune, KD, ReptileKD]
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        rkd.methods.Other  # noqa: B018


# Each against a loop written out with torch alone.


def plain_loss(z_s, z_t, y, alpha, temperature):
    if z_s.shape[1] == 1:
        task, soft = F.mse_loss(z_s[:, 0], y), F.mse_loss(z_s, z_t)
    else:
        task = F.cross_entropy(z_s, y)
        p_t = F.softmax(z_t / temperature, 1)
        soft = temperature**2 * (p_t * (p_t.log() - F.log_softmax(z_s / temperature, 1))).sum(1).mean()
    return (1 - alpha) * task + alpha * soft


@pytest.mark.parametrize("labels", [2, 3, 1])
@pytest.mark.parametrize("alpha", [None, 0.3, 1.0])
def test_equals_a_plain_training_loop(alpha, labels):
    model, guide = student(labels), teacher(labels)
    plain = copy.deepcopy(model)
    if alpha is None:
        method = FineTune(model, warmup_steps=2, **SETTINGS)
    else:
        method = KD(model, guide, alpha=alpha, temperature=4.0, warmup_steps=2, **SETTINGS)
    exempt = [p for n, p in plain.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    decayed = [p for n, p in plain.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": exempt, "weight_decay": 0.0}], lr=1e-3, eps=1e-8
    )
    schedule = get_linear_schedule_with_warmup(adamw, 2, 10)
    guide.eval()
    for seed in range(5):
        batch = batch_of(seed, labels)
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        with torch.no_grad():
            z_t = guide(**inputs).logits
        expected = plain_loss(plain(**inputs).logits, z_t, batch["labels"], alpha or 0.0, 4.0)
        adamw.zero_grad()
        expected.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        adamw.step()
        schedule.step()
        assert method.step(batch)["loss"] == pytest.approx(expected.item(), rel=1e-8)
    assert (parameters(model) - parameters(plain)).abs().max() < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [2, 1])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_alpha_0_is_fine_tuning_bit_for_bit(dropout, labels, dtype):
    ours, theirs = student(labels, dropout, dtype), student(labels, dropout, dtype)
    kd = KD(ours, teacher(labels, dtype), alpha=0.0, **SETTINGS)
    finetune = FineTune(theirs, **SETTINGS)
    start = bits(ours)
    losses = []
    for method in (kd, finetune):
        torch.manual_seed(7)
        losses.append([method.step(batch_of(seed, labels, dtype=dtype)) for seed in range(5)])
    assert_bit_equal(ours, theirs)
    assert [step["loss"] for step in losses[0]] == [step["loss"] for step in losses[1]]
    assert any(not torch.equal(tensor, start[name]) for name, tensor in ours.state_dict().items())


def test_a_student_that_equals_its_teacher_learns_nothing_from_it():
    model = student()
    method = KD(model, copy.deepcopy(model), alpha=1.0, **{**SETTINGS, "weight_decay": 0.0})
    z = method.teacher_logits(batch_of(0))
    z_s = z.clone().requires_grad_()
    loss, _, soft = method.objective(z_s, z, batch_of(0)["labels"])
    assert (loss.item(), soft.item()) == (0, 0)
    assert torch.autograd.grad(loss, z_s)[0].abs().max() < 1e-15
    assert method.step(batch_of(0))["kd"] == pytest.approx(0, abs=1e-15)


ROWS = [torch.tensor([7, 2, 0, 11, 5, 3]), torch.tensor([1, 4, 10, 9, 8, 6])]


def test_a_frozen_teacher_computes_each_example_once(monkeypatch):
    asked = []
    monkeypatch.setattr(kd, "logits", lambda model, batch: asked.append(batch) or logits(model, batch))
    method = KD(student(dtype=torch.float32), teacher(dtype=torch.float32), **SETTINGS)
    batches = [{**batch, "row": row} for batch, row in zip(map(batch_of, (0, 1)), ROWS, strict=True)]
    z = torch.cat([method.teacher_logits(batch) for batch in batches])
    assert len(asked) == 2
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    known = method.teacher_logits({"row": torch.cat(ROWS)[shuffled]})  # no text: there is nothing to compute from
    assert torch.equal(known, z[shuffled])
    assert len(asked) == 2
    continued = KD(student(dtype=torch.float32), teacher(dtype=torch.float32), **SETTINGS)
    continued.load_state_dict(method.state_dict())
    assert torch.equal(continued.teacher_logits({"row": ROWS[1]}), z[6:])
    mixed = {**batch_of(2), "row": torch.tensor([4, 30, 5, 31, 6, 32])}  # some new, some known
    assert torch.equal(method.teacher_logits(mixed), logits(method.teacher, mixed))
    unnamed = batch_of(3)
    assert torch.equal(method.teacher_logits(unnamed), logits(method.teacher, unnamed))
    assert len(asked) == 4


def test_known_logits_follow_the_chunks_of_a_batch():
    """Accumulation by micro_batches and known logits together: the step of a kd that has neither."""
    whole, parts = (KD(student(), teacher(), gradient_accumulation=n, **SETTINGS) for n in (1, 4))
    for _ in range(3):
        expected = whole.step(batch_of(0))
        assert parts.step({**batch_of(0), "row": torch.tensor([9, 4, 1, 0, 7, 3])}) == pytest.approx(expected, rel=1e-8)
    assert (parameters(whole.student) - parameters(parts.student)).abs().max() < 1e-8


def test_a_moving_teacher_is_asked_anew():
    layer_map = LayerMap.from_strategy("last", 2, 3)
    method = ReptileKD(student(), teacher(), layer_map=layer_map, teacher_lr=1e-2, **SETTINGS)
    batch = {**batch_of(0), "row": torch.arange(6)}
    before = method.teacher_logits(batch)
    method.step(batch)
    assert torch.equal(method.teacher_logits(batch), logits(method.teacher, batch))
    assert not torch.equal(method.teacher_logits(batch), before)


def test_regression_is_distilled_by_the_difference_of_scores():
    model, guide, batch = student(1), teacher(1), batch_of(0, labels=1)
    kd = KD(model, guide, **SETTINGS)
    z_s, z_t = kd.student(**{k: v for k, v in batch.items() if k != "labels"}).logits, kd.teacher_logits(batch)
    losses = kd.step(batch)
    assert losses["kd"] == pytest.approx(F.mse_loss(z_s, z_t).item(), rel=1e-9)
    assert losses["kd"] > 0
    assert losses["loss"] == pytest.approx((losses["task"] + losses["kd"]) / 2, rel=1e-12)


def test_regression_kd_none_is_the_original_code_without_distillation():
    """Its softmax over one logit is constant: what is left is (1 − α) times the task loss."""
    model, guide, batch = student(1), teacher(1), batch_of(0, labels=1)
    kd = KD(model, guide, alpha=0.5, regression_kd="none", **SETTINGS)
    losses = kd.step(batch)
    assert losses["kd"] == 0
    assert losses["loss"] == pytest.approx(losses["task"] / 2, rel=1e-12)
    classifier = KD(student(), teacher(), regression_kd="none", **SETTINGS)
    assert classifier.step(batch_of(0))["kd"] > 0


def test_the_temperature_softens_both_sides():
    batch, losses = batch_of(0), {}
    for temperature in (1.0, 5.0):
        kd = KD(student(), teacher(), temperature=temperature, **SETTINGS)
        z_s = kd.student(**{k: v for k, v in batch.items() if k != "labels"}).logits
        z_t = kd.teacher_logits(batch)
        expected = temperature**2 * F.kl_div(
            F.log_softmax(z_s / temperature, 1), F.softmax(z_t / temperature, 1), reduction="batchmean"
        )
        losses[temperature] = kd.step(batch)["kd"]
        assert losses[temperature] == pytest.approx(expected.item(), rel=1e-9)
    assert losses[1.0] != losses[5.0]


def test_a_frozen_teacher_stays_as_it_is():
    guide = teacher().train()
    before = bits(guide)
    kd = KD(student(), guide, **SETTINGS)
    for seed in range(3):
        kd.step(batch_of(seed))
    assert not guide.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in guide.state_dict().items())
    assert all(p.grad is None for p in guide.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "alpha: found -0.1; expected a number from 0 to 1"),
        ({"alpha": 1.5}, "alpha: found 1.5"),
        ({"alpha": float("nan")}, "alpha: found nan"),
        ({"temperature": 0}, "temperature: found 0; expected a number above 0"),
        ({"temperature": float("nan")}, "temperature: found nan"),
        ({"regression_kd": "kl"}, "regression_kd: found 'kl'; expected 'mse' or 'none'"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(RkdError, match=message):
        KD(student(), teacher(), **SETTINGS, **options)


# Gradient accumulation.


@pytest.mark.parametrize("parts", [2, 4, 7, 50])
@pytest.mark.parametrize("labels", [2, 1])
@pytest.mark.parametrize("distil", [False, True])
def test_gradient_accumulation_changes_nothing(distil, labels, parts):
    """Seven rows fall into uneven micro_batches; more micro_batches than rows are as many as rows."""
    whole, split = (
        KD(model, teacher(labels), **options) if distil else FineTune(model, **options)
        for model, options in (
            (student(labels), SETTINGS),
            (student(labels), {**SETTINGS, "gradient_accumulation": parts}),
        )
    )
    for seed in range(3):
        batch = batch_of(seed, labels, size=7)
        assert split.step(batch) == pytest.approx(whole.step(batch), rel=1e-9)
    assert (parameters(split.student) - parameters(whole.student)).abs().max() < 1e-9


@pytest.mark.parametrize(("size", "parts", "sizes"), [(7, 2, [3, 4]), (7, 4, [1, 2, 2, 2]), (2, 5, [1, 1])])
def test_chunks(size, parts, sizes):
    method = FineTune(student(), **SETTINGS, gradient_accumulation=parts)
    batch = batch_of(0, size=size)
    micro_batches = method.micro_batches(batch)
    assert [len(micro_batch["labels"]) for micro_batch, _ in micro_batches] == sizes
    assert [weight for _, weight in micro_batches] == [n / size for n in sizes]
    for name, tensor in batch.items():
        assert torch.equal(torch.cat([micro_batch[name] for micro_batch, _ in micro_batches]), tensor)


# The optimizer.


def test_only_biases_and_layer_norms_are_exempt_from_weight_decay():
    model = student()
    exempt = no_decay(model)
    names = {name for name, p in model.named_parameters() if p in exempt}
    assert names == {
        name for name, _ in model.named_parameters() if name.endswith(".bias") or name.endswith("LayerNorm.weight")
    }


def test_weight_decay_shrinks_only_what_it_may():
    model = student()
    before = bits(model)
    optimizer = Optimizer(
        model,
        model.parameters(),
        lr=0.1,
        weight_decay=0.5,
        max_grad_norm=1.0,
        adam_epsilon=1e-8,
        total_steps=10,
        warmup_steps=0,
    )
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1.0 if name.endswith("bias") or "LayerNorm" in name else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * factor, rtol=1e-12, atol=0)
        assert parameter.grad is None


def learning_rates(steps, **settings):
    model = nn.Linear(2, 1)
    optimizer = Optimizer(
        model, model.parameters(), lr=1.0, weight_decay=0.0, max_grad_norm=1.0, adam_epsilon=1e-8, **settings
    )
    result = []
    for _ in range(steps):
        result.append(optimizer.adamw.param_groups[0]["lr"])
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    return result


@pytest.mark.parametrize(
    ("total", "warmup", "expected"),
    [
        (4, 0, [1, 0.75, 0.5, 0.25, 0, 0]),
        (6, 2, [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
        (3, 3, [0, 1 / 3, 2 / 3, 0]),
        (1, 0, [1, 0]),
    ],
)
def test_the_learning_rate_climbs_and_falls_linearly(total, warmup, expected):
    found = learning_rates(len(expected), total_steps=total, warmup_steps=warmup)
    assert found == pytest.approx(expected, abs=1e-12)
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_linear_schedule_with_warmup(theirs, warmup, total)
    for lr in found:
        assert lr == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        theirs.step()
        schedule.step()


def test_gradients_are_clipped_to_the_global_norm():
    model = nn.Linear(3, 1, bias=False)
    optimizer = Optimizer(
        model,
        model.parameters(),
        lr=1e-9,
        weight_decay=0.0,
        max_grad_norm=0.5,
        adam_epsilon=1e-8,
        total_steps=9,
        warmup_steps=0,
    )
    model.weight.grad = torch.tensor([[3.0, 4.0, 0.0]])
    optimizer.step()
    (state,) = optimizer.adamw.state.values()
    torch.testing.assert_close(state["exp_avg"], 0.1 * torch.tensor([[0.3, 0.4, 0.0]]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 10.0])
def test_the_first_step_from_zero_state_is_that_of_adamw(scale):
    """Clipped (gradients of size 10) and not (of size 0.001), with weight decay on a part."""
    torch.manual_seed(0)
    decayed, exempt, unused = (nn.Parameter(torch.randn(4, 3, dtype=torch.float64)) for _ in range(3))
    gradients = [scale * torch.randn(4, 3, dtype=torch.float64) for _ in range(2)]
    out = [torch.empty_like(p) for p in (decayed, exempt, unused)]
    before = [p.detach().clone() for p in (decayed, exempt, unused)]
    first_adamw_step(
        [decayed, exempt, unused],
        [*gradients, None],
        {exempt},
        out,
        lr=0.1,
        weight_decay=0.2,
        max_grad_norm=1.0,
        epsilon=1e-8,
    )
    assert all(torch.equal(p, b) for p, b in zip((decayed, exempt, unused), before, strict=True))
    adamw = torch.optim.AdamW(
        [
            {"params": [decayed], "weight_decay": 0.2},
            {"params": [exempt, unused], "weight_decay": 0.0},
        ],
        lr=0.1,
        eps=1e-8,
    )
    decayed.grad, exempt.grad = (g.clone() for g in gradients)
    nn.utils.clip_grad_norm_([decayed, exempt], 1.0)
    adamw.step()
    for found, expected in zip(out, (decayed, exempt, unused), strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [5, 1 << 17])
def test_the_first_step_may_take_the_gradients_memory_and_any_block(block, monkeypatch):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3, 4).t())]
    gradients = [torch.randn(4, 3) for _ in range(2)]
    settings = {"lr": 0.1, "weight_decay": 0.2, "max_grad_norm": 1.0, "epsilon": 1e-8}
    expected = [torch.empty(4, 3) for _ in range(2)]
    first_adamw_step(parameters, gradients, set(), expected, **settings)
    monkeypatch.setattr(base, "BLOCK", block)
    first_adamw_step(parameters, gradients, set(), gradients, **settings)
    assert all(torch.equal(a, b) for a, b in zip(gradients, expected, strict=True))


# State.


@pytest.mark.parametrize("distil", [False, True])
def test_a_restored_method_goes_on_bit_for_bit(distil):
    def make():
        model = student(dropout=0.1, dtype=torch.float32)
        options = {**SETTINGS, "warmup_steps": 3}
        return KD(model, teacher(dtype=torch.float32), **options) if distil else FineTune(model, **options)

    method = make()
    torch.manual_seed(0)
    for seed in range(2):
        method.step(batch_of(seed))
    state = copy.deepcopy(method.state_dict())
    assert "teacher" not in state, "a frozen teacher is no state"
    torch.manual_seed(1)
    for seed in range(2, 5):
        method.step(batch_of(seed))

    other = make()
    other.load_state_dict(state)
    torch.manual_seed(1)
    for seed in range(2, 5):
        other.step(batch_of(seed))
    assert_bit_equal(other.student, method.student)


def test_the_state_survives_a_file(tmp_path):
    method = KD(student(), teacher(), **SETTINGS)
    method.step(batch_of(0))
    torch.save(method.state_dict(), tmp_path / "state.pt")
    other = KD(student(), teacher(), **SETTINGS)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for each in (method, other):
        each.step(batch_of(1))
    assert_bit_equal(other.student, method.student)
