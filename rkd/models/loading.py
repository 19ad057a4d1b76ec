"""Load or initialise teacher and student, and check that they match each other and the data."""

import pickle
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from rkd.errors import RkdError
from rkd.layer_map import LAYER
from rkd.models import files, hub
from rkd.models.outputs import gives_sets
from rkd.models.source import ModelSource, parse
from rkd.models.tokenizer import shortest
from rkd.models.unpadded import logits
from rkd.specs.jobs import ModelSpec
from rkd.tasks import Task

T = TypeVar("T")

# Largest change of a logit by padding, relative to the largest logit: float32 sums depend on the order.
PADDING_TOLERANCE = 1e-3


def load(
    spec: ModelSpec, task: Task, vocab_size: int, seed: int, *, pad_token_id: int | None = None
) -> PreTrainedModel:
    """Load or initialise a classifier for `task`, in float32 on the CPU.

    Args:
        spec: where the weights come from.
        task: gives the number, names and order of the labels.
        vocab_size: tokens in the vocabulary of the data; the embedding size of a randomly initialised model.
        seed: seed of all weights that do not come from a checkpoint, such as the classifier's.
        pad_token_id: the tokenizer's padding id, used if the model's config has none.

    Raises:
        RkdError: the model is missing, unreadable or of another architecture; its weights are not finite; its
            classifier belongs to another task; or it does not match its checksum or the digest of its content.
    """
    source = parse(spec.source)
    torch.manual_seed(seed)
    if source.kind == "teacher-layers":
        if spec.layers_of is None:
            raise RkdError(f"student_model: {spec.source} needs a teacher model to take layers from")
        teacher = load(spec.layers_of, task, vocab_size, seed, pad_token_id=pad_token_id)
        return _take_layers(teacher, source.layers)
    _verify(source, spec)
    source = hub.local(source, spec.revision)
    config = _with_labels(_read_config(source, pad_token_id), task)
    if source.kind == "config":
        config.vocab_size = vocab_size
        return _reading(
            spec.source, lambda: AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        )
    return _from_pretrained(str(source.path()), task=task, config=config)


def load_for(
    spec: ModelSpec, task: Task, tokenizer: PreTrainedTokenizerBase, seed: int, max_length: int
) -> PreTrainedModel:
    """Load a model for data tokenised by `tokenizer`, and check it with `check_reading`.

    Args:
        max_length: tokens of the longest example.
    """
    model = load(spec, task, vocabulary_size(tokenizer), seed, pad_token_id=tokenizer.pad_token_id)
    check_reading(
        model,
        tokenizer,
        where=spec.source,
        max_length=max_length,
        pair=task.pair,
        shipped=shipped_vocabulary(spec),
    )
    return model


def load_finetuned(where: Path | str) -> PreTrainedModel:
    """Load a trained classifier with its own head from its folder, in float32 on the CPU."""
    folder = Path(where)
    if not (folder / "config.json").is_file():
        checkpoint = files.newest_checkpoint(folder)
        hint = f"give its newest checkpoint, {checkpoint}" if checkpoint else "train it again"
        raise RkdError(f"{where}: found no trained model (config.json is missing); {hint}")
    fields = files.read_config(folder)
    files.check_classes(fields, f"{folder / 'config.json'}")
    files.check_weights(folder)
    return _from_pretrained(str(where), task=None)


def hub_files(spec: ModelSpec) -> list[dict[str, Any]]:
    """Return name, commit and SHA-256 of the hub files that a model is built from, for run.json."""
    source, teacher = parse(spec.source), spec.layers_of
    own = [hub.snapshot(source.location, spec.revision).record()] if source.kind == "hub" else []
    return own + (hub_files(teacher) if teacher else [])


def check_fit(student: PreTrainedModel, teacher: PreTrainedModel, *, same_vocabulary: bool = True) -> None:
    """Check that student and teacher have the same vocabulary size, labels and label order.

    For methods that compare parameters, the layer map checks widths and layers. Without `same_vocabulary` each reads
    tokens of its own.
    """
    for what in ("vocab_size", "id2label") if same_vocabulary else ("id2label",):
        of_student, of_teacher = getattr(student.config, what), getattr(teacher.config, what)
        if of_student != of_teacher:
            raise RkdError(
                f"student and teacher differ in {what}: found {of_student} and {of_teacher}; expected the same"
            )
    if gives_sets(student) != gives_sets(teacher):
        found = " and ".join(str(model.config.problem_type) for model in (student, teacher))
        raise RkdError(f"student and teacher differ in problem_type: found {found}; expected the same")


def check_reading(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    where: str,
    max_length: int,
    pair: bool = False,
    shipped: Mapping[str, int] | None = None,
) -> None:
    """Check that a model can read the tokenizer's output, before any training, evaluation or prediction.

    Args:
        where: the model's name in errors.
        max_length: tokens of the longest input.
        pair: True if inputs are pairs of texts.
        shipped: the model's own vocabulary, if it has one; it must equal the tokenizer's.

    Raises:
        RkdError: the embedding is too small, there are too few positions, the padding id differs, there is no token
            type for the second text, the vocabulary differs, the tokenizer pads on the left, or the logits are not
            finite or depend on padding.
    """
    vocabulary, needed = tokenizer.get_vocab(), vocabulary_size(tokenizer)
    size = len(cast(nn.Embedding, model.get_input_embeddings()).weight)
    if size < needed:
        raise RkdError(f"{where}: its embedding has {size} tokens; the data's vocabulary has {needed}")
    if shipped is not None and shipped != vocabulary:
        differing = sorted(shipped.items() ^ vocabulary.items(), key=lambda item: (item[1], item[0]))
        raise RkdError(
            f"{where}: its vocabulary is not the one the data were tokenised with (the teacher's); first "
            f"difference at token {differing[0][0]!r}, id {differing[0][1]}"
        )
    pads = [("pad_token_id in its config", model.config.pad_token_id)]
    pads += [("padding id of its positions", table.padding_idx) for table in _positions(model)]
    for what, found in pads[:1] + [each for each in pads[1:] if each[1] is not None]:
        if found != tokenizer.pad_token_id:
            raise RkdError(
                f"{where}: the {what} is {found}; expected {tokenizer.pad_token_id}, the id of the tokenizer's "
                f"{tokenizer.pad_token!r}"
            )
    if max_length < (least := shortest(tokenizer)):
        raise RkdError(
            f"{where}: reads {max_length} tokens at most; expected at least {least}: the special tokens of a "
            "pair and one token of each text"
        )
    positions = positions_of(model)
    if positions is not None and max_length > positions:
        raise RkdError(f"max_length: found {max_length}; expected at most {positions}, the positions of {where}")
    texts = ("A first text.", "And one that goes with it.") if pair else ("A first text.",)
    short = tokenizer(*texts, verbose=False)
    long = tokenizer(*(f"{text} {text}" for text in texts), verbose=False)
    types = 1 + max(long.get("token_type_ids", [0]))
    for table in _tables(model, "token_type_embeddings"):
        if types > table.num_embeddings:
            raise RkdError(
                f"{where}: found {table.num_embeddings} token type (type_vocab_size); expected {types}: the tokenizer "
                "marks the second text of a pair"
            )
    _check_padding(model, [{name: row[name][:max_length] for name in row} for row in (short, long)], tokenizer, where)
    # Positions count from the first token, so other programs that pad on the left would get other answers.
    if tokenizer.padding_side != "right":
        raise RkdError(
            f"{where}: its tokenizer has padding_side '{tokenizer.padding_side}'; expected 'right', as batches are "
            "padded here: set tokenizer.padding_side = 'right' and save the tokenizer"
        )


def positions_of(model: PreTrainedModel) -> int | None:
    """Return the longest input in tokens, or None if there is no limit.

    Read from the position embeddings or, if there are none (relative and rotary positions), from the config.

    >>> positions_of(AutoModelForSequenceClassification.from_pretrained("FacebookAI/roberta-base"))
    512
    """

    def limit_of(table: nn.Embedding) -> int:
        # RoBERTa-like models count positions from the padding id + 1, BART-like models from an offset.
        first = 0 if table.padding_idx is None else table.padding_idx + 1
        return table.num_embeddings - int(getattr(table, "offset", first))

    if tables := _positions(model):
        return min(map(limit_of, tables))
    limit = getattr(model.config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _positions(model: PreTrainedModel) -> list[nn.Embedding]:
    return _tables(model, "position_embedding", "position_embeddings", "embed_positions", "wpe")


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of embedding rows that a tokenizer needs: its highest id plus one."""
    return 1 + max(tokenizer.get_vocab().values())


def _tables(model: PreTrainedModel, *names: str) -> list[nn.Embedding]:
    """Return the embeddings of a model with one of these names."""
    found = [(name.rpartition(".")[2], module) for name, module in model.named_modules()]
    return [module for name, module in found if name in names and isinstance(module, nn.Embedding)]


@torch.no_grad()
def _check_padding(
    model: PreTrainedModel, rows: Sequence[Mapping[str, list[int]]], tokenizer: PreTrainedTokenizerBase, where: str
) -> None:
    """Check that two texts get the same logits in one padded batch as each alone in the model's own forward pass."""
    alone = [{name: torch.tensor([values]) for name, values in row.items()} for row in rows]
    width = max(row["input_ids"].shape[1] for row in alone)

    def padded(name: str) -> Tensor:
        fill = tokenizer.pad_token_id if name == "input_ids" else 0
        return torch.cat([F.pad(row[name], (0, width - row[name].shape[1]), value=fill) for row in alone])

    training = model.training
    model.eval()
    try:
        together = _reading(where, lambda: logits(model, {name: padded(name) for name in alone[0]}))
        single = _reading(where, lambda: torch.cat([logits(model, row, unpadded=False) for row in alone]))
    finally:
        model.train(training)
    if not (together.isfinite().all() and single.isfinite().all()):
        raise RkdError(f"{where}: its answer to a text is not finite; expected finite logits")
    worst = float((together - single).abs().max())
    if worst > PADDING_TOLERANCE * max(1.0, float(single.abs().max())):
        raise RkdError(
            f"{where}: its logits change by up to {worst:.2g} with the padding behind a text; expected a model that "
            f"ignores it (as it stands, {model.config.model_type} cannot be used: batches are padded on the right)"
        )


def shipped_vocabulary(spec: ModelSpec) -> dict[str, int] | None:
    """Return token → id from the model's own files; None if it has none that can be read without its class."""
    source = parse(spec.source)
    folder = hub.local(source, spec.revision).folder()
    return None if folder is None else files.vocabulary(folder)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count the parameters: `total`, and `without_embeddings` (without token, position and type embeddings)."""
    total = sum(p.numel() for p in model.parameters())
    embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    return {"total": total, "without_embeddings": total - embeddings}


def depth(model: PreTrainedModel) -> int:
    """Return the number of transformer layers."""
    return model.config.num_hidden_layers


def _with_labels(config: PretrainedConfig, task: Task) -> PretrainedConfig:
    names = task.labels or ("score",)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    config.problem_type = "regression" if task.regression else "single_label_classification"
    if task.multi_label:
        config.problem_type = "multi_label_classification"
    return config


def _read_config(source: ModelSource, pad_token_id: int | None) -> PretrainedConfig:
    fields = source.read_config()
    if fields is None:
        raise RkdError(f"{source.location}: no readable config.json; expected a Hugging Face model folder")
    files.check_config(fields, source.location)
    # TinyBERT's checkpoints have a BERT config that predates model_type.
    model_type = fields.pop("model_type", "bert" if "type_vocab_size" in fields else None)
    config = _reading(source.location, lambda: AutoConfig.for_model(model_type, **fields))
    # Pretrained weights were trained with the class's default padding id; random weights can take the tokenizer's.
    unset = config.pad_token_id is None or (source.kind == "config" and fields.get("pad_token_id") is None)
    if unset and pad_token_id is not None:
        config.pad_token_id = pad_token_id
    return config


def _from_pretrained(where: str, *, task: Task | None, **arguments: Any) -> PreTrainedModel:
    """Load a checkpoint and check that its weights match its config; for a `task`, pooler and classifier may be new."""
    # Only safetensors, or torch's weights-only unpickling for old .bin files; never code from a repository.
    model, report = _reading(
        where,
        lambda: AutoModelForSequenceClassification.from_pretrained(
            where,
            dtype=torch.float32,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported below, with name and shapes
            **arguments,
        ),
    )
    # transformers only warns about these, and initialises missing weights at random.
    missing, unused, other = (report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    inside = f"{model.base_model_prefix}."
    heads = [shape for name, shape, _ in other if not name.startswith(inside)]
    if other and len(heads) == len(other):
        expected = "its config.json" if task is None else "the task"
        raise RkdError(
            f"{where}: its classifier has {heads[0][0]} outputs; {expected} has {model.config.num_labels} "
            f"({', '.join(map(str, model.config.id2label.values()))})"
        )
    if other:
        name, stored, built = min(each for each in other if each[0].startswith(inside))
        raise RkdError(
            f"{where}: its weights are not those of the model in its config.json: {name} has shape {tuple(stored)} in "
            f"the weights, but {tuple(built)} in that model ({len(other)} such parameters)"
        )
    body = {name for name in missing if name.startswith(inside) and "pooler" not in name}
    known = _stacks(model.state_dict(), inside)
    wrong = body | {name for name in unused if _stacks([name], inside) & known}
    if wrong:
        name = min(wrong)
        found = "not in the weights" if name in missing else "in the weights, but not in that model"
        raise RkdError(
            f"{where}: its weights are not those of the model in its config.json: {name} is {found} "
            f"({len(wrong)} such parameters)"
        )
    if missing and task is None:
        raise RkdError(
            f"{where}: found no classifier ({min(missing)} is not in the weights); expected a fine-tuned model: "
            "fine-tune it first (rkd distill does with --finetune-teacher)"
        )
    _check_finite(model, where)
    return model


def _stacks(names: Iterable[str], inside: str) -> set[str]:
    """Return the parameter names of numbered layers, without the numbers."""
    numbered = (name.removeprefix(inside) for name in names if re.search(r"\.\d+\.", name))
    return {re.sub(r"\.\d+\.", ".N.", name) for name in numbered}


def _check_finite(model: PreTrainedModel, where: str) -> None:
    tensors = model.state_dict().items()
    # The fast check comes first: a finite sum has only finite terms, but a sum of large numbers may overflow.
    bad = [name for name, each in tensors if not each.sum().isfinite() and not each.isfinite().all()]
    if bad:
        raise RkdError(
            f"{where}: found NaN or infinite weights in {bad[0]} ({len(bad)} such parameters); expected finite numbers"
        )


def _reading(where: str, read: Callable[[], T]) -> T:
    """Run `read` and turn any failure to load into one clear error; the libraries raise a dozen kinds.

    Suppresses the warnings of transformers, such as the table of mismatched weights: rkd does its own checks.
    """
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        return read()
    except RkdError:
        raise
    except Exception as error:
        reason = textwrap.shorten(str(error), 300) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            reason = "its .bin file contains more than tensors, or is damaged; pickles that carry code are refused"
        elif isinstance(error, OSError):
            reason += " (expected a folder with config.json and model.safetensors)"
        raise RkdError(f"{where}: cannot load this model: {reason}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _verify(source: ModelSource, spec: ModelSpec) -> None:
    """Check local files against the digests in the spec and, for known packages, in our own list."""
    folder, expected = source.folder(), spec.sha256 or source.known_sha256()
    if source.kind == "package" and not expected:
        raise RkdError(f"package:{source.location}: weights from a package need their sha256 in the config")
    if source.kind == "hub" and expected:
        raise RkdError(f"{source.location}: a sha256 is given, but hub models are pinned by their revision instead")
    if folder is not None:
        files.check_weights(folder)
        if expected and (found := files.weights_sha256(folder)) != expected:
            raise RkdError(f"{files.weight_files(folder)[0]}: sha256 is {found}; expected {expected}")
    if spec.content is not None and (content := source.content()) != spec.content:
        raise RkdError(
            f"{spec.source}: its content has the digest {content}; expected {spec.content}, its digest when "
            "this run was planned; start again"
        )


def _take_layers(teacher: PreTrainedModel, layers: tuple[int, ...]) -> PreTrainedModel:
    """Build a student from some of the teacher's layers and all parameters outside the layers."""
    config = type(teacher.config).from_dict(teacher.config.to_dict())
    if max(layers) >= config.num_hidden_layers:
        raise RkdError(f"teacher-layers: layer {max(layers)} asked for; the teacher has {config.num_hidden_layers}")
    config.num_hidden_layers = len(layers)
    weights = teacher.state_dict()
    if not any(LAYER.match(name) for name in weights):
        raise RkdError(
            f"teacher-layers: found a {config.model_type} teacher; its layers are not stacked like those of BERT; "
            "expected a BERT-like one, or another student"
        )
    student = type(teacher)(config)

    def source_name(name: str) -> str:
        match = LAYER.match(name)
        return f"{match['stack']}.{layers[int(match['index'])]}.{match['rest']}" if match else name

    student.load_state_dict({name: weights[source_name(name)] for name in student.state_dict()})
    return student
