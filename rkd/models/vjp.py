"""Several gradients from one forward pass, each for another loss of the same logits.

A gradient is Jᵀ·g, where J = ∂z/∂θ is the Jacobian of the logits and g = ∂L/∂z. Back-propagation is linear in g. Where
every example's g is a multiple of one direction, g = a·u, every signal that is propagated back is the same multiple of
u's. So u is propagated once, and each gradient then costs only the products that sum it up over the rows of each layer.

Regression has one logit, u = ±1. The losses of a softmax over two classes depend on z₁ − z₀ alone, u = (−1, 1).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rkd.models.onednn import OneDNN
from rkd.models.unpadded import Batch, Unpadding, logits, supported, unpadded_logits

Gradients = list[Tensor | None]
# MPNet looks up relative positions for all examples together: such a row belongs to no single example.
SHARES_ROWS = ("mpnet",)


def vjp(model: Any, batch: Batch, *, softmax: bool) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
    """Compute the logits of a classifier, and return a function that differentiates losses of these logits.

    Args:
        model: a classifier, as `rkd.models.unpadded.logits` takes it.
        batch: as `rkd.models.unpadded.logits` takes it.
        softmax: True if the losses depend on differences of an example's logits alone, as all losses of a softmax do.

    Returns:
        z, shape (batch, classes), a leaf of the graph, and the function. It takes a scalar loss that depends on the
            model through z alone, and can be called several times. It returns a gradient for each parameter that
            requires one, in the order of `model.parameters()`; None if the logits do not depend on it.

    >>> z, gradients = vjp(student, batch, softmax=True)
    >>> first = gradients(F.cross_entropy(z, labels))
    >>> second = gradients(kd_loss(z, teacher_logits, temperature=5.0))
    """
    if one_direction(model, softmax):
        return _along(model, batch)
    parameters = [p for p in model.parameters() if p.requires_grad]
    output = logits(model, batch)
    z = output.detach().requires_grad_()

    def gradients(loss: Tensor) -> Gradients:
        [g] = torch.autograd.grad(loss, [z])
        return unshared(torch.autograd.grad(output, parameters, g, retain_graph=True, allow_unused=True))

    return z, gradients


def unshared(gradients: Iterable[Tensor | None]) -> Gradients:
    """Copy gradients that share memory, as autograd returns them, so that each can be changed in place."""
    taken: set[int] = set()

    def own(gradient: Tensor) -> Tensor:
        alone = gradient.is_contiguous() and gradient.data_ptr() not in taken
        taken.add(gradient.data_ptr())
        return gradient if alone else gradient.clone(memory_format=torch.contiguous_format)

    return [None if gradient is None else own(gradient) for gradient in gradients]


def one_direction(model: Any, softmax: bool) -> bool:
    """Return True if ∂L/∂z of every example has a fixed direction u, and the gradients of all layers are known."""
    known = (nn.Linear, nn.LayerNorm, nn.Embedding)
    trained = (module for module in model.modules() if any(p.requires_grad for p in module.parameters(recurse=False)))
    if not supported(model) or model.config.model_type in SHARES_ROWS or any(type(m) not in known for m in trained):
        return False
    return model.config.num_labels == 1 or (model.config.num_labels == 2 and softmax)


def _along(model: Any, batch: Batch) -> tuple[Tensor, Callable[[Tensor], Gradients]]:
    """Do the work of `vjp` where every example's ∂L/∂z is a multiple of u."""
    unpadding = Unpadding(batch)
    one_dnn = OneDNN() if batch["input_ids"].device.type == "cpu" else nullcontext()
    with one_dnn, _Recorder() as recorder:
        output = unpadded_logits(model, batch, unpadding)
    z = output.detach().requires_grad_()
    u = torch.linspace(-1, 1, z.shape[1], dtype=z.dtype, device=z.device)  # (−1, 1), or −1
    layers, outputs, signals = recorder.layers, recorder.outputs, list[Tensor]()

    def gradients(loss: Tensor) -> Gradients:
        if not signals:
            signals.extend(torch.autograd.grad(output, outputs, u.expand_as(output).contiguous()))
            outputs.clear()  # frees memory, as the graph is freed
        [g] = torch.autograd.grad(loss, [z])
        a = g @ u / len(u)
        found: dict[nn.Parameter, Tensor] = {}
        with torch.no_grad(), one_dnn:
            for layer, signal in zip(layers, signals, strict=True):
                rows = signal.flatten(0, -2)
                # The last layer and the classifier have one row per example, all others one row per token.
                scale = a if len(rows) == len(a) else a[unpadding.example]
                for parameter, part in layer.gradients(rows, scale.to(rows.dtype)):
                    gradient = part.to(parameter.dtype)  # products are in bfloat16 under autocast
                    found[parameter] = found[parameter] + gradient if parameter in found else gradient
        return [found.get(p) for p in model.parameters() if p.requires_grad]

    return z, gradients


# Layers have the arguments of the functions that compute them.
@dataclass
class _Linear:
    input: Tensor
    weight: nn.Parameter
    bias: nn.Parameter | None = None

    def gradients(self, signal: Tensor, scale: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
        if self.bias is not None and self.bias.requires_grad:
            yield self.bias, scale @ signal
        if self.weight.requires_grad:
            x, scale = self.input.detach().flatten(0, -2).to(signal.dtype), scale[:, None]
            left, right = (signal, x * scale) if x.shape[1] < signal.shape[1] else (signal * scale, x)
            yield self.weight, F.linear(left.t(), right.t())


@dataclass
class _LayerNorm:
    input: Tensor
    normalized_shape: list[int]
    weight: nn.Parameter
    bias: nn.Parameter
    eps: float

    def gradients(self, signal: Tensor, scale: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
        normal = F.layer_norm(self.input.detach().flatten(0, -2), self.normalized_shape, eps=self.eps)
        yield self.weight, scale @ (signal * normal)
        yield self.bias, scale @ signal


@dataclass
class _Embedding:
    input: Tensor
    weight: nn.Parameter
    padding_idx: int | None = None
    max_norm: float | None = None
    norm_type: float = 2.0
    scale_grad_by_freq: bool = False
    sparse: bool = False

    def gradients(self, signal: Tensor, scale: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
        gradient = torch.zeros_like(self.weight)
        gradient.index_add_(0, self.input.flatten(), (signal * scale[:, None]).to(gradient.dtype))
        if self.padding_idx is not None:
            gradient[self.padding_idx] = 0
        yield self.weight, gradient


_LAYERS = {F.linear: _Linear, F.layer_norm: _LayerNorm, F.embedding: _Embedding}


class _Recorder(TorchFunctionMode):
    """A context that records the layers with parameters, and leaves these parameters out of the graph.

    Attributes:
        layers: each with its input.
        outputs: their outputs, whose gradients are the signals of back-propagation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: list[_Linear | _LayerNorm | _Embedding] = []
        self.outputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _LAYERS:
            return func(*args, **kwargs)
        self.layers.append(_LAYERS[func](*args, **kwargs))
        constant = [a.detach() if isinstance(a, nn.Parameter) else a for a in args]
        output = func(*constant, **{k: a.detach() if isinstance(a, nn.Parameter) else a for k, a in kwargs.items()})
        self.outputs.append(output if output.requires_grad else output.requires_grad_())
        return output.view_as(output)  # profilers take no leaf for a module's output
