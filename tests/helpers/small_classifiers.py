"""Small random classifiers of the architectures with an unpadded forward pass, and batches for them."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

SIZE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 132,
    "num_labels": 3,
    "initializer_range": 0.2,
}
BERT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0}
MPNET_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS = ["bert", "roberta", "distilbert", "electra", "mpnet"]
DISTILBERT_SIZE = {
    "vocab_size": 50,
    "dim": 16,
    "n_layers": 2,
    "n_heads": 2,
    "hidden_dim": 32,
    "max_position_embeddings": 132,
    "num_labels": 3,
    "initializer_range": 0.2,
}
DISTILBERT_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}


def small(kind: str, **overrides) -> nn.Module:
    torch.manual_seed(0)
    if kind == "bert":
        model = BertForSequenceClassification(BertConfig(**{**SIZE, **BERT_DROPOUT, **overrides}))
    elif kind == "roberta":
        model = RobertaForSequenceClassification(RobertaConfig(**{**SIZE, **BERT_DROPOUT, **overrides}))
    elif kind == "electra":
        config = ElectraConfig(**{**SIZE, "embedding_size": 8, **BERT_DROPOUT, **overrides})
        model = ElectraForSequenceClassification(config)
    elif kind == "mpnet":
        model = MPNetForSequenceClassification(MPNetConfig(**{**SIZE, **MPNET_DROPOUT, **overrides}))
    else:
        config = DistilBertConfig(**{**DISTILBERT_SIZE, **DISTILBERT_DROPOUT, **overrides})
        model = DistilBertForSequenceClassification(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model.eval()


def padded_batch(lengths, pad=0, types=True, width=None):
    """Random tokens; `width` pads further than the longest example."""
    generator = torch.Generator().manual_seed(sum(lengths))
    longest = max(lengths)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    tokens = torch.randint(5, 50, mask.shape, generator=generator).where(mask.bool(), torch.tensor(pad))
    batch = {"input_ids": tokens, "attention_mask": mask, "labels": torch.zeros(len(lengths), dtype=torch.long)}
    if types:
        batch["token_type_ids"] = (torch.arange(longest) >= torch.tensor(lengths)[:, None] // 2).long() * mask
    if width:
        extra = (0, width - longest)
        batch = {
            name: F.pad(tensor, extra, value=pad if name == "input_ids" else 0) if name != "labels" else tensor
            for name, tensor in batch.items()
        }
    return batch


def batch_for(kind, lengths, width=None, types=True):
    typed = types and kind in ("bert", "electra")
    return padded_batch(lengths, pad=1 if kind in ("roberta", "mpnet") else 0, types=typed, width=width)
