"""Files of a local model, read without loading it: the relevant files, their content and their digests.

Needs neither torch nor transformers, so the checks of the config can use it. Checks of a loaded model are in
`rkd.models.loading`, those of a loaded tokenizer in `rkd.models.tokenizer`.
"""

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.labels import label_name
from rkd.utils.known_files import known_sha256

# transformers loads the first of these files that exists.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")

# Keys of config.json that make transformers load other files than these, or change the weights while loading.
_REDIRECTIONS = {
    "transformers_weights": "which names another weights file",
    "auto_map": "which names custom code",
    "quantization_config": "so its weights are quantised",
}

# Each entry is a complete vocabulary; the tokenizer's class decides which one is read.
_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("spm.model",),
    ("tokenizer.model",),
)

# All files that affect tokenisation. config.json gives the class if tokenizer_config.json does not.
_TOKENIZER_FILES = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *(name for names in _VOCABULARIES for name in names),
)

# Architectures that count positions from the padding id + 1. MPNet always uses padding id 1.
_PADDED_POSITIONS = ("roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text")
_FIRST_POSITION = {"mpnet": 2}

# Suffixes of model classes with weights that may look like those of a text classifier.
_OTHER_HEADS = ("ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering")

# The last linear layer of the classifiers in transformers.
_HEADS = ("classifier.weight", "classifier.out_proj.weight", "score.weight", "logits_proj.weight")


# --- the model ----------------------------------------------------------------------------------------------


def read_object(file: Path, what: str) -> dict[str, Any]:
    """Read the JSON object in a file; `what` names its expected content in errors."""
    if not file.is_file():
        raise RkdError(f"{file}: not found; expected {what}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: bad UTF-8 or bad JSON
        raise RkdError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise RkdError(f"{file}: found a JSON {type(content).__name__}; expected an object with {what}")
    return content


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of the model in a folder.

    Raises:
        RkdError: the config is missing or damaged, or makes transformers load other weights than those in the folder.
    """
    file = folder / "config.json"
    if not file.is_file() and (hint := newest_checkpoint(folder)):
        raise RkdError(f"{file}: not found; expected the model's config; a training left checkpoints here: give {hint}")
    fields = read_object(file, "the model's config")
    check_config(fields, str(file))
    if (folder / "adapter_config.json").is_file():
        raise RkdError(f"{folder}: found an adapter (adapter_config.json); expected a whole model: merge it first")
    return fields


def check_config(fields: Mapping[str, Any], where: str) -> None:
    """Check that a config describes a plain model with its weights in the same folder.

    >>> check_config({"transformers_weights": "other.safetensors"}, "mine/config.json")
    Traceback (most recent call last):
    rkd.errors.RkdError: mine/config.json: found transformers_weights, which names another weights file; …
    """
    for key, why in _REDIRECTIONS.items():
        if fields.get(key):
            raise RkdError(
                f"{where}: found {key}, {why}; expected a plain model of transformers with its weights in "
                "model.safetensors"
            )


def check_classes(fields: Mapping[str, Any], where: str) -> None:
    """Check that the config of a classifier is consistent.

    Raises:
        RkdError: `problem_type` is unsupported or does not match the number of outputs; the keys of `id2label` are not
            0, 1, …; `label2id` or `num_labels` contradicts `id2label`; or `architectures` names a model that is not a
            text classifier.

    >>> check_classes({"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 1, "good": 0}}, "mine/config.json")
    Traceback (most recent call last):
    rkd.errors.RkdError: mine/config.json: found label2id {'bad': 1, 'good': 0}; expected {'bad': 0, 'good': 1}, as …
    """
    for name in _listed(fields.get("architectures")):
        if str(name).endswith(_OTHER_HEADS):
            raise RkdError(f"{where}: found {name} in architectures; expected a classifier of whole texts")
    names = _class_names(fields, where)
    count, number = len(names or ()), fields.get("num_labels")
    if names is not None and number is not None and number != count:
        raise RkdError(f"{where}: found num_labels {number!r}; expected {count}, as id2label has it")
    count = count if names is not None else number if type(number) is int else 2  # the library's default
    generic = [f"LABEL_{index}" for index in range(count)]
    ids = fields.get("label2id")
    # If only one of the two mappings was set, transformers writes generic names to the other.
    expected = [{name: index for index, name in enumerate(each)} for each in (names or generic, generic)]
    if ids is not None and _class_ids(ids) not in map(_class_ids, expected):
        reason = "as id2label has it" if names is not None else "or id2label beside it"
        raise RkdError(f"{where}: found label2id {ids!r}; expected {expected[0]!r}, {reason}")
    kind = fields.get("problem_type")
    several = () if count == 1 else ("multi_label_classification",)
    allowed = (None, "regression" if count == 1 else "single_label_classification", *several)
    if kind not in allowed:
        raise RkdError(
            f"{where}: found problem_type {kind!r} with {count} outputs; expected {' or '.join(allowed[1:])}"
        )


def _class_names(fields: Mapping[str, Any], where: str) -> list[str] | None:
    """Return the names in a config's `id2label` in the order of the outputs, or None if it has none."""
    if (names := fields.get("id2label")) is None:
        return None
    keys = list(map(str, names)) if isinstance(names, Mapping) else []
    if not keys or {*keys} != {str(index) for index in range(len(keys))}:
        found = f"the keys {', '.join(map(repr, keys))}" if keys else repr(names)
        raise RkdError(f"{where}: found {found} in id2label; expected a name for every output, 0, 1, …")
    for key, name in names.items():
        if not isinstance(name, str | int | float):
            raise RkdError(f"{where}: found {name!r} for {key} in id2label; expected a name")
    return [str(names[key]) for key in sorted(names, key=int)]


def _class_ids(ids: Any) -> dict[str, int] | None:
    """Return `label2id` with normalised names and integer ids, or None; some programs write the ids as text."""
    try:
        return {label_name(name): int(number) for name, number in ids.items()}
    except (AttributeError, TypeError, ValueError):
        return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest folder checkpoint-N in an output folder of transformers' Trainer, if any."""
    steps = {}
    for path in folder.glob("checkpoint-*"):
        if (number := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / "config.json").is_file():
            steps[int(number[1])] = path
    return steps[max(steps)] if steps else None


def weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers loads a folder's weights from; for sharded weights the index comes first.

    Raises:
        RkdError: there are no weights, or a shard is missing or outside the folder.
    """
    for file in (folder / name for name in _WEIGHTS):
        if file.is_file():
            return [file, *_shards(file)] if file.suffix == ".json" else [file]
    raise RkdError(f"{folder}: found no weights; expected model.safetensors (or pytorch_model.bin)")


def _shards(index: Path) -> list[Path]:
    parts = read_object(index, "the parts of the weights").get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise RkdError(f"{index}: found no weight_map; expected the file of every weight")
    for name in parts.values():
        if not isinstance(name, str) or name != os.path.basename(name) or name in ("", ".", ".."):
            raise RkdError(f"{index}: found the part {name!r}; expected the name of a file in the same folder")
    files = [index.parent / name for name in sorted(set(parts.values()))]
    for file in files:
        if not file.is_file():
            raise RkdError(f"{file}: not found; {index.name} names it")
    return files


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of a folder's weights: that of the single file, or of the `sha256sum` listing of all shards.

    The listing is the output of `sha256sum model.safetensors.index.json model-*.safetensors | LC_ALL=C sort -k 2`.
    """
    files = weight_files(folder)
    return _cached_sha256(files[0]) if len(files) == 1 else _combined_sha256(files)


def content(path: Path) -> str:
    """Return the digest of a model: of its *.json config, or of the config and weights in its folder.

    Other files in the folder and its location do not matter.

    >>> content(Path("configs/models/bert-2x128.json")) == sha256("configs/models/bert-2x128.json")
    True
    """
    return _combined_sha256([path / "config.json", *weight_files(path)]) if path.is_dir() else _cached_sha256(path)


def _combined_sha256(files: Iterable[Path]) -> str:
    lines = [f"{_cached_sha256(file)}  {file.name}\n" for file in sorted(files, key=lambda file: file.name)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _cached_sha256(file: Path) -> str:
    """Return the SHA-256 of a file; it is read again only if it has changed."""
    return known_sha256(file)


@dataclass(frozen=True)
class Facts:
    """Facts about a model from its config; None if the config does not state them.

    Attributes:
        depth: transformer layers.
        width: size of the hidden states.
        vocabulary: rows of the token embedding.
        positions: the longest input in tokens; also None if there is no limit.
        token_types: rows of the token type embedding.
        pad_token_id: the id of padding.
    """

    depth: int | None = None
    width: int | None = None
    vocabulary: int | None = None
    positions: int | None = None
    token_types: int | None = None
    pad_token_id: int | None = None


def facts(fields: Mapping[str, Any]) -> Facts:
    """Read the facts in a config.json, under any of the keys that transformers uses for them.

    >>> facts({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}).positions
    512
    """

    def number(*names: str, least: int = 1) -> int | None:
        values = [fields.get(name) for name in names]
        return next((value for value in values if type(value) is int and value >= least), None)

    pad, kind = number("pad_token_id", least=0), fields.get("model_type")
    positions = number("max_position_embeddings", "n_positions")
    first = (pad or 0) + 1 if kind in _PADDED_POSITIONS else _FIRST_POSITION.get(str(kind), 0)
    return Facts(
        depth=number("num_hidden_layers", "n_layers", "n_layer"),
        width=number("hidden_size", "dim", "n_embd", "d_model"),
        vocabulary=number("vocab_size"),
        positions=positions and positions - first,
        token_types=number("type_vocab_size"),
        pad_token_id=pad,
    )


def check_weights(folder: Path) -> None:
    """Check that a folder has its weights, and that no safetensors file is truncated or has a damaged header."""
    for file in weight_files(folder):
        if file.suffix == ".safetensors":
            shapes(file)


def outputs(folder: Path) -> int | None:
    """Return the number of outputs of the classifier in a folder's weights; None if there is none or it is unknown."""
    for file in weight_files(folder):
        found = shapes(file) if file.suffix == ".safetensors" else {}
        for name in _HEADS:
            if name in found:
                return found[name][0] if found[name] else None
    return None


def shapes(file: Path) -> dict[str, list[int]]:
    """Return name → shape of the tensors in a safetensors file, from its header."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            size = os.fstat(stream.fileno()).st_size
            header: Any = json.loads(stream.read(length)) if 8 + length <= size else None
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0) == size:
            return {name: list(map(int, entry["shape"])) for name, entry in tensors.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError):
        pass
    raise RkdError(f"{file}: found no complete safetensors file (truncated or damaged); expected the model's weights")


# --- the tokenizer ------------------------------------------------------------------------------------------


def check_tokenizer(folder: Path) -> None:
    """Check that a folder contains a complete tokenizer.

    Without a vocabulary transformers creates a tokenizer of five tokens, for which every word is unknown.

    Raises:
        RkdError: there is neither tokenizer.json nor another complete vocabulary, or the settings redirect to other
            files or code.
    """
    if not any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES):
        there = [name for name in _TOKENIZER_FILES[1:] if (folder / name).is_file()]
        raise RkdError(
            f"{folder}: found no vocabulary ({', '.join(there) or 'no tokenizer files'}); expected the tokenizer's "
            "tokenizer.json, or vocab.txt"
        )
    file = folder / "tokenizer_config.json"
    if file.is_file():
        fields = read_object(file, "the tokenizer's settings")
        for key in ("auto_map", "fast_tokenizer_files"):
            if fields.get(key):
                raise RkdError(f"{file}: found {key}; expected a tokenizer of transformers, in tokenizer.json")
    vocabulary(folder)


def tokenizer_content(folder: Path) -> str:
    """Return the digest of all files that affect tokenisation."""
    return _combined_sha256(folder / name for name in _TOKENIZER_FILES if (folder / name).is_file())


def vocabulary(folder: Path) -> dict[str, int] | None:
    """Return token → id from a tokenizer's files; None if only the tokenizer's class can read them.

    Raises:
        RkdError: the file is damaged.
    """
    if (file := folder / "tokenizer.json").is_file():
        return dict(_of_tokenizer_json(str(file.absolute()), *_state(file)))
    if (file := folder / "vocab.txt").is_file():
        try:
            with file.open(encoding="utf-8") as lines:  # str.splitlines would also split at characters that are tokens
                found = {line.rstrip("\n"): index for index, line in enumerate(lines)}
        except ValueError as error:
            raise RkdError(f"{file}: not UTF-8 text ({error}); expected one token per line") from None
    elif (file := folder / "vocab.json").is_file():
        found = read_object(file, "tokens and their ids")
    else:
        return None
    if (file := folder / "added_tokens.json").is_file():
        found |= read_object(file, "tokens and their ids")
    return _checked(found, file)


def _state(file: Path) -> tuple[int, int, int]:
    state = file.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


@functools.cache
def _of_tokenizer_json(path: str, *_state: int) -> dict[str, int]:
    file = Path(path)
    content = read_object(file, "a tokenizer")
    model, added = content.get("model"), content.get("added_tokens", [])
    pieces = model.get("vocab") if isinstance(model, dict) else None
    try:
        if isinstance(pieces, list):  # a Unigram model: a list of (piece, score); the position is the id
            pieces = {piece: index for index, (piece, _) in enumerate(pieces)}
        found = {**pieces, **{token["content"]: token["id"] for token in added}} if pieces else {}
    except (KeyError, TypeError, ValueError):
        found = {}
    return _checked(found, file)


def _checked(found: Mapping[Any, Any], file: Path) -> dict[str, int]:
    if not found or not all(isinstance(key, str) and type(value) is int for key, value in found.items()):
        raise RkdError(f"{file}: found no vocabulary; expected tokens and their ids")
    if min(found.values()) < 0:
        raise RkdError(f"{file}: found the negative id of token {min(found, key=found.__getitem__)!r}")
    return dict(found)
