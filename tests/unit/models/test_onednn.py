"""oneDNN's float32 products against torch's own: values, derivatives, and where torch's own are kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rkd.models import onednn

needs_onednn = pytest.mark.skipif(not onednn.available(), reason="no oneDNN or no AVX-512 here")


def factors(*batch, dtype=torch.float32, bias=True):
    torch.manual_seed(0)
    x, weight = torch.randn(*batch, 24, dtype=dtype), torch.randn(40, 24, dtype=dtype)
    return [t.requires_grad_() for t in (x, weight, *([torch.randn(40, dtype=dtype)] if bias else []))]


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the inputs that go to oneDNN."""
    found = []
    product = onednn.product
    monkeypatch.setattr(onednn, "product", lambda x, *rest: (found.append(tuple(x.shape)), product(x, *rest))[1])
    return found


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(7,), (1, 7), (3, 5)])
def test_values_and_first_derivatives(batch, bias, calls):
    inputs = factors(*batch, bias=bias)
    with onednn.OneDNN():
        ours = F.linear(*inputs)
    assert len(calls) == 1
    theirs = F.linear(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(theirs)
    for a, b in zip(*(torch.autograd.grad(y, inputs, weights) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_second_derivatives():
    x, weight, bias = factors(7)

    def through_a_gradient(function):
        [inner] = torch.autograd.grad(function(x, weight, bias).square().sum(), [weight], create_graph=True)
        return torch.autograd.grad(inner.square().sum(), [x, weight, bias])

    for a, b in zip(through_a_gradient(onednn.linear), through_a_gradient(F.linear), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@needs_onednn
@pytest.mark.parametrize("moving", [(0, 1, 2), (0,), (1,), (2,), (0, 2)])
def test_derivatives_in_forward_mode(moving):
    inputs = [tensor.detach() for tensor in factors(7)]

    def along(function):
        values = tuple(inputs[i] for i in moving)
        directions = tuple(torch.arange(t.numel(), dtype=t.dtype).view_as(t).sin() for t in values)

        def moved(*values):
            return function(*[dict(zip(moving, values, strict=True)).get(i, inputs[i]) for i in range(3)])

        return torch.func.jvp(moved, values, directions)

    for ours, theirs in zip(along(onednn.linear), along(F.linear), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@needs_onednn
def test_every_linear_module_inside_the_block_takes_part(calls):
    model, x = nn.Sequential(nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 2)), factors(7)[0]
    with onednn.OneDNN():
        model(x)
    assert calls == [(7, 24), (7, 8)]
    model(x)
    assert len(calls) == 2


def test_other_types_and_autocast_stay_with_torch(calls):
    inputs = factors(7, dtype=torch.float64)
    with onednn.OneDNN():
        assert torch.equal(F.linear(*inputs), F.linear(*inputs))
        with torch.autocast("cpu", torch.bfloat16):
            assert F.linear(*factors(7)).dtype == torch.bfloat16
    assert not calls


def test_without_onednn_torch_computes(calls, monkeypatch):
    monkeypatch.setattr(onednn, "available", lambda: False)
    inputs = factors(7)
    with onednn.OneDNN():
        ours = F.linear(*inputs)
    assert torch.equal(ours, F.linear(*inputs))
    assert not calls


@needs_onednn
def test_the_products_are_counted():
    inputs = factors(7)
    with FlopCounterMode(display=False, custom_mapping=onednn.counted()) as counter, onednn.OneDNN():
        F.linear(*inputs).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 7 * 24 * 40
