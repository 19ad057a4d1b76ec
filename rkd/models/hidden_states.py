"""Hidden states and attention scores of a classifier, captured by forward hooks.

Hooks do not change the forward pass, so they work with any attention implementation and, for first tokens, with the
unpadded pass of `rkd.models.unpadded`. Attention scores are recomputed from the query and key projections of each
layer, because no implementation returns them: eager attention returns probabilities, fused attention nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from rkd.errors import RkdError
from rkd.layer_map import LAYER
from rkd.models.unpadded import Batch, Unpadding, accepted, logits, to_float32


@dataclass(frozen=True)
class States:
    """Hidden states and attention scores of every layer for a batch.

    Attributes:
        hidden: the output of the embeddings, then of every layer; each (batch, length, hidden).
        scores: every layer's attention scores Q·Kᵀ / √(head size) before mask and softmax; each
            (batch, heads, length, length). Rows and columns of padding are undefined.
    """

    hidden: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]


def config_of(model: nn.Module) -> Any:
    """Return the Hugging Face config of a model."""
    return cast(Any, model).config


def encoder_layers(model: nn.Module) -> list[nn.Module]:
    """Return the transformer layers of a classifier, from first to last.

    Raises:
        RkdError: the architecture has no layers like those of BERT, RoBERTa or DistilBERT.
    """
    for name, _ in model.named_parameters():
        if match := LAYER.match(name):
            layers = list(model.get_submodule(match["stack"]).children())
            if all(hasattr(layer, "attention") for layer in layers):
                return layers
    raise _unknown(model)


def cls_states(model: nn.Module, batch: Batch, layers: Iterable[int]) -> tuple[Tensor, Tensor]:
    """Compute the logits, and the hidden states of each example's first token after some layers.

    Args:
        model: a sequence classifier with the layers of BERT, RoBERTa or DistilBERT.
        batch: as `rkd.models.unpadded.logits` takes it.
        layers: indices of the layers, counted from 0, ascending.

    Returns:
        Logits, shape (batch, classes), and states, shape (layers, batch, hidden).
    """
    stack = encoder_layers(model)
    with _captured([_output(stack[layer], model) for layer in layers]) as outputs:
        z = logits(model, batch)
    cls = Unpadding(batch).cls

    def first_tokens(output: Tensor) -> Tensor:
        if output.dim() == 3:  # (batch, length, hidden): a padded forward pass
            return output[:, 0]
        # (tokens, hidden), or (batch, hidden) after the last layer, which is computed for first tokens only.
        return output if len(output) == len(z) else output[cls]

    return z, to_float32(torch.stack([first_tokens(output) for output in outputs]))


def all_states(model: nn.Module, batch: Batch) -> States:
    """Compute all hidden states and attention scores of a sequence classifier in its own padded forward pass.

    Args:
        model: a sequence classifier with the layers of BERT, RoBERTa or DistilBERT.
        batch: as `rkd.models.unpadded.logits` takes it.
    """
    inputs = accepted(model, batch)
    projections = [part for layer in encoder_layers(model) for part in _query_and_key(layer, model)]
    with _captured(projections) as outputs:
        hidden = model(**inputs, output_hidden_states=True).hidden_states
    heads = config_of(model).num_attention_heads
    scores = [_scores(q, k, heads) for q, k in zip(outputs[::2], outputs[1::2], strict=True)]
    return States(tuple(map(to_float32, hidden)), tuple(map(to_float32, scores)))


def _scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Compute Q·Kᵀ / √(head size): (batch, length, hidden) twice → (batch, heads, length, length)."""
    q, k = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key))
    return q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5


def _output(layer: nn.Module, model: nn.Module) -> nn.Module:
    """Return the last module of a layer: `output` in BERT and RoBERTa, `output_layer_norm` in DistilBERT."""
    for name in ("output", "output_layer_norm"):
        if hasattr(layer, name):
            return getattr(layer, name)
    raise _unknown(model)


def _query_and_key(layer: nn.Module, model: nn.Module) -> tuple[nn.Module, nn.Module]:
    attention = getattr(layer.attention, "self", layer.attention)
    for query, key in (("query", "key"), ("q_lin", "k_lin")):
        if hasattr(attention, query):
            return getattr(attention, query), getattr(attention, key)
    raise _unknown(model)


def _unknown(model: nn.Module) -> RkdError:
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    return RkdError(f"{kind}: its hidden states and attention are not accessible; expected BERT, RoBERTa or DistilBERT")


@contextmanager
def _captured(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that collects the outputs of modules, in the order of their calls within the block."""
    outputs: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _m, _i, output: outputs.append(output)) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
