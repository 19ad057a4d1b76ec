"""Logits of a model at given parameter values, their directional derivative, and sums of gradients."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from rkd.methods.base import Batch
from rkd.models.unpadded import logits


class _Logits(nn.Module):
    """`rkd.models.unpadded.logits` as a module, as `torch.func.functional_call` requires."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return logits(self.model, batch)


def logits_at(model: nn.Module, parameters: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Compute the logits of a classifier at given parameter values, differentiable with respect to them.

    Args:
        model: a classifier; its own parameters are not changed.
        parameters: values by parameter name; parameters that are left out keep their own values.
        batch: as `rkd.models.unpadded.logits` takes it.

    Returns:
        Shape (batch, classes).
    """
    named = {f"model.{name}": value for name, value in parameters.items()}
    return functional_call(_Logits(model), named, (batch,))


@torch.no_grad()
def logits_and_slope(model: nn.Module, direction: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """Compute the logits of a classifier and their directional derivative in one forward-mode pass.

    Args:
        model: a classifier.
        direction: v by parameter name; 0 for parameters that are left out.
        batch: as `rkd.models.unpadded.logits` takes it.

    Returns:
        z and J·v, where J is the Jacobian of z with respect to the parameters; both of shape (batch, classes), without
            a graph.
    """
    parameters = {name: p.detach() for name, p in model.named_parameters() if name in direction}
    with sdpa_kernel(SDPBackend.MATH):  # fused kernels have no derivative in forward mode
        z, along = jvp(lambda values: logits_at(model, values, batch), (parameters,), (dict(direction),))[:2]
    return z, along


def add_gradients(
    totals: Sequence[Tensor | None], loss: Tensor, parameters: Sequence[Tensor], retain_graph: bool = False
) -> list[Tensor | None]:
    """Add the gradients of a loss to running totals, one per parameter; None if neither has a gradient."""
    parts = torch.autograd.grad(loss, parameters, retain_graph=retain_graph, allow_unused=True)
    return [total if g is None else g if total is None else total + g for g, total in zip(parts, totals, strict=True)]
