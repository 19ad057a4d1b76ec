"""Gradients of several losses of the same logits by one backward pass, against one of autograd for each."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from rkd.models import onednn
from rkd.models.outputs import MULTI_LABEL
from rkd.models.unpadded import logits
from rkd.models.vjp import has_one_direction, vjp
from tests.helpers.small_classifiers import BERT_DROPOUT, KINDS, batch_for, small

SUPPORTED = [kind for kind in KINDS if kind != "mpnet"]
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
        z, gradients = vjp(model, batch)
        ours = [gradients(loss) for loss in losses(z)]
        after = torch.get_rng_state()
        torch.manual_seed(3)
        expected = logits(model, batch)
        parameters = list(model.parameters())
        theirs = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses(expected)]
    assert torch.equal(z, expected)
    assert torch.equal(after, torch.get_rng_state())
    return ours, theirs


def assert_close(ours, theirs, tolerance):
    for found, expected in zip(ours, theirs, strict=True):
        norm = torch.stack([g.norm() for g in expected]).norm()
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(norm))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("kind", SUPPORTED)
def test_equals_autograd(kind, labels, dtype, tolerance):
    model = small(kind, num_labels=labels).to(dtype)
    assert has_one_direction(model)
    assert_close(*both(model, batch_for(kind, LENGTHS)), tolerance)


@pytest.mark.parametrize("lengths", [[7], [7, 1], [6, 6, 6], [1] * 16, [16]], ids=str)
@pytest.mark.parametrize("labels", [1, 2])
def test_lengths(labels, lengths):
    """Among them: as many tokens as examples, and one example with a row per token."""
    model = small("bert", num_labels=labels).double()
    assert_close(*both(model, batch_for("bert", lengths)), 1e-12)


@pytest.mark.parametrize("labels", [1, 2])
def test_dropout_masks_are_those_of_one_forward_pass(labels):
    model = small("bert", num_labels=labels, **DROPOUT).double().train()
    assert_close(*both(model, batch_for("bert", LENGTHS)), 1e-12)


def test_without_token_types():
    model = small("bert", num_labels=2).double()
    assert_close(*both(model, batch_for("bert", LENGTHS, types=False)), 1e-12)


def test_tied_weights():
    model = small("bert", num_labels=2).double()
    first, second = model.bert.encoder.layer
    second.output.dense.weight = first.output.dense.weight
    assert has_one_direction(model)
    assert_close(*both(model, batch_for("bert", LENGTHS)), 1e-12)


@pytest.mark.parametrize("labels", [1, 2])
def test_bf16(labels):
    model = small("bert", num_labels=labels)
    assert_close(*both(model, batch_for("bert", LENGTHS), dtype=torch.bfloat16), 3e-2)


# What is left to autograd.


class Scaled(nn.Linear):
    """A linear layer with a parameter that no other has."""

    def __init__(self, like):
        super().__init__(like.in_features, like.out_features)
        self.scale = nn.Parameter(torch.ones(like.out_features))

    def forward(self, x):
        return super().forward(x) * self.scale


def with_inplace_head(model):
    model.classifier = nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Linear(16, 2))


def with_noise(model):
    model.bert.embeddings.word_embeddings.register_forward_hook(lambda module, inputs, output: output.add_(0.1))


CHANGES = {
    "another layer": lambda model: setattr(model, "classifier", Scaled(model.classifier)),
    "another head": with_inplace_head,
    "a head of three": lambda model: setattr(model, "classifier", nn.Linear(16, 3)),
    "dropout in place": lambda model: setattr(model.dropout, "inplace", True),
    "batch norm": lambda model: model.add_module("norm", nn.BatchNorm1d(2, affine=False)),
    "a hook": with_noise,
    "a backward hook": lambda model: model.classifier.register_full_backward_hook(lambda *_: None),
    "a gradient's hook": lambda model: model.classifier.weight.register_hook(lambda gradient: 0 * gradient),
    "a hook after": lambda model: model.classifier.weight.register_post_accumulate_grad_hook(lambda parameter: None),
    "frozen": lambda model: model.bert.embeddings.requires_grad_(False),
    "pruned": lambda model: prune.l1_unstructured(model.bert.pooler.dense, "weight", 0.5),
    "normalised": lambda model: nn.utils.spectral_norm(model.bert.pooler.dense),
    "parametrized": lambda model: nn.utils.parametrizations.weight_norm(model.bert.pooler.dense),
    "a forward of its own": lambda model: setattr(model.classifier, "forward", lambda x: x[..., :2]),
    "LayerNorm without weights": lambda model: setattr(
        model.bert.embeddings, "LayerNorm", nn.LayerNorm(16, elementwise_affine=False)
    ),
    "scaled by frequency": lambda model: setattr(model.bert.embeddings.word_embeddings, "scale_grad_by_freq", True),
    "a norm at most": lambda model: setattr(model.bert.embeddings.word_embeddings, "max_norm", 1.0),
    "several labels": lambda model: setattr(model.config, "problem_type", MULTI_LABEL),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_left_to_autograd(change):
    model = small("bert", num_labels=2)
    assert has_one_direction(model)
    CHANGES[change](model)
    assert not has_one_direction(model)


def test_three_classes_and_shared_rows_are_left_to_autograd():
    assert not has_one_direction(small("bert", num_labels=3))
    assert not has_one_direction(small("mpnet", num_labels=2))
    assert not has_one_direction(torch.compile(small("bert", num_labels=2)))


# What it costs.


def test_the_second_gradient_costs_one_product_per_layer():
    """Autograd needs two: one for the weights and one for the inputs, and attention's on top."""
    model, batch = small("bert", num_labels=2), batch_for("bert", LENGTHS)
    z, gradients = vjp(model, batch)
    expected = logits(model, batch)
    counts = []
    for work in (lambda: gradients(losses(z)[0]), lambda: gradients(losses(z)[1]), losses(expected)[1].backward):
        with FlopCounterMode(display=False, custom_mapping=onednn.counted()) as counter:
            work()
        counts.append(counter.get_total_flops())
    first, second, autograd = counts
    assert first < 1.1 * autograd  # sums over rows are counted as products, too
    assert second < 0.6 * autograd


def test_the_outputs_are_freed_after_the_first_gradient():
    model, batch = small("bert", num_labels=2), batch_for("bert", LENGTHS)
    z, gradients = vjp(model, batch)
    kept = [cell.cell_contents for cell in gradients.__closure__]
    [outputs] = [c for c in kept if isinstance(c, list) and c and isinstance(c[0], torch.Tensor)]
    gradients(losses(z)[0])
    assert not outputs
