"""A model's logits as a function of parameters that are not its own."""

from torch import Tensor, nn
from torch.func import functional_call

from rkd.methods.base import Batch
from rkd.models.unpadded import logits


class _Logits(nn.Module):
    """`rkd.models.unpadded.logits` as a module, which `torch.func.functional_call` asks for."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        return logits(self.model, batch)


def logits_at(model: nn.Module, parameters: dict[str, Tensor], batch: Batch) -> Tensor:
    """Logits of a classifier at other values of its parameters, differentiable in them.

    Args:
        model: a classifier; its own parameters stay as they are.
        parameters: the values by parameter name; parameters that are missing here keep their own.
        batch: as `rkd.models.unpadded.logits` takes it.

    Returns:
        Shape (batch, classes).
    """
    named = {f"model.{name}": value for name, value in parameters.items()}
    return functional_call(_Logits(model), named, (batch,))
