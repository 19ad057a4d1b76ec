"""A tokenizer whose vocabulary is trained on the task's texts."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizer, PreTrainedTokenizerBase

from rkd.errors import RkdError

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a WordPiece vocabulary of at most `vocab_size` tokens on `texts` and return a lower-casing BERT tokenizer.

    The result is deterministic. Raises `RkdError` if `vocab_size` is too small for the single characters.

    >>> build_tokenizer(["the cat sat"], vocab_size=40).tokenize("The cat")
    ['the', 'cat']
    """
    texts = list(texts)
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    # The trainer numbers the inner characters ("##a") in the random order of a hash map, and these numbers break ties
    # between equally frequent merges. Adding them as sorted special tokens makes the numbers deterministic.
    inner = sorted({f"##{letter}" for word in words for letter in word[1:]})
    needed = len(_SPECIAL) + len(inner) + len({letter for word in words for letter in word})
    if vocab_size < needed:
        raise RkdError(f"vocab_size: found {vocab_size}; expected at least {needed}, the single letters of the data")
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=_SPECIAL + inner, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    return BertTokenizer(vocab=learner.get_vocab(), do_lower_case=True)
