"""Losses against scipy and torch.nn.functional, and where they must vanish."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from rkd.losses import kd_loss, regression_kd_loss
from rkd.methods.base import task_loss


def random_logits(rows, classes, seed, scale=3.0):
    return scale * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_kd_loss_is_the_mean_divergence_times_temperature_squared(temperature, classes):
    z_s, z_t = random_logits(7, classes, 0), random_logits(7, classes, 1)
    p_s, p_t = (softmax(z.numpy() / temperature, axis=1) for z in (z_s, z_t))
    expected = temperature**2 * np.mean([entropy(t, s) for t, s in zip(p_t, p_s, strict=True)])
    assert kd_loss(z_s, z_t, temperature).item() == pytest.approx(expected, rel=1e-12)
    by_torch = temperature**2 * F.kl_div(
        F.log_softmax(z_s / temperature, 1), F.softmax(z_t / temperature, 1), reduction="batchmean"
    )
    assert kd_loss(z_s, z_t, temperature).item() == pytest.approx(by_torch.item(), rel=1e-12)


def test_the_teacher_comes_first_in_the_divergence():
    z_s, z_t = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert kd_loss(z_s, z_t, 1.0).item() == pytest.approx(entropy(softmax([0.0, 1.0]), softmax([4.0, 0.0])), rel=1e-6)
    assert kd_loss(z_s, z_t, 1.0).item() != pytest.approx(kd_loss(z_t, z_s, 1.0).item(), rel=0.1)


def test_the_gradient_is_temperature_times_the_difference_of_the_soft_labels():
    z_s, z_t = random_logits(4, 3, 0).requires_grad_(), random_logits(4, 3, 1)
    kd_loss(z_s, z_t, 5.0).backward()
    expected = 5.0 * (F.softmax(z_s / 5, 1) - F.softmax(z_t / 5, 1)) / 4
    torch.testing.assert_close(z_s.grad, expected.detach(), rtol=1e-12, atol=1e-14)


def test_the_gradient_keeps_its_size_at_high_temperature():
    """For T → ∞ and centred logits, the gradient tends to (z_S − z_T) / classes (Hinton et al., 2015)."""
    z_s, z_t = (z - z.mean(dim=1, keepdim=True) for z in (random_logits(4, 3, 0), random_logits(4, 3, 1)))
    z_s.requires_grad_()
    kd_loss(z_s, z_t, 1e4).backward()
    torch.testing.assert_close(z_s.grad, ((z_s - z_t) / (4 * 3)).detach(), rtol=0, atol=1e-3)


@settings(deadline=None, max_examples=50)
@given(
    values=st.lists(st.floats(-30, 30), min_size=2, max_size=4),
    temperature=st.floats(0.5, 20),
    shift=st.floats(-10, 10),
)
def test_identical_logits_give_no_loss_and_no_gradient(values, temperature, shift):
    z_s = torch.tensor([values, values[::-1]], dtype=torch.float64, requires_grad=True)
    loss = kd_loss(z_s, z_s.detach().clone(), temperature)
    (gradient,) = torch.autograd.grad(loss, z_s)
    assert loss.item() == 0
    assert gradient.abs().max() <= 1e-14 * temperature
    # Softmax does not see a constant that is added to all logits.
    assert kd_loss(z_s, z_s.detach() + shift, temperature).item() == pytest.approx(0, abs=1e-11)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.5, 20))
def test_different_logits_give_a_positive_loss(seed, temperature):
    assert kd_loss(random_logits(3, 2, seed), random_logits(3, 2, seed + 1), temperature) > 0


def test_far_apart_logits_give_a_finite_loss():
    z_s, z_t = torch.tensor([[200.0, -200.0]]), torch.tensor([[-200.0, 200.0]])
    assert kd_loss(z_s, z_t, 1.0).item() == pytest.approx(400)


def test_one_logit_has_no_divergence():
    """Why regression needs a loss of its own."""
    assert kd_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [0.0]]), 5.0) == 0


def test_regression_kd_loss_is_the_mean_squared_difference():
    z_s = torch.tensor([[1.0], [2.0]], requires_grad=True)
    loss = regression_kd_loss(z_s, torch.tensor([[4.0], [2.0]]))
    loss.backward()
    assert loss.item() == 4.5
    assert z_s.grad.tolist() == [[-3.0], [0.0]]
    same = regression_kd_loss(z_s, z_s.detach())
    assert (same.item(), torch.autograd.grad(same, z_s)[0].abs().max().item()) == (0, 0)


def test_task_loss_of_classification_is_the_mean_cross_entropy():
    z, y = random_logits(5, 3, 0), torch.tensor([0, 2, 1, 1, 0])
    expected = -log_softmax(z.numpy(), axis=1)[np.arange(5), y.numpy()].mean()
    assert task_loss(z, y).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_task_loss_of_regression_is_the_mean_squared_error(dtype):
    z = torch.tensor([[1.0], [4.5]], dtype=dtype)
    loss = task_loss(z, torch.tensor([2.0, 4.0], dtype=torch.float32))
    assert loss.item() == 0.625
    assert loss.dtype == dtype
    # A single example: its shape must not be broadcast away.
    assert task_loss(z[:1], torch.tensor([2.0])).item() == 1
