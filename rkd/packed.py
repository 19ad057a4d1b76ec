"""A classifier's forward pass that computes nothing it does not need: no padding, and a last layer for [CLS] only.

A padded batch of real sentences is mostly padding, and a sequence classifier reads one vector of its last layer. All
linear maps here run on the real tokens alone, laid end to end; only the attention product itself sees the padded
shape, so no example attends to another. In the last layer keys and values are computed for every token, everything
else for the first one. The logits equal those of the padded model up to rounding; the tests hold them to it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Batch = dict[str, Tensor]


def logits(model: Any, batch: Batch) -> Tensor:
    """Logits of a Hugging Face sequence classifier, without computing on padding where its architecture is known.

    Args:
        model: BERT, RoBERTa and DistilBERT classifiers take the packed path; any other classifier is simply called.
        batch: `input_ids` and `attention_mask` of shape (batch, length), padded on the right, perhaps
            `token_type_ids`. Other entries, such as `labels`, are ignored.

    Returns:
        Shape (batch, classes); one column for regression.
    """
    kind = getattr(model.config, "model_type", None)
    # Causal attention and the inner states of a pass are not rebuilt here.
    special = ("is_decoder", "output_attentions", "output_hidden_states")
    if kind in PACKED and not any(getattr(model.config, name, False) for name in special):
        return PACKED[kind](model, batch)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    return model(**inputs).logits


class Packing:
    """Where each real token of a padded batch lies, and the way there and back.

    Attributes:
        positions: position of every real token in its own example, shape (tokens,).
        cls: index of each example's first token among the real tokens, shape (batch,).
    """

    def __init__(self, attention_mask: Tensor) -> None:
        self.batch, self.length = attention_mask.shape
        keep = attention_mask.bool()
        self.index = keep.flatten().nonzero().squeeze(1)
        self.positions = self.index % self.length
        self.cls = (self.positions == 0).nonzero().squeeze(1)
        # Queries may look at real keys only; broadcast over heads and queries.
        self.mask = None if keep.all() else keep[:, None, None, :]

    def pack(self, padded: Tensor) -> Tensor:
        """(batch, length, …) → (tokens, …)."""
        return padded.flatten(0, 1)[self.index]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float, last: bool) -> Tensor:
        """Scaled dot-product attention inside each example.

        Args:
            query: (tokens, hidden), or (batch, hidden) for the first token of each example if `last`.
            key, value: (tokens, hidden).

        Returns:
            The shape of `query`.
        """
        q = query.view(self.batch, 1, heads, -1) if last else self._unpack(query, heads)
        k, v = self._unpack(key, heads), self._unpack(value, heads)
        context = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=self.mask, dropout_p=dropout
        )
        context = context.transpose(1, 2).flatten(2)
        return context.flatten(0, 1) if last else self.pack(context)

    def _unpack(self, packed: Tensor, heads: int) -> Tensor:
        if self.mask is not None:
            padded = packed.new_zeros(self.batch * self.length, packed.shape[-1])
            packed = padded.index_copy(0, self.index, packed)
        return packed.view(self.batch, self.length, heads, -1)


def _bert_encoder(base: Any, batch: Batch, first_position: int) -> Tensor:
    """Last hidden state of each example's first token, shape (batch, hidden), for BERT and RoBERTa encoders."""
    packing = Packing(batch["attention_mask"])
    inputs = {name: packing.pack(batch[name])[None] for name in ("input_ids", "token_type_ids") if name in batch}
    hidden = base.embeddings(**inputs, position_ids=packing.positions[None] + first_position)[0]
    for layer in base.encoder.layer:
        last = layer is base.encoder.layer[-1]
        attention = layer.attention.self
        query_input = hidden[packing.cls] if last else hidden
        context = packing.attend(
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
    packing = Packing(batch["attention_mask"])
    base = model.distilbert
    hidden = base.embeddings(packing.pack(batch["input_ids"])[None], position_ids=packing.positions[None])[0]
    for layer in base.transformer.layer:
        last = layer is base.transformer.layer[-1]
        attention = layer.attention
        query_input = hidden[packing.cls] if last else hidden
        context = packing.attend(
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


PACKED = {"bert": _bert, "roberta": _roberta, "distilbert": _distilbert}
