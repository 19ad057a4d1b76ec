"""Small random BERT models and batches for them."""

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

VOCABULARY = 60


def bert(
    layers: int, seed: int, labels: int = 2, dropout: float = 0.0, hidden: int = 16
) -> BertForSequenceClassification:
    """A small BERT classifier with random weights, large enough that logits differ between examples."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=130,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        num_labels=labels,
        initializer_range=0.2,
    )
    model = BertForSequenceClassification(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            # Biases start at zero in both models. There the pseudo-gradient is zero but for rounding, whose sign
            # AdamW would turn into full steps: no two correct programs could agree.
            nn.init.normal_(parameter, std=0.1)
    return model


def random_batch(seed: int, size: int = 6, labels: int = 2, length: int | None = None) -> dict[str, Tensor]:
    """A padded batch of random tokens with examples of different lengths; `length` pads further."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 12, (size,), generator=generator)
    width = length or int(lengths.max())
    mask = (torch.arange(width) < lengths[:, None]).long()
    tokens = torch.randint(5, VOCABULARY, (size, width), generator=generator)
    types = (torch.arange(width) >= lengths[:, None] // 2).long()
    if labels == 1:
        y = 5 * torch.rand(size, generator=generator)
    else:
        y = torch.randint(0, labels, (size,), generator=generator)
    return {"input_ids": tokens * mask, "token_type_ids": types * mask, "attention_mask": mask, "labels": y}
