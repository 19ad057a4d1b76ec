"""Load a tokenizer, and refuse one that is not what its files say.

Apart from `rkd.data`, which training does not need.
"""

import re
import textwrap
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rkd.errors import RkdError
from rkd.models import files

# Words, signs and a character that no vocabulary has: each makes another part of a tokenizer work.
_SAMPLE = "A first text, of 2 words \U0010fffd"


def load_tokenizer(location: str | Path) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer in a folder, or in the hub's cache (`rkd.models.hub.local`). Remote code never runs.

    The side on which it cuts a text stays its own: all that reads texts here asks it to cut, and so do others.

    Raises:
        RkdError: there is none, it is damaged or a slow one, it has no pad token, says that its model reads next to
            nothing, or its ids are not those of its files.

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
        # Of what no model is to read, the library need not warn that it is too long.
        ids = tokenizer(_SAMPLE, _SAMPLE, verbose=False)["input_ids"] if fast else None
    except BaseException as error:  # from a damaged tokenizer.json anything, a panic of its Rust library too
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
    # How it was read is no part of it, and would be written to its files.
    tokenizer.init_kwargs.pop("local_files_only", None)
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's files, with the sides on which it cuts and pads.

    The library leaves them out where they were set on the object or stood in tokenizer.json alone.

    >>> save_tokenizer(load_tokenizer("results/data/cola/tokenizer"), Path("my-student"))
    """
    for key in ("truncation_side", "padding_side"):
        if getattr(tokenizer, key) != "right":
            tokenizer.init_kwargs[key] = getattr(tokenizer, key)
    tokenizer.save_pretrained(folder)


def check_padding(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Refuse a tokenizer without a pad token."""
    if tokenizer.pad_token_id is None:
        raise RkdError(
            f"the tokenizer of '{where}' has no pad token; expected one: set "
            "tokenizer.pad_token = tokenizer.eos_token, save the tokenizer, and set pad_token_id in config.json"
        )


def shortest(tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the shortest pair of texts: one of each, and what the tokenizer puts around them.

    >>> shortest(load_tokenizer("results/data/cola/tokenizer"))
    5
    """
    return 2 + int(tokenizer.num_special_tokens_to_add(pair=True))


def _check_length(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Refuse a `model_max_length` that is not a number of tokens, or leaves no room for text."""
    found, least = tokenizer.model_max_length, shortest(tokenizer)
    whole = type(found) is int or (isinstance(found, float) and found.is_integer())
    if not whole or found < least:
        raise RkdError(
            f"the tokenizer of '{where}': found model_max_length {found!r}; expected a whole number, at least {least}: "
            "what it puts around two texts, and a token of each"
        )
    tokenizer.model_max_length = int(found)


def _check_same(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a tokenizer that is not the one in its folder: the library makes up what the class does not find."""
    needed = {key: name for key, name in type(tokenizer).vocab_files_names.items() if key != "tokenizer_file"}
    if not (folder / "tokenizer.json").is_file():
        for name in needed.values():
            if not (folder / name).is_file():
                raise RkdError(
                    f"{folder}: found no {name}; expected it, or tokenizer.json: {type(tokenizer).__name__} reads it"
                )
    theirs, ours = files.vocabulary(folder), tokenizer.get_vocab()
    for token, index in (theirs or {}).items():
        if ours.get(token) != index:
            raise RkdError(
                f"{folder}: the tokenizer that transformers makes of its files gives token {token!r} the id "
                f"{ours.get(token)}; expected {index}, as the files say"
            )
    _check_case(tokenizer, folder)


def _check_case(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Refuse a vocabulary with upper case whose texts the class puts in lower case by default."""
    file = folder / "tokenizer_config.json"
    if file.is_file() and "do_lower_case" in files.read_object(file, "the tokenizer's settings"):
        return
    vocabulary = tokenizer.get_vocab()
    cased = sorted(token for token in vocabulary if re.fullmatch(r"[A-Z][a-z]+", token))
    made = " ".join(tokenizer.tokenize(" ".join(cased[:100]), verbose=False))
    if len(cased) > len(vocabulary) / 100 and not re.search(r"[A-Z][a-z]", made):
        raise RkdError(
            f"{file}: found no do_lower_case; expected it, false for a vocabulary with words such as {cased[0]!r}: by "
            f"default {type(tokenizer).__name__} puts all texts in lower case"
        )
