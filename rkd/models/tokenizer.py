"""Load a tokenizer and check that it matches its files.

Separate from `rkd.data`, so that training does not import the readers.
"""

import re
import textwrap
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rkd.errors import RkdError
from rkd.models import files

# Words, punctuation and a character that is in no vocabulary: together they exercise every part of a tokenizer.
_SAMPLE = "A first text, of 2 words \U0010fffd"


def load_tokenizer(location: str | Path) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer from a folder (for one on the hub, see `rkd.models.hub.local`). Never runs remote code.

    The tokenizer keeps its truncation side, because every caller truncates.

    Raises:
        RkdError: the tokenizer is missing, damaged or not a fast one; it has no pad token; its `model_max_length` is
            not valid or too small for two texts; or its ids are not those of its files.

    >>> load_tokenizer("results/data/cola/tokenizer").pad_token_id
    0
    """
    folder = Path(location)
    files.check_tokenizer(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        fast = bool(tokenizer.is_fast)
        if fast:
            _check_length(tokenizer, str(location))
        # verbose=False: no model reads this sample, so a warning about its length would mislead.
        ids = tokenizer(_SAMPLE, _SAMPLE, verbose=False)["input_ids"] if fast else None
    except BaseException as error:  # a damaged tokenizer.json raises anything, even a Rust panic
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError, RkdError)):
            raise
        reason = textwrap.shorten(str(error), 300) or type(error).__name__
        raise RkdError(f"no tokenizer could be loaded from '{location}': {reason}") from error
    if not fast:
        raise RkdError(f"the tokenizer of '{location}' is a {type(tokenizer).__name__}; expected a fast tokenizer")
    if not ids:
        raise RkdError(f"the tokenizer of '{location}' makes no tokens of a text; expected one that does")
    _check_same(tokenizer, folder)
    check_padding(tokenizer, str(location))
    # An argument of this call, which save_pretrained would otherwise write to the tokenizer's files.
    tokenizer.init_kwargs.pop("local_files_only", None)
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files, including its truncation and padding sides.

    transformers omits the sides if they were set on the object or come from tokenizer.json alone.

    >>> save_tokenizer(load_tokenizer("results/data/cola/tokenizer"), Path("my-student"))
    """
    for key in ("truncation_side", "padding_side"):
        if getattr(tokenizer, key) != "right":
            tokenizer.init_kwargs[key] = getattr(tokenizer, key)
    tokenizer.save_pretrained(folder)


def check_padding(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Check that a tokenizer has a pad token."""
    if tokenizer.pad_token_id is None:
        raise RkdError(
            f"the tokenizer of '{where}' has no pad token; expected one: set "
            "tokenizer.pad_token = tokenizer.eos_token, save the tokenizer, and set pad_token_id in config.json"
        )


def shortest(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the length of the shortest pair of texts: one token of each and the special tokens.

    >>> shortest(load_tokenizer("results/data/cola/tokenizer"))
    5
    """
    return 2 + int(tokenizer.num_special_tokens_to_add(pair=True))


def _check_length(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Check that `model_max_length` is a whole number and leaves room for a pair of texts."""
    found, least = tokenizer.model_max_length, shortest(tokenizer)
    whole = type(found) is int or (isinstance(found, float) and found.is_integer())
    if not whole or found < least:
        raise RkdError(
            f"the tokenizer of '{where}': found model_max_length {found!r}; expected a whole number, at least {least}: "
            "the special tokens of a pair and one token of each text"
        )
    tokenizer.model_max_length = int(found)


def _check_same(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Check that a tokenizer is the one in its folder: transformers invents the parts that its class does not find."""
    needed = {key: name for key, name in type(tokenizer).vocab_files_names.items() if key != "tokenizer_file"}
    if not (folder / "tokenizer.json").is_file():
        for name in needed.values():
            if not (folder / name).is_file():
                raise RkdError(
                    f"{folder}: found no {name}; expected it, or tokenizer.json: {type(tokenizer).__name__} reads it"
                )
    stored, loaded = files.vocabulary(folder), tokenizer.get_vocab()
    for token, index in (stored or {}).items():
        if loaded.get(token) != index:
            raise RkdError(
                f"{folder}: the tokenizer that transformers builds from its files gives token {token!r} the id "
                f"{loaded.get(token)}; expected {index}, as the files say"
            )
    _check_case(tokenizer, folder)


def _check_case(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Check that the class does not lower-case all texts by default although the vocabulary is cased."""
    file = folder / "tokenizer_config.json"
    if file.is_file() and "do_lower_case" in files.read_object(file, "the tokenizer's settings"):
        return
    vocabulary = tokenizer.get_vocab()
    cased = sorted(token for token in vocabulary if re.fullmatch(r"[A-Z][a-z]+", token))
    tokens = " ".join(tokenizer.tokenize(" ".join(cased[:100]), verbose=False))
    if len(cased) > len(vocabulary) / 100 and not re.search(r"[A-Z][a-z]", tokens):
        raise RkdError(
            f"{file}: found no do_lower_case; expected it, false for a vocabulary with words such as {cased[0]!r}: by "
            f"default {type(tokenizer).__name__} lower-cases all texts"
        )
