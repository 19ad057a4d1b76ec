"""A classifier's forward pass without padding, with a last layer that is computed for [CLS] only.

A padded batch of real sentences is mostly padding, and a sequence classifier reads one vector of its last layer. Here
all linear layers run on the concatenated real tokens. Attention runs on groups of examples of similar length, so no
example attends to another. In the last layer keys and values are computed for every token, everything else for the
first token. The logits equal those of the padded model up to rounding, which the tests check.
"""

import inspect
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rkd.models.onednn import OneDNN

Batch = dict[str, Tensor]


def logits(model: Any, batch: Batch, unpadded: bool = True) -> Tensor:
    """Compute the logits of a Hugging Face sequence classifier, without padding if its architecture is supported.

    Args:
        model: a classifier; the architectures of `UNPADDED` take the unpadded path, any other model is called as it is.
        batch: `input_ids` and `attention_mask` of shape (batch, length), padded on the right, and optionally
            `token_type_ids`. On a GPU optionally also `lengths`, the number of tokens of each example, shape (batch,),
            on the CPU: the call then does not wait for the GPU. Other entries, such as `labels`, are ignored.
            Models without token types ignore `token_type_ids`.
        unpadded: False always calls the model itself.

    Returns:
        Shape (batch, classes); one column for regression.
    """
    if not unpadded or not supported(model):
        return to_float32(model(**accepted(model, batch)).logits)
    on_cpu = batch["input_ids"].device.type == "cpu"
    with OneDNN() if on_cpu else nullcontext():
        return unpadded_logits(model, batch, Unpadding(batch))


def supported(model: Any) -> bool:
    """Return True if a model takes the unpadded path, which has no causal attention and no outputs of inner layers."""
    special = ("is_decoder", "output_attentions", "output_hidden_states")
    known = getattr(model.config, "model_type", None) in UNPADDED
    return known and not any(getattr(model.config, name, False) for name in special)


def unpadded_logits(model: Any, batch: Batch, unpadding: "Unpadding") -> Tensor:
    """Compute the logits of a supported model without padding, with torch's own matrix products."""
    return to_float32(UNPADDED[model.config.model_type](model, batch, unpadding))


def accepted(model: Any, batch: Batch) -> Batch:
    """Return the inputs of a batch that the model's `forward` accepts: some architectures have no token types."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    known = inspect.signature(model.forward).parameters
    return {name: batch[name] for name in names if name in batch and name in known}


def to_float32(z: Tensor) -> Tensor:
    """Convert an output in bfloat16 or float16 to float32, so that losses are computed in full precision."""
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


class Unpadding:
    """The mapping between a padded batch and its real tokens.

    Tokens are concatenated example by example, the shortest example first. Attention is computed in groups of examples
    of similar length; each group is padded to its longest example. The first token is repeated at the end to round up
    the number of tokens (see `round_up_tokens`). The copies take no part in attention, and nothing reads them.

    Attributes:
        positions: position of every token in its example, shape (tokens,).
        cls: index of each example's first token, in the order of the batch, shape (batch,).
        example: the example of every token, as an index into the batch, shape (tokens,).
    """

    def __init__(self, batch: Batch) -> None:
        mask = batch["attention_mask"]
        width, device = mask.shape[1], mask.device
        # Computed in NumPy: reading the mapping from a GPU would wait for it.
        known = "lengths" in batch and device.type != "cpu"
        lengths = np.array((batch["lengths"] if known else mask.sum(dim=1)).tolist(), np.int64)
        order = np.argsort(lengths, kind="stable")
        tokens = lengths[order]
        starts = np.cumsum(tokens) - tokens  # of each example
        self.real = int(tokens.sum())
        self.repeated = round_up_tokens(self.real) - self.real
        positions = np.concatenate([np.arange(self.real) - starts.repeat(tokens), np.zeros(self.repeated, np.int64)])
        example = np.concatenate([order.repeat(tokens), order[:1].repeat(self.repeated)])
        inverse = np.argsort(order, kind="stable")
        mapping = (positions, example, example * width + positions, starts[inverse], inverse)
        self.positions, self.example, self.index, self.cls, self.inverse = (_copied(part, device) for part in mapping)
        # On a GPU, computing the padding is faster than launching more kernels for each group.
        sizes = group_sizes(tokens.tolist()) if device.type == "cpu" else [len(order)]
        ends = np.cumsum(sizes)[:-1]
        self.examples = [_copied(part, device) for part in np.split(order, ends)]
        self.groups = [_Group(part, device) for part in np.split(tokens, ends)]
        self.tokens = [group.tokens for group in self.groups]

    def unpad(self, padded: Tensor) -> Tensor:
        """Gather the real tokens: (batch, length, …) → (tokens, …)."""
        return padded.flatten(0, 1).index_select(0, self.index)

    @property
    def longest(self) -> int:
        """Number of tokens of the longest example."""
        return max(group.shape[1] for group in self.groups)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        heads: int,
        dropout: float,
        last: bool,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Compute scaled dot-product attention within each example.

        Args:
            query: (tokens, hidden), or (batch, hidden) for the first token of each example if `last`.
            key, value: (tokens, hidden).
            bias: added to the scores, by the positions of query and key, (heads, longest, longest); None: nothing.

        Returns:
            Context vectors in the shape of `query`.
        """
        keys, values = (part[: self.real].split(self.tokens) for part in (key, value))
        queries = [query[rows] for rows in self.examples] if last else query[: self.real].split(self.tokens)
        found = [
            group.attend(q, k, v, heads, dropout, last, bias)
            for group, q, k, v in zip(self.groups, queries, keys, values, strict=True)
        ]
        if last:
            return torch.cat(found)[self.inverse]
        return torch.cat([*found, query.new_zeros(self.repeated, found[0].shape[-1])])


class _Group:
    """A group of consecutive examples of similar length."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        self.shape = len(lengths), int(lengths.max())
        self.tokens = int(lengths.sum())
        keep = np.arange(self.shape[1]) < lengths[:, None]
        self.padded = self.tokens < keep.size
        if self.padded:
            self.index = _copied(keep.ravel().nonzero()[0], device)
        # Only real keys are visible; broadcast over heads and queries.
        self.mask = _copied(keep[:, None, None, :], device) if self.padded else None

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float, last: bool, bias: Tensor | None
    ) -> Tensor:
        q = query.view(len(query), 1, heads, -1) if last else self._pad(query, heads)
        q, k, v = (part.transpose(1, 2) for part in (q, self._pad(key, heads), self._pad(value, heads)))
        if bias is not None:
            bias = bias[:, : q.shape[2], : k.shape[2]]
        context = attention(q, k, v, self.mask, dropout, bias).transpose(1, 2).flatten(2).flatten(0, 1)
        return context.index_select(0, self.index) if self.padded and not last else context

    def _pad(self, unpadded: Tensor, heads: int) -> Tensor:
        """Pad to the longest example: (tokens, hidden) → (examples, longest, heads, head size)."""
        examples, width = self.shape
        if self.padded:
            unpadded = unpadded.new_zeros(examples * width, unpadded.shape[-1]).index_copy(0, self.index, unpadded)
        return unpadded.view(examples, width, heads, -1)


def _copied(array: np.ndarray, device: torch.device) -> Tensor:
    return to_device(torch.from_numpy(array), device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; a copy from the CPU to a GPU does not wait for the work queued there."""
    pinned = device.type == "cuda" and tensor.device.type == "cpu"
    return tensor.pin_memory().to(device, non_blocking=True) if pinned else tensor.to(device)


def round_up_tokens(tokens: int) -> int:
    """Round up to a number with five significant bits (at most 1/16 more), and to a multiple of 16 below 512.

    oneDNN compiles and caches a kernel for each matrix shape, at a cost of milliseconds and a megabyte. Without
    rounding, almost every batch would have a new shape.

    >>> [round_up_tokens(tokens) for tokens in (3, 350, 1700)]
    [16, 352, 1728]
    """
    step = 1 << max(4, tokens.bit_length() - 5)
    return -(-tokens // step) * step


# Overhead of one more group, in attention scores of one head.
GROUP_COST = 1000


def group_sizes(lengths: list[int]) -> list[int]:
    """Return the group sizes that minimise the total cost of padding and of the number of groups.

    Args:
        lengths: tokens of each example, ascending.

    >>> group_sizes([9, 9, 10, 100])
    [3, 1]
    """
    ends = [i for i in range(1, len(lengths) + 1) if i == len(lengths) or lengths[i] > lengths[i - 1]]
    best: dict[int, tuple[int, int]] = {0: (0, 0)}  # end → least cost up to it, start of the last group
    for end in ends:
        width = lengths[end - 1]
        best[end] = min((best[start][0] + GROUP_COST + (end - start) * width**2, start) for start in best)
    sizes, end = [], len(lengths)
    while end:
        sizes.append(end - best[end][1])
        end = best[end][1]
    return sizes[::-1]


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, bias: Tensor | None = None
) -> Tensor:
    """Compute softmax(Q·Kᵀ / √d + bias)·V with dropout on the probabilities.

    Args:
        q, k, v: (batch, heads, length, d).
        mask: False where a query must not attend to a key, broadcast to (batch, heads, queries, keys); None: no mask.
        dropout: probability.
        bias: added to the scores, (heads, queries, keys); None: nothing.
    """
    if bias is None and (not dropout or q.device.type != "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    # torch has no fused CPU attention with dropout, and none for a bias with a gradient; its fallback is slower because
    # it also handles rows without keys.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    return F.dropout(scores.softmax(dim=-1), dropout) @ v


def _attended(
    unpadding: Unpadding,
    hidden: Tensor,
    projections: tuple[nn.Module, nn.Module, nn.Module],
    heads: int,
    dropout: nn.Dropout,
    last: bool,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the queries' input, the first token of each example in the last layer, and their context vectors.

    Args:
        unpadding: the mapping of the batch.
        hidden: the layer's input, (tokens, hidden).
        projections: to query, key and value.
        heads: number of attention heads.
        dropout: that of attention probabilities.
        last: whether only first tokens are needed.
        bias: as in `Unpadding.attend`.
    """
    queries = hidden[unpadding.cls] if last else hidden
    query, key, value = projections
    rate = dropout.p if dropout.training else 0.0
    return queries, unpadding.attend(query(queries), key(hidden), value(hidden), heads, rate, last, bias)


def _bert_encoder(base: Any, batch: Batch, unpadding: Unpadding, first_position: int) -> Tensor:
    """Compute the last hidden state of each example's first token, shape (batch, hidden), for BERT and its kin."""
    inputs = {name: unpadding.unpad(batch[name])[None] for name in ("input_ids", "token_type_ids") if name in batch}
    hidden = base.embeddings(**inputs, position_ids=unpadding.positions[None] + first_position)[0]
    if hasattr(base, "embeddings_project"):  # ELECTRA's embeddings may be narrower than its layers
        hidden = base.embeddings_project(hidden)
    for layer in base.encoder.layer:
        last = layer is base.encoder.layer[-1]
        attention = layer.attention.self
        maps = attention.query, attention.key, attention.value
        heads, dropout = attention.num_attention_heads, attention.dropout
        queries, context = _attended(unpadding, hidden, maps, heads, dropout, last)
        attended = layer.attention.output(context, queries)
        hidden = layer.output(layer.intermediate(attended), attended)
    return hidden


def _bert(model: Any, batch: Batch, unpadding: Unpadding) -> Tensor:
    cls = _bert_encoder(model.bert, batch, unpadding, first_position=0)
    return model.classifier(model.dropout(model.bert.pooler(cls[:, None])))


def _roberta(model: Any, batch: Batch, unpadding: Unpadding) -> Tensor:
    # RoBERTa counts positions from padding_idx + 1.
    cls = _bert_encoder(model.roberta, batch, unpadding, first_position=model.config.pad_token_id + 1)
    return model.classifier(cls[:, None])


def _electra(model: Any, batch: Batch, unpadding: Unpadding) -> Tensor:
    cls = _bert_encoder(model.electra, batch, unpadding, first_position=0)
    return model.classifier(cls[:, None])


def _mpnet(model: Any, batch: Batch, unpadding: Unpadding) -> Tensor:
    base = model.mpnet
    # As RoBERTa's, but from the padding id of its embeddings.
    positions = unpadding.positions[None] + base.embeddings.padding_idx + 1
    hidden = base.embeddings(unpadding.unpad(batch["input_ids"])[None], position_ids=positions)[0]
    # The bias depends on the distance of query and key alone; all layers share it.
    bias = base.encoder.compute_position_bias(hidden.new_empty(1, unpadding.longest))[0]
    for layer in base.encoder.layer:
        last = layer is base.encoder.layer[-1]
        attention = layer.attention.attn
        maps, heads = (attention.q, attention.k, attention.v), attention.num_attention_heads
        queries, context = _attended(unpadding, hidden, maps, heads, attention.dropout, last, bias)
        attended = layer.attention.LayerNorm(layer.attention.dropout(attention.o(context)) + queries)
        hidden = layer.output(layer.intermediate(attended), attended)
    return model.classifier(hidden[:, None])


def _distilbert(model: Any, batch: Batch, unpadding: Unpadding) -> Tensor:
    base = model.distilbert
    hidden = base.embeddings(unpadding.unpad(batch["input_ids"])[None], position_ids=unpadding.positions[None])[0]
    for layer in base.transformer.layer:
        last = layer is base.transformer.layer[-1]
        attention = layer.attention
        maps, heads = (attention.q_lin, attention.k_lin, attention.v_lin), attention.n_heads
        queries, context = _attended(unpadding, hidden, maps, heads, attention.dropout, last)
        attended = layer.sa_layer_norm(attention.out_lin(context) + queries)
        hidden = layer.output_layer_norm(layer.ffn(attended) + attended)
    return model.classifier(model.dropout(torch.relu(model.pre_classifier(hidden))))


# By model_type of the config. XLM-RoBERTa and CamemBERT are RoBERTa with other vocabularies.
UNPADDED = {
    "bert": _bert,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "electra": _electra,
    "mpnet": _mpnet,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
