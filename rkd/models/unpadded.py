"""A classifier's forward pass that computes nothing it does not need: no padding, and a last layer for [CLS] only.

A padded batch of real sentences is mostly padding, and a sequence classifier reads one vector of its last layer. All
linear maps here run on the real tokens alone, laid end to end; the attention product runs on groups of examples of
similar length, so no example attends to another. In the last layer keys and values are computed for every token,
everything else for the first one. The logits equal those of the padded model up to rounding; the tests hold them to it.
"""

import inspect
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rkd.models.onednn import OneDNN

Batch = dict[str, Tensor]


def logits(model: Any, batch: Batch, unpadded: bool = True) -> Tensor:
    """Logits of a Hugging Face sequence classifier, without computing on padding where its architecture is known.

    Args:
        model: BERT, RoBERTa and DistilBERT classifiers take the unpadded path; any other classifier is simply called.
        batch: `input_ids` and `attention_mask` of shape (batch, length), padded on the right, perhaps
            `token_type_ids`. Other entries, such as `labels`, are ignored, and so are token types by a model that has
            none.
        unpadded: false calls the model in every case.

    Returns:
        Shape (batch, classes); one column for regression.
    """
    kind = getattr(model.config, "model_type", None)
    # Causal attention and the inner states of a pass are not rebuilt here.
    special = ("is_decoder", "output_attentions", "output_hidden_states")
    if unpadded and kind in UNPADDED and not any(getattr(model.config, name, False) for name in special):
        on_cpu = batch["input_ids"].device.type == "cpu"
        with OneDNN() if on_cpu else nullcontext():
            return to_float32(UNPADDED[kind](model, batch))
    return to_float32(model(**accepted(model, batch)).logits)


def accepted(model: Any, batch: Batch) -> Batch:
    """Select the inputs of a batch that the model's `forward` takes: not every architecture has token types."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    known = inspect.signature(model.forward).parameters
    return {name: batch[name] for name in names if name in batch and name in known}


def to_float32(z: Tensor) -> Tensor:
    """Convert a model's output to float32 if autocast gives fewer bits: losses are computed in full precision."""
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


class Unpadding:
    """Positions of the real tokens of a padded batch, and the conversion in both directions.

    Tokens lie example by example, the shortest first. Attention is computed by groups of examples of similar length,
    each padded to its own longest. The first token is repeated at the end up to a round number of tokens (see
    `round_up_tokens`); the repetitions take no part in attention, and nothing is read from them.

    Attributes:
        positions: position of every token in its own example, shape (tokens,).
        cls: index of each example's first token among the tokens, in the order of the batch, shape (batch,).
    """

    def __init__(self, attention_mask: Tensor) -> None:
        lengths, width = attention_mask.sum(dim=1), attention_mask.shape[1]
        order = torch.argsort(lengths, stable=True)
        token = attention_mask[order].flatten().nonzero().squeeze(1)
        self.real, self.repeated = len(token), round_up_tokens(len(token)) - len(token)
        token = torch.cat([token, token[:1].expand(self.repeated)])
        self.positions = token % width
        self.index = order[token // width] * width + self.positions
        self.cls = torch.empty_like(order)
        self.cls[order] = (self.positions[: self.real] == 0).nonzero().squeeze(1)
        self.inverse = torch.argsort(order)
        # A GPU computes padding sooner than it starts one more kernel for each group.
        on_cpu = attention_mask.device.type == "cpu"
        self.examples = order.split(group_sizes(lengths[order].tolist()) if on_cpu else len(order))
        self.groups = [_Group(lengths[rows]) for rows in self.examples]
        self.tokens = [group.tokens for group in self.groups]

    def unpad(self, padded: Tensor) -> Tensor:
        """(batch, length, …) → (tokens, …)."""
        return padded.flatten(0, 1).index_select(0, self.index)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float, last: bool) -> Tensor:
        """Scaled dot-product attention inside each example.

        Args:
            query: (tokens, hidden), or (batch, hidden) for the first token of each example if `last`.
            key, value: (tokens, hidden).

        Returns:
            The shape of `query`.
        """
        keys, values = (part[: self.real].split(self.tokens) for part in (key, value))
        queries = [query[rows] for rows in self.examples] if last else query[: self.real].split(self.tokens)
        found = [
            group.attend(q, k, v, heads, dropout, last)
            for group, q, k, v in zip(self.groups, queries, keys, values, strict=True)
        ]
        if last:
            return torch.cat(found)[self.inverse]
        return torch.cat([*found, query.new_zeros(self.repeated, found[0].shape[-1])])


class _Group:
    """Examples of similar length, one after the other."""

    def __init__(self, lengths: Tensor) -> None:
        self.shape = len(lengths), int(lengths.max())
        self.tokens = int(lengths.sum())
        keep = torch.arange(self.shape[1], device=lengths.device) < lengths[:, None]
        self.padded = self.tokens < keep.numel()
        self.index = keep.flatten().nonzero().squeeze(1)
        # Queries may look at real keys only; broadcast over heads and queries.
        self.mask = keep[:, None, None, :] if self.padded else None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float, last: bool) -> Tensor:
        q = query.view(len(query), 1, heads, -1) if last else self._pad(query, heads)
        q, k, v = (part.transpose(1, 2) for part in (q, self._pad(key, heads), self._pad(value, heads)))
        context = attention(q, k, v, self.mask, dropout).transpose(1, 2).flatten(2).flatten(0, 1)
        return context.index_select(0, self.index) if self.padded and not last else context

    def _pad(self, unpadded: Tensor, heads: int) -> Tensor:
        """(tokens, hidden) → (examples, longest, heads, head size)."""
        examples, width = self.shape
        if self.padded:
            unpadded = unpadded.new_zeros(examples * width, unpadded.shape[-1]).index_copy(0, self.index, unpadded)
        return unpadded.view(examples, width, heads, -1)


def round_up_tokens(tokens: int) -> int:
    """Round up to a number of five significant bits, a sixteenth more at most; below 512 to a multiple of 16.

    oneDNN compiles each shape of a product and keeps what it has compiled: milliseconds and a megabyte for each, and
    numbers of tokens as they come are new in every batch.

    >>> [round_up_tokens(tokens) for tokens in (3, 350, 1700)]
    [16, 352, 1728]
    """
    step = 1 << max(4, tokens.bit_length() - 5)
    return -(-tokens // step) * step


# Overhead of one more group, in attention scores of one head.
GROUP_COST = 1000


def group_sizes(lengths: list[int]) -> list[int]:
    """Choose how many examples go into each group, so that padding and overhead per group cost least together.

    Args:
        lengths: tokens of each example, ascending.

    >>> group_sizes([9, 9, 10, 100])
    [3, 1]
    """
    ends = [i for i in range(1, len(lengths) + 1) if i == len(lengths) or lengths[i] > lengths[i - 1]]
    best: dict[int, tuple[int, int]] = {0: (0, 0)}  # up to an example: the least cost, and where its last group starts
    for end in ends:
        width = lengths[end - 1]
        best[end] = min((best[start][0] + GROUP_COST + (end - start) * width**2, start) for start in best)
    sizes, end = [], len(lengths)
    while end:
        sizes.append(end - best[end][1])
        end = best[end][1]
    return sizes[::-1]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(Q·Kᵀ / √d)·V with dropout on the probabilities.

    Args:
        q, k, v: (batch, heads, length, d).
        mask: false where a query may not look at a key, broadcast to (batch, heads, queries, keys); None: nowhere.
        dropout: probability.
    """
    if not dropout or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    # The CPU has no fused attention with dropout. What torch takes instead also guards against rows without a key.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    return F.dropout(scores.softmax(dim=-1), dropout) @ v


def _bert_encoder(base: Any, batch: Batch, first_position: int) -> Tensor:
    """Last hidden state of each example's first token, shape (batch, hidden), for BERT and RoBERTa encoders."""
    unpadding = Unpadding(batch["attention_mask"])
    inputs = {name: unpadding.unpad(batch[name])[None] for name in ("input_ids", "token_type_ids") if name in batch}
    hidden = base.embeddings(**inputs, position_ids=unpadding.positions[None] + first_position)[0]
    for layer in base.encoder.layer:
        last = layer is base.encoder.layer[-1]
        attention = layer.attention.self
        query_input = hidden[unpadding.cls] if last else hidden
        context = unpadding.attend(
            attention.query(query_input),
            attention.key(hidden),
            attention.value(hidden),
            attention.num_attention_heads,
            attention.dropout.p if attention.training else 0.0,
            last,
        )
        attended = layer.attention.output(context, query_input)
        hidden = layer.output(layer.intermediate(attended), attended)
    return hidden


def _bert(model: Any, batch: Batch) -> Tensor:
    cls = _bert_encoder(model.bert, batch, first_position=0)
    return model.classifier(model.dropout(model.bert.pooler(cls[:, None])))


def _roberta(model: Any, batch: Batch) -> Tensor:
    # RoBERTa counts positions from padding_idx + 1.
    cls = _bert_encoder(model.roberta, batch, first_position=model.config.pad_token_id + 1)
    return model.classifier(cls[:, None])


def _distilbert(model: Any, batch: Batch) -> Tensor:
    unpadding = Unpadding(batch["attention_mask"])
    base = model.distilbert
    hidden = base.embeddings(unpadding.unpad(batch["input_ids"])[None], position_ids=unpadding.positions[None])[0]
    for layer in base.transformer.layer:
        last = layer is base.transformer.layer[-1]
        attention = layer.attention
        query_input = hidden[unpadding.cls] if last else hidden
        context = unpadding.attend(
            attention.q_lin(query_input),
            attention.k_lin(hidden),
            attention.v_lin(hidden),
            attention.n_heads,
            attention.dropout.p if attention.training else 0.0,
            last,
        )
        attended = layer.sa_layer_norm(attention.out_lin(context) + query_input)
        hidden = layer.output_layer_norm(layer.ffn(attended) + attended)
    return model.classifier(model.dropout(torch.relu(model.pre_classifier(hidden))))


UNPADDED = {"bert": _bert, "roberta": _roberta, "distilbert": _distilbert}
