"""Several gradients from one forward and one backward pass, each for another loss of the same logits.

A gradient is Jᵀ·g, where J = ∂z/∂θ is the Jacobian of the logits and g = ∂L/∂z. Back-propagation is linear in g. Where
every example's g is a multiple of one direction, g = a·u, every signal that is propagated back is the same multiple of
u's. So u is propagated once, and each gradient then costs only the products that sum it up over the rows of each layer.

Regression has one logit, u = ±1. The losses of a softmax over two classes depend on z₁ − z₀ alone, u = (−1, 1).
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rkd.models.onednn import OneDNN
from rkd.models.outputs import gives_sets
from rkd.models.unpadded import Batch, Unpadding, supported, unpadded_logits

# MPNet looks up relative positions for all examples together: such a row belongs to no single example.
_SHARES_ROWS = ("mpnet",)
_TORCH_LAYERS = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.Dropout, nn.Tanh, nn.ModuleList)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_one_direction(model: Any) -> bool:
    """Return True if `vjp` supports a classifier: one logit, or two of a softmax, and a model as transformers built it.

    Models with other layers, hooks, frozen or reparametrised weights are left to autograd.
    """
    if not supported(model) or model.config.model_type in _SHARES_ROWS or gives_sets(model):
        return False
    modules = list(model.modules())
    classes = [module.out_features for module in modules if type(module) is nn.Linear][-1:]
    return classes in ([1], [2]) and all(_is_usual(module, type(model).__module__) for module in modules)


def _is_usual(module: Any, architecture: str) -> bool:
    """Return True if a module computes what its class does, with weights that only a `_Recorder`'s layers read."""
    kind, own = type(module), dict(module.named_parameters(recurse=False))
    if kind not in _TORCH_LAYERS and (own or kind.__module__ not in (architecture, "transformers.activations")):
        return False
    changed = (
        "forward" in vars(module),
        any(getattr(module, name) for name in _HOOKS),
        getattr(module, "inplace", False),
        kind in (nn.Linear, nn.Embedding) and "weight" not in own,
        kind is nn.LayerNorm and len(own) < 2,
        kind is nn.Embedding and (module.max_norm is not None or module.scale_grad_by_freq or module.sparse),
    )
    return not any(changed) and all(
        type(p) is nn.Parameter and p.requires_grad and not p._backward_hooks and not p._post_accumulate_grad_hooks
        for p in own.values()
    )


def vjp(model: Any, batch: Batch) -> tuple[Tensor, Callable[[Tensor], list[Tensor]]]:
    """Compute the logits of a classifier, and return a function that differentiates losses of these logits.

    Args:
        model: a classifier with one direction; `has_one_direction` tells, this function does not check it.
        batch: as `rkd.models.unpadded.logits` takes it.

    Returns:
        z, shape (batch, classes), a leaf of the graph, and the function. It takes a scalar loss that depends on the
            model through z alone; with two classes, one that depends on z₁ − z₀ alone. It can be called several times
            and returns a gradient for each parameter, in the order of `model.parameters()`.

    >>> z, gradients = vjp(student, batch)
    >>> first = gradients(F.cross_entropy(z, labels))
    >>> second = gradients(kd_loss(z, teacher_logits, temperature=5.0))
    """
    unpadding = Unpadding(batch)
    one_dnn = OneDNN() if batch["input_ids"].device.type == "cpu" else nullcontext()
    with one_dnn, _Recorder() as recorder:
        output = unpadded_logits(model, batch, unpadding)
    z = output.detach().requires_grad_()
    u = torch.linspace(-1, 1, z.shape[1], dtype=z.dtype, device=z.device)  # (−1, 1), or −1
    layers, outputs, signals = recorder.layers, recorder.outputs, list[Tensor]()

    def gradients(loss: Tensor) -> list[Tensor]:
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
        return [found[p] for p in model.parameters()]

    return z, gradients


# Layers have the arguments of the functions that compute them.
@dataclass
class _Linear:
    input: Tensor
    weight: nn.Parameter
    bias: nn.Parameter | None = None

    def gradients(self, signal: Tensor, scale: Tensor) -> Iterator[tuple[nn.Parameter, Tensor]]:
        if self.bias is not None:
            yield self.bias, scale @ signal
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
