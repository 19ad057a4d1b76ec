"""float32 linear layers on CPUs with AVX-512, computed by oneDNN instead of torch's default BLAS.

torch multiplies float32 matrices with MKL, which does not use AVX-512 on processors other than Intel's. On an AMD EPYC
oneDNN, which ships with torch, is twice as fast. Both sum in float32, so results differ only by rounding.
"""

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


@cache
def available() -> bool:
    """Return True if oneDNN is used; depends only on torch and the CPU, never on a timing."""
    built = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return built and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


class OneDNN(TorchFunctionMode):
    """A context in which `F.linear`, and so every `nn.Linear`, uses oneDNN where possible.

    Other dtypes, other devices and autocast are left to torch.

    >>> with OneDNN():
    ...     logits = model(**batch).logits
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and _supported(args[0]):
            return linear(*args)
        return func(*args, **(kwargs or {}))


def _supported(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and available() and not torch.is_autocast_enabled("cpu")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x · Wᵀ + b with oneDNN, differentiable any number of times and in forward mode.

    Args:
        x: float32 on the CPU, shape (…, n).
        weight: W, shape (m, n).
        bias: b, shape (m,).

    Returns:
        Shape (…, m).
    """
    return _Linear.apply(x.flatten(0, -2), weight, bias).view(*x.shape[:-1], len(weight))


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x · Wᵀ + b of two matrices with oneDNN, without a derivative."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        # `_Linear` and not `product`, because the gradient may be differentiated again.
        x_needs, weight_needs, bias_needs = ctx.needs_input_grad
        return (
            _Linear.apply(grad, weight.t(), None) if x_needs else None,
            _Linear.apply(grad.t(), x.t(), None) if weight_needs else None,
            grad.sum(0) if bias_needs else None,
        )

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor | None, weight_tangent: Tensor | None, bias_tangent: Tensor | None) -> Tensor:
        x, weight = ctx.saved_tensors
        tangent = x.new_zeros(()) if x_tangent is None else _Linear.apply(x_tangent, weight, None)
        if weight_tangent is not None:
            return tangent + _Linear.apply(x, weight_tangent, bias_tangent)
        return (tangent if bias_tangent is None else tangent + bias_tangent).expand(len(x), -1)


def product_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Count the floating-point operations of one product from its shapes, for `torch.utils.flop_counter`."""
    return 2 * math.prod(x) * weight[0]


def counted() -> dict[Any, Any]:
    """Return the `custom_mapping` with which `FlopCounterMode` counts these products."""
    return {torch.ops.mkldnn._linear_pointwise: product_flops} if available() else {}
