"""Load or initialise the teacher and the student, and check that they fit each other and the data."""

import json
import os
import pickle
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from rkd.errors import RkdError
from rkd.layer_map import LAYER
from rkd.model_source import KNOWN_SHA256, ModelSource, parse
from rkd.runtime import sha256
from rkd.spec import ModelSpec
from rkd.tasks import Task

T = TypeVar("T")

# Reading a .bin from the hub, transformers would ask a service to convert its repository and propose that to its owner.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


def load(spec: ModelSpec, task: Task, vocab_size: int, seed: int) -> PreTrainedModel:
    """A classifier for `task` with its first weights, in float32 on the CPU.

    Args:
        spec: where the weights come from.
        task: decides the number, names and order of the labels.
        vocab_size: tokens in the vocabulary of the data; the size of a randomly initialised model's embedding.
        seed: decides all weights that do not come from a checkpoint, such as the classifier's.

    Raises:
        RkdError: the model is missing, unreadable, of another architecture, or not the one that its checksum names.
    """
    source = parse(spec.source)
    torch.manual_seed(seed)
    if source.kind == "teacher-layers":
        if spec.layers_of is None:
            raise RkdError(f"student_model: {spec.source} needs a teacher model to take layers from")
        return _take_layers(load(spec.layers_of, task, vocab_size, seed), source.layers)
    if source.kind == "config":
        config = _with_labels(_read_config(source, None), task)
        config.vocab_size = vocab_size
        return _reading(
            spec.source, lambda: AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        )
    _verify(source, spec.sha256)
    where = str(source.path() or source.location)
    config = _with_labels(_read_config(source, spec.revision), task)
    return _from_pretrained(
        where, new_head=True, config=config, revision=spec.revision, local_files_only=source.kind != "hub"
    )


def load_finetuned(where: Path | str, *, hub: bool = False) -> PreTrainedModel:
    """A trained classifier with its own head, in float32 on the CPU.

    Args:
        where: its folder, or with `hub` its name on the Hugging Face hub.
    """
    if not hub and not (Path(where) / "config.json").is_file():
        raise RkdError(f"{where}: no trained model is there (config.json is missing); train it again")
    return _from_pretrained(str(where), new_head=False, local_files_only=not hub)


def check_fit(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Refuse a pair that cannot be distilled: other vocabulary size, other labels or another order of them.

    Widths and layers are checked by the layer map of the methods that compare parameters.
    """
    for what in ("vocab_size", "id2label"):
        ours, theirs = getattr(student.config, what), getattr(teacher.config, what)
        if ours != theirs:
            raise RkdError(f"student and teacher differ in {what}: found {ours} and {theirs}; expected the same")


def check_vocabulary(spec: ModelSpec, model: PreTrainedModel, vocabulary: dict[str, int], max_length: int) -> None:
    """Refuse a model that cannot read the tokenised data.

    Args:
        spec: where the model came from; if it ships a vocabulary, token by token equality is asked for.
        vocabulary: token → id of the data's tokenizer.
        max_length: tokens of the longest example.
    """
    size = model.config.vocab_size
    if size < len(vocabulary):
        raise RkdError(f"{spec.source}: its embedding has {size} tokens; the data's vocabulary has {len(vocabulary)}")
    positions = positions_of(model)
    if max_length > positions:
        raise RkdError(f"max_length: found {max_length}; expected at most {positions}, the positions of {spec.source}")
    theirs = _reading(spec.source, lambda: _shipped_vocabulary(spec))
    if theirs is not None and theirs != vocabulary:
        differing = sorted(theirs.items() ^ vocabulary.items(), key=lambda item: (item[1], item[0]))
        raise RkdError(
            f"{spec.source}: its vocabulary is not the one the data were tokenised with (the teacher's); first "
            f"difference at token {differing[0][0]!r}, id {differing[0][1]}"
        )


def positions_of(model: PreTrainedModel) -> int:
    """The longest input in tokens."""
    limit: int = model.config.max_position_embeddings
    if model.config.model_type == "roberta":  # counts positions from padding_idx + 1
        limit -= model.config.pad_token_id + 1
    return limit


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Number of parameters: `total`, and `without_embeddings` (all but token, position and type embeddings)."""
    total = sum(p.numel() for p in model.parameters())
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    return {"total": total, "without_embeddings": total - embeddings}


def depth(model: PreTrainedModel) -> int:
    """Number of transformer layers."""
    return model.config.num_hidden_layers


def _with_labels(config: PretrainedConfig, task: Task) -> PretrainedConfig:
    names = task.labels or ("score",)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = "regression" if task.regression else "single_label_classification"
    return config


def _read_config(source: ModelSource, revision: str | None) -> PretrainedConfig:
    fields = source.read_config() if source.kind != "hub" else _hub_json(source.location, "config.json", revision)
    if fields is None:
        raise RkdError(f"{source.location}: no readable config.json; expected a Hugging Face model folder")
    # TinyBERT's checkpoints carry a BERT config from before model_type existed.
    model_type = fields.pop("model_type", "bert" if "type_vocab_size" in fields else None)
    return _reading(source.location, lambda: AutoConfig.for_model(model_type, **fields))


def _hub_json(name: str, file: str, revision: str | None) -> dict[str, Any]:
    def read() -> dict[str, Any]:
        path = cached_file(name, file, revision=revision)
        if path is None:
            raise OSError(f"it has no {file}")
        return json.loads(Path(path).read_text(encoding="utf-8"))

    return _reading(name, read)


def _from_pretrained(where: str, *, new_head: bool, **arguments: Any) -> PreTrainedModel:
    """A checkpoint whose weights belong to its config; `new_head` allows a fresh pooler and classifier."""
    # Only safetensors, or torch's weights-only unpickling for old .bin files; never code from a repository.
    model, report = _reading(
        where,
        lambda: AutoModelForSequenceClassification.from_pretrained(
            where,
            dtype=torch.float32,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name and shapes
            **arguments,
        ),
    )
    # The library only warns about these, and leaves random weights where some are missing.
    missing, unused, other = (report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    if other:
        name, theirs, ours = min(other)
        raise RkdError(
            f"{where}: its weights are not those of the model in its config.json: {name} has shape {tuple(theirs)} in "
            f"the weights, but {tuple(ours)} in that model ({len(other)} such parameters)"
        )
    wrong = {name for name in missing if not new_head or "embeddings" in name or LAYER.match(name)}
    wrong |= {name for name in unused if LAYER.match(name)}
    if wrong:
        name = min(wrong)
        found = "not in the weights" if name in missing else "in the weights, but not in that model"
        raise RkdError(
            f"{where}: its weights are not those of the model in its config.json: {name} is {found} "
            f"({len(wrong)} such parameters)"
        )
    return model


def _reading(where: str, read: Callable[[], T]) -> T:
    """Run `read` and tell any failure to load as one clear error; the libraries raise a dozen kinds."""
    try:
        return read()
    except RkdError:
        raise
    except Exception as error:
        reason = textwrap.shorten(str(error), 300) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            reason = "its .bin file holds more than tensors, or is damaged; pickles that carry code are refused"
        elif isinstance(error, OSError):
            reason += " (a hub name needs a network once; a local folder needs config.json and model.safetensors)"
        raise RkdError(f"{where}: cannot load this model: {reason}") from error


def _verify(source: ModelSource, expected: str | None) -> None:
    """Compare local weights with the checksum in the config or, for packages that we know, in our own list."""
    expected = expected or KNOWN_SHA256.get(source.location)
    folder = source.path()
    if source.kind == "package" and not expected:
        raise RkdError(f"package:{source.location}: weights from a package need their sha256 in the config")
    if expected and folder is None:
        raise RkdError(f"{source.location}: a sha256 is given, but hub models are pinned by their revision instead")
    if expected and folder:
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise RkdError(f"{weights}: missing; its sha256 was to be checked")
        if (found := sha256(weights)) != expected:
            raise RkdError(f"{weights}: sha256 is {found}; expected {expected}")


def _take_layers(teacher: PreTrainedModel, layers: tuple[int, ...]) -> PreTrainedModel:
    """A student made of some of the teacher's layers, and of everything outside the layers."""
    config = type(teacher.config).from_dict(teacher.config.to_dict())
    if max(layers) >= config.num_hidden_layers:
        raise RkdError(f"teacher-layers: layer {max(layers)} asked for; the teacher has {config.num_hidden_layers}")
    config.num_hidden_layers = len(layers)
    student = type(teacher)(config)
    theirs = teacher.state_dict()

    def source_name(name: str) -> str:
        match = LAYER.match(name)
        return f"{match['stack']}.{layers[int(match['index'])]}.{match['rest']}" if match else name

    student.load_state_dict({name: theirs[source_name(name)] for name in student.state_dict()})
    return student


def _shipped_vocabulary(spec: ModelSpec) -> dict[str, int] | None:
    """Token → id as the model's own files say, None if it ships none."""
    source = parse(spec.source)
    if source.kind not in ("hub", "folder", "package"):
        return None
    where = str(source.path() or source.location)
    local = {"local_files_only": source.kind != "hub", "_raise_exceptions_for_missing_entries": False}
    if path := cached_file(where, "tokenizer.json", revision=spec.revision, **local):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        if not isinstance(vocabulary, dict):  # a list of pieces with scores, whose ids depend on the tokenizer's class
            return None
        return vocabulary | {token["content"]: token["id"] for token in content["added_tokens"]}
    if path := cached_file(where, "vocab.txt", revision=spec.revision, **local):
        with open(path, encoding="utf-8") as file:  # str.splitlines also splits at characters that are tokens
            return {line.rstrip("\n"): index for index, line in enumerate(file)}
    return None
