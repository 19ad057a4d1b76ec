"""FLOPs that a Reptile step requires, and the speed of its matrix products alone on this machine."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rkd.models import onednn

Layout = tuple[tuple[int, ...], tuple[int, ...]]  # shape and strides


def forward_flops(config: Any, lengths: Sequence[int]) -> int:
    """Count the FLOPs that a BERT classifier's forward pass requires, in matrix products only.

    Counted as in `rkd.profiling.measure.flops`, for real tokens only. The last layer counts only the first token of
    each example, apart from keys and values. Additional computation is not credited.

    Args:
        config: config of a BERT classifier.
        lengths: real tokens of each example.
    """
    h, f, size = config.hidden_size, config.intermediate_size, len(lengths)
    tokens, squares = sum(lengths), sum(n * n for n in lengths)
    layer = (8 * h * h + 4 * h * f) * tokens + 4 * h * squares
    last = 4 * h * h * tokens + (4 * h * h + 4 * h * f) * size + 4 * h * tokens
    head = (2 * h * h + 2 * h * config.num_labels) * size
    return int((config.num_hidden_layers - 1) * layer + last + head)


def reptile_flops(student: Any, teacher: Any, lengths: Sequence[int]) -> int:
    """Count the FLOPs that a Reptile step requires.

    It consists of one forward pass and two gradients of the student, and two forward passes of the teacher. For each
    product of the forward pass, the first gradient takes two, and the second one or two, see `rkd.models.vjp`.

    Args:
        student, teacher: configs of BERT classifiers.
        lengths: real tokens of each example of the batch.
    """
    passes = 4 if student.num_labels <= 2 else 5
    return passes * forward_flops(student, lengths) + 2 * forward_flops(teacher, lengths)


class Products(TorchDispatchMode):
    """A recorder of the block's matrix products, to replay them alone.

    Only products of two matrices are recorded. Those of attention are small and use several kinds of kernels.

    >>> with Products() as products:
    ...     method.step(batch)
    >>> products.flops, products.replay()
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Layout, Layout]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.addmm.default:
            self._record(args[1], args[2])
        elif func is torch.ops.aten.mm.default:
            self._record(args[0], args[1])
        elif getattr(func, "overloadpacket", None) in onednn.counted():
            self._record(args[0], args[1].t())
        return func(*args, **(kwargs or {}))

    def _record(self, left: Tensor, right: Tensor) -> None:
        self.calls.append(((tuple(left.shape), left.stride()), (tuple(right.shape), right.stride())))

    @property
    def flops(self) -> int:
        """FLOPs of all recorded products."""
        return sum(2 * left[0][0] * left[0][1] * right[0][1] for left, right in self.calls)

    def replay(self, routine: str = "torch.mm") -> Callable[[], None]:
        """Return a function that replays the products in order, on random operands with the same memory layouts.

        Args:
            routine: "torch.mm", or "oneDNN" (`rkd.models.onednn`).
        """
        dtype = torch.float32
        operands: dict[tuple[Layout, Layout], tuple[Tensor, Tensor, Tensor]] = {}
        for left, right in self.calls:
            if (left, right) not in operands:
                a, b = (torch.empty_strided(*layout, dtype=dtype).normal_() for layout in (left, right))
                operands[left, right] = (a, b, torch.empty(a.shape[0], b.shape[1], dtype=dtype))

        def run() -> None:
            for call in self.calls:
                a, b, out = operands[call]
                if routine == "torch.mm":
                    torch.mm(a, b, out=out)
                else:
                    onednn.product(a, b.t())

        return run
