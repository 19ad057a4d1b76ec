"""Linear maps in float32 on a CPU with AVX-512 by oneDNN instead of the BLAS library that torch calls.

torch multiplies float32 matrices with MKL, which leaves the AVX-512 units of other makers' processors unused: on an AMD
EPYC oneDNN, which torch brings along, is twice as fast. Both sum in float32; results differ by rounding alone.
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
    """Return whether oneDNN is used. The answer is the same for every run on a machine: nothing is timed."""
    built = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return built and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


class OneDNN(TorchFunctionMode):
    """Inside the block `F.linear`, and with it every `nn.Linear`, goes to oneDNN where that is possible.

    Other types, devices and autocast are left to torch.

    >>> with OneDNN():
    ...     logits = model(**batch).logits
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.linear and not kwargs and _suits(args[0]):
            return linear(*args)
        return func(*args, **(kwargs or {}))


def _suits(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu" and available() and not torch.is_autocast_enabled("cpu")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · Wᵀ + b by oneDNN, differentiable any number of times, in forward mode too.

    Args:
        x: float32 on the CPU, shape (…, n).
        weight: W, shape (m, n).
        bias: b, shape (m,).

    Returns:
        Shape (…, m).
    """
    return _Linear.apply(x.flatten(0, -2), weight, bias).view(*x.shape[:-1], len(weight))


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · Wᵀ + b of two matrices by oneDNN, without a derivative."""
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
        # Not the bare products: they may be differentiated once more.
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _Linear.apply(grad, weight.t(), None) if for_x else None,
            _Linear.apply(grad.t(), x.t(), None) if for_weight else None,
            grad.sum(0) if for_bias else None,
        )

    @staticmethod
    def jvp(ctx: Any, along_x: Tensor | None, along_weight: Tensor | None, along_bias: Tensor | None) -> Tensor:
        x, weight = ctx.saved_tensors
        along = x.new_zeros(()) if along_x is None else _Linear.apply(along_x, weight, None)
        if along_weight is not None:
            return along + _Linear.apply(x, along_weight, along_bias)
        return (along if along_bias is None else along + along_bias).expand(len(x), -1)


def product_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    """Floating-point operations of one product, from the shapes of its factors: for `torch.utils.flop_counter`."""
    return 2 * math.prod(x) * weight[0]


def counted() -> dict[Any, Any]:
    """Return the custom_mapping with which `FlopCounterMode` counts these products."""
    return {torch.ops.mkldnn._linear_pointwise: product_flops} if available() else {}
