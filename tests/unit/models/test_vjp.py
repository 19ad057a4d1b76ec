"""Gradients of several losses of the same logits, against a backward pass of autograd for each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rkd.models import onednn
from rkd.models.unpadded import logits
from rkd.models.vjp import one_direction, vjp
from tests.helpers.small_classifiers import BERT_DROPOUT, KINDS, batch_for, small

ALONG = [kind for kind in KINDS if kind != "mpnet"]
LENGTHS = [5, 9, 2, 9, 3]
DROPOUT = dict.fromkeys(BERT_DROPOUT, 0.2)


def losses(z):
    """Return two losses: that of the labels, and one of soft labels of the teacher."""
    generator = torch.Generator().manual_seed(1)
    soft = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z.dtype)
    if z.shape[1] == 1:
        return [F.mse_loss(z[:, 0], soft[:, 0]), (z - soft).abs().sum()]
    labels = torch.arange(len(z)) % z.shape[1]
    weights = torch.linspace(0.5, 2, z.shape[1], dtype=z.dtype)
    kl = F.kl_div(z.log_softmax(-1), soft.softmax(-1), reduction="batchmean")
    return [F.cross_entropy(z, labels, weights), 0.3 * kl + 0.7 * F.cross_entropy(z, labels)]


def both(model, batch, **autocast):
    """Return the gradients of both losses by `vjp` and by autograd, with the same dropout masks."""
    context = torch.autocast("cpu", **autocast) if autocast else torch.enable_grad()
    torch.manual_seed(3)
    with context:
        z, gradients = vjp(model, batch, softmax=True)
        ours = [gradients(loss) for loss in losses(z)]
        after = torch.get_rng_state()
        torch.manual_seed(3)
        expected = logits(model, batch)
        parameters = [p for p in model.parameters() if p.requires_grad]
        theirs = [
            torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in losses(expected)
        ]
    assert torch.equal(z, expected)
    assert torch.equal(after, torch.get_rng_state())
    return ours, theirs


def assert_close(ours, theirs, tolerance):
    for found, expected in zip(ours, theirs, strict=True):
        norm = torch.stack([g.norm() for g in expected if g is not None]).norm()
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(norm))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_autograd(kind, labels, dtype, tolerance):
    model = small(kind, num_labels=labels).to(dtype)
    assert one_direction(model, softmax=True) == (kind != "mpnet" and labels < 3)
    assert_close(*both(model, batch_for(kind, LENGTHS)), tolerance)


@pytest.mark.parametrize("lengths", [[7], [7, 1], [6, 6, 6], [1] * 16, [16]], ids=str)
@pytest.mark.parametrize("labels", [1, 2])
def test_lengths(labels, lengths):
    """Among them: as many tokens as examples, and one example with a row per token."""
    model = small("bert", num_labels=labels).double()
    assert_close(*both(model, batch_for("bert", lengths)), 1e-12)


@pytest.mark.parametrize("labels", [1, 2, 3])
def test_dropout_masks_are_those_of_one_forward_pass(labels):
    model = small("bert", num_labels=labels, **DROPOUT).double().train()
    assert_close(*both(model, batch_for("bert", LENGTHS)), 1e-12)


def test_without_token_types():
    model = small("bert", num_labels=2).double()
    assert_close(*both(model, batch_for("bert", LENGTHS, types=False)), 1e-12)


@pytest.mark.parametrize("frozen", ["embeddings", "encoder", "bias", "LayerNorm", "weight"])
def test_frozen_parameters(frozen):
    model = small("bert", num_labels=2).double()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(frozen not in name)
    assert one_direction(model, softmax=True)
    assert_close(*both(model, batch_for("bert", LENGTHS)), 1e-12)


class Scaled(nn.Linear):
    """A linear layer with a parameter that no other has."""

    def __init__(self, like):
        super().__init__(like.in_features, like.out_features)
        self.scale = nn.Parameter(torch.ones(like.out_features))

    def forward(self, x):
        return super().forward(x) * self.scale


def test_an_unknown_layer_is_left_to_autograd():
    model = small("bert", num_labels=2)
    model.classifier = Scaled(model.classifier)
    model = model.double()
    assert not one_direction(model, softmax=True)
    ours, theirs = both(model, batch_for("bert", LENGTHS))
    assert_close(ours, theirs, 0.0)
    assert ours[0][-1].any()


def test_other_losses_of_two_logits_have_two_directions():
    model, batch = small("bert", num_labels=2).double(), batch_for("bert", LENGTHS)
    assert not one_direction(model, softmax=False)
    z, gradients = vjp(model, batch, softmax=False)
    found, expected = gradients(z.square().sum()), logits(model, batch).square().sum()
    assert_close([found], [torch.autograd.grad(expected, list(model.parameters()))], 0.0)


@pytest.mark.parametrize("labels", [1, 2])
def test_bf16(labels):
    model = small("bert", num_labels=labels)
    assert_close(*both(model, batch_for("bert", LENGTHS), dtype=torch.bfloat16), 3e-2)


def test_the_second_gradient_costs_one_product_per_layer():
    """Autograd needs two: one for the weights and one for the inputs, and attention's on top."""
    model, batch = small("bert", num_labels=2), batch_for("bert", LENGTHS)
    z, gradients = vjp(model, batch, softmax=True)
    expected = logits(model, batch)
    counts = []
    for work in (lambda: gradients(losses(z)[0]), lambda: gradients(losses(z)[1]), losses(expected)[1].backward):
        with FlopCounterMode(display=False, custom_mapping=onednn.counted()) as counter:
            work()
        counts.append(counter.get_total_flops())
    first, second, autograd = counts
    assert first < 1.1 * autograd  # sums over rows are counted as products, too
    assert second < 0.6 * autograd


def test_the_graph_is_freed_after_the_first_gradient():
    model, batch = small("bert", num_labels=2), batch_for("bert", LENGTHS)
    z, gradients = vjp(model, batch, softmax=True)
    kept = [cell.cell_contents for cell in gradients.__closure__]
    [outputs] = [c for c in kept if isinstance(c, list) and c and isinstance(c[0], torch.Tensor)]
    gradients(losses(z)[0])
    assert not outputs
