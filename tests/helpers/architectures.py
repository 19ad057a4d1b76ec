"""Small random classifiers of many architectures, each with a tokenizer of its own kind, as folders on disk."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerBase

POSITIONS = 32  # rows of the table of positions
WORDS = ["good", "bad", "so", "film", "a", "the", "is", "it", "was", "and", "text", "first", "that"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>"]


def _pieces(words: list[str]) -> list[tuple[str, float]]:
    return [(f"▁{word}", -3.0) for word in words] + [(letter, -9.0) for letter in "abcdefghijklmnopqrstuvwxyz▁"]


def _word_pieces(specials: list[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate([*specials, *WORDS, *"abcdefgh"])}


def _bytes(specials: list[str]) -> dict[str, int]:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return {token: index for index, token in enumerate([*specials, *letters])}


def _unigram(name: str, specials: list[str], unknown: str, **fields: Any) -> PreTrainedTokenizerBase:
    vocabulary = [(token, 0.0) for token in specials] + _pieces(WORDS)
    tokenizer: PreTrainedTokenizerBase = getattr(transformers, name)(vocab=vocabulary, **fields)
    assert tokenizer.convert_tokens_to_ids(unknown) == specials.index(unknown)
    return tokenizer


def _modernbert() -> PreTrainedTokenizerBase:
    vocabulary = _bytes(["[CLS]", "[PAD]", "[SEP]", "[UNK]"])
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def _gpt2() -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = transformers.GPT2Tokenizer(vocab=_bytes(["<|endoftext|>"]), merges=[])
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


_BERT_SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": POSITIONS,
}
_TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bert": lambda: transformers.BertTokenizer(vocab=_word_pieces(BERT)),
    "mpnet": lambda: transformers.MPNetTokenizer(vocab=_word_pieces(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"])),
    "roberta": lambda: transformers.RobertaTokenizer(vocab=_bytes([*ROBERTA, "<mask>"]), merges=[]),
    "xlm-roberta": lambda: _unigram("XLMRobertaTokenizer", [*ROBERTA, "<mask>"], "<unk>"),
    "albert": lambda: _unigram("AlbertTokenizer", ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"], "<unk>"),
    "deberta-v2": lambda: _unigram("DebertaV2Tokenizer", [*BERT], "[UNK]", unk_id=1),
    "xlnet": lambda: _unigram(
        "XLNetTokenizer",
        ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>"],
        "<unk>",
        unk_id=0,
    ),
    "gpt2": _gpt2,
    "modernbert": _modernbert,
}
# Architecture → its config, the tokenizer's kind and the longest input.
ARCHITECTURES: dict[str, tuple[dict[str, Any], str, int | None]] = {
    "bert": (_BERT_SIZE, "bert", POSITIONS),
    "distilbert": (
        {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": POSITIONS},
        "bert",
        POSITIONS,
    ),
    "electra": ({**_BERT_SIZE, "embedding_size": 8}, "bert", POSITIONS),
    "roberta": (_BERT_SIZE, "roberta", POSITIONS - 2),
    "xlm-roberta": (_BERT_SIZE, "xlm-roberta", POSITIONS - 2),
    "camembert": (_BERT_SIZE, "xlm-roberta", POSITIONS - 2),
    "mpnet": (_BERT_SIZE, "mpnet", POSITIONS - 2),
    "albert": ({**_BERT_SIZE, "embedding_size": 8}, "albert", POSITIONS),
    "deberta-v2": (
        {**_BERT_SIZE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 2},
        "deberta-v2",
        POSITIONS,
    ),
    "gpt2": ({"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS}, "gpt2", POSITIONS),
    "modernbert": (
        {**_BERT_SIZE, "cls_token_id": 0, "bos_token_id": 0, "sep_token_id": 2, "eos_token_id": 2},
        "modernbert",
        POSITIONS,
    ),
    "xlnet": ({"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32}, "xlnet", None),
}


def tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """A small tokenizer of the class that models of this architecture have."""
    return _TOKENIZERS[kind]()


def classifier(kind: str, seed: int = 0, **fields: Any) -> Any:
    """A small random classifier of two classes, in eval mode, for what the `tokenizer` of its architecture writes."""
    size, reads, _ = ARCHITECTURES[kind]
    reader = tokenizer(reads)
    config = AutoConfig.for_model(
        kind,
        **{
            "vocab_size": 1 + max(reader.get_vocab().values()),
            "pad_token_id": reader.pad_token_id,
            "initializer_range": 0.3,
            "id2label": {0: "bad", 1: "good"},
            **size,
            **fields,
        },
    )
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()


def save(folder: Path, kind: str, seed: int = 0, **fields: Any) -> Path:
    """Write a small classifier and its tokenizer to `folder`."""
    classifier(kind, seed, **fields).save_pretrained(folder)
    tokenizer(ARCHITECTURES[kind][1]).save_pretrained(folder)
    return folder
