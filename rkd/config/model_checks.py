"""Checks of the teacher and the student: they can be read, and fit each other, the tasks and the methods."""

from collections.abc import Iterator
from typing import Any

from rkd.config.problems import Located, shown
from rkd.config.reads import Value, reads
from rkd.config.schema import schema
from rkd.methods.facts import METHODS
from rkd.tasks import TASKS

LayerMap = str | list[list[int]]
# The value of student_tokenizer with which student and teacher each have a vocabulary of their own.
OWN = "own"


@reads("{role}_model")
def readable(model: Value) -> Iterator[Located]:
    """Report a model that cannot be read."""
    if model.model.error:
        yield model.problem(schema()["properties"][model.path[0]]["x-allowed"], model.model.error)


@reads("{role}_model", "{role}_revision")
def revision(model: Value, given: Value) -> Iterator[Located]:
    """Report a revision other than the one in the name of the model."""
    named = model.model.source.revision if model.model.source else None
    if named is not None and given.value is not None and given.value != named:
        yield given.problem(f"null, or {named}, which {model.path[0]} names")


@reads("{role}_model", "{role}_sha256")
def checksum(model: Value, digest: Value) -> Iterator[Located]:
    """Report a checksum that is missing, that is not the known one, or that nothing is compared with."""
    if (source := model.model.source) is None:
        return
    known = source.known_sha256()
    if source.kind == "package" and known is None and digest.value is None:
        yield digest.problem(f"the sha256 of model.safetensors in {source.location}, which rkd does not know")
    elif known is not None and digest.value not in (None, known):
        yield digest.problem(f"null, or {known}, which rkd knows for {source.location}")
    elif source.kind == "hub" and digest.value is not None:
        yield digest.problem(f"null: a model on the hub is pinned by {model.path[0].removesuffix('_model')}_revision")
    elif source.kind in ("config", "teacher-layers") and digest.value is not None:
        yield digest.problem(f"null: {model.value} has no weights file of its own")


@reads("teacher_model", "student_model")
def teacher_layers(teacher: Value, student: Value) -> Iterator[Located]:
    """Report a student that is cut from layers which the teacher lacks."""
    source, depth = student.model.source, teacher.model.depth
    if source is not None and depth is not None and any(layer >= depth for layer in source.layers):
        yield student.problem(f"layers from 0 to {depth - 1}: the teacher has {depth}")


@reads("teacher_model", "student_model", "student_tokenizer?", "variants.*.method")
def own_tokens(teacher: Value, student: Value, tokens: Value, methods: Value) -> Iterator[Located]:
    """Report a tokenizer of the student's own that it does not have, or that a method cannot use."""
    if tokens.value != OWN:
        return
    facts = {name: METHODS[method] for name, method in methods.value.items()}
    if unable := [name for name, each in facts.items() if each.needs_teacher and not each.logits_only]:
        able = ", ".join(name for name, each in METHODS.items() if each.logits_only)
        expected = (
            f"teacher: {', '.join(unable)} compare{'s' * (len(unable) == 1)} more than logits; own goes with {able}"
        )
        yield tokens.problem(expected)
    if student.model.kind == "teacher-layers":
        yield student.problem("a model with a tokenizer of its own: layers of the teacher read what it reads")
    elif student.model.tokenizer_error:
        yield student.problem("a model with its tokenizer, as student_tokenizer is own", student.model.tokenizer_error)


def _writer(teacher: Value, model: Value, tokens: Value) -> Value:
    """Return the model whose tokenizer writes what a model reads."""
    return model if tokens.value == OWN and model.path == ("student_model",) else teacher


@reads("teacher_model", "student_model", "student_tokenizer?")
def shared_vocabulary(teacher: Value, student: Value, tokens: Value) -> Iterator[Located]:
    """Report a student that cannot read the tokens of the teacher."""
    if tokens.value == OWN:
        return
    kinds = (teacher.model.kind, student.model.kind)
    if kinds == ("config", "config") or student.model.kind == "teacher-layers":
        return  # two random initialisations share the vocabulary that is built for them
    if teacher.model.kind == "config":
        yield student.problem("a *.json model config, as the teacher is one: a vocabulary is built for both")
        return
    ours, theirs = student.model.facts.vocabulary, teacher.model.facts.vocabulary
    if ours is not None and theirs is not None and ours != theirs:
        found = f"{shown(student.value)} with vocab_size {ours}"
        yield student.problem(f"a model with the teacher's {theirs}: both read the same tokens", found=found)


@reads("teacher_model")
def tokenizer(teacher: Value) -> Iterator[Located]:
    """Report a teacher without a tokenizer."""
    if teacher.model.tokenizer_error:
        expected = "a model with its tokenizer: all models read what the teacher's writes"
        yield teacher.problem(expected, teacher.model.tokenizer_error)


@reads("teacher_model", "{role}_model", "student_tokenizer?")
def token_rows(teacher: Value, model: Value, tokens: Value) -> Iterator[Located]:
    """Report a token embedding with fewer rows than the tokenizer has ids; `check_reading` asks the model itself."""
    writer = _writer(teacher, model, tokens)
    rows, ids = model.model.facts.vocabulary, writer.model.vocabulary
    if writer.model.tokenizer_error or not ids or rows is None or model.model.kind == "config":
        return
    if rows <= (highest := max(ids.values())):
        whose = "the teacher's" if writer is teacher else "its"
        expected = f"more than {highest}: {whose} tokenizer has ids up to that"
        yield model.problem(expected, found=f"{shown(model.value)} with vocab_size {rows}")


@reads("teacher_model", "{role}_model", "student_tokenizer?")
def padding(teacher: Value, model: Value, tokens: Value) -> Iterator[Located]:
    """Report a padding token that is not that of the vocabulary which is built: BERT's, token 0."""
    built = _writer(teacher, model, tokens).model.kind == "config"
    if built and (token := model.model.facts.pad_token_id) not in (None, 0):
        found = f"{shown(model.value)} with pad_token_id {token}"
        yield model.problem("0, or none: the padding of the vocabulary that is built", found=found)


@reads("teacher_model", "{role}_model", "student_tokenizer?", "tasks", "custom_tasks?")
def token_types(teacher: Value, model: Value, tokens: Value, tasks: Value, custom: Value) -> Iterator[Located]:
    """Report a model that cannot tell the texts of a pair apart: in the vocabulary that is built, by their types."""
    if _writer(teacher, model, tokens).model.kind != "config" or model.model.facts.token_types != 1:
        return
    pairs = [name for name in tasks.value if _is_pair(name, custom.value or {})]
    if pairs:
        found = f"{shown(model.value)} with type_vocab_size 1"
        yield model.problem(f"at least 2: the examples of {pairs[0]} are pairs of texts", found=found)


def _is_pair(task: str, custom: dict[str, Any]) -> bool:
    return TASKS[task].pair if task in TASKS else task in custom and len(custom[task]["text"]) == 2


@reads("student_model")
def whole_vocabulary(student: Value) -> Iterator[Located]:
    """Report a student whose own vocabulary cannot be read."""
    if student.model.vocabulary_error:
        yield student.problem("a model whose files are whole", student.model.vocabulary_error)


@reads("teacher_model", "student_model", "student_tokenizer?")
def same_tokens(teacher: Value, student: Value, tokens: Value) -> Iterator[Located]:
    """Report a student whose vocabulary is not the teacher's, token by token."""
    if tokens.value == OWN:
        return
    ours, theirs = student.model.vocabulary, teacher.model.vocabulary
    if not teacher.model.tokenizer_error and ours is not None and theirs is not None and ours != theirs:
        token, index = min(ours.items() ^ theirs.items(), key=lambda item: (item[1], item[0]))
        expected = f"a model with the teacher's vocabulary; the first difference is token {token!r}, id {index}"
        yield student.problem(expected)


@reads("{role}_model", "tasks", "custom_tasks?")
def outputs(model: Value, tasks: Value, custom: Value) -> Iterator[Located]:
    """Report a model that was fine-tuned for other labels than those of a task."""
    if (found := model.model.outputs) is None:
        return
    own = {name: len(entry.get("labels", [0])) for name, entry in (custom.value or {}).items()}
    counts = {**own, **{name: task.num_labels for name, task in TASKS.items()}}
    for name in tasks.value:
        if counts.get(name, found) != found:
            expected = f"one with the {counts[name]} of {name}, or a model without a classifier"
            yield model.problem(expected, found=f"{shown(model.value)} with a classifier of {found} outputs")
            break


@reads("{role}_model", "max_length")
def positions(model: Value, length: Value) -> Iterator[Located]:
    """Report texts that are longer than a model can read."""
    limit = model.model.facts.positions
    if limit is not None and length.value > limit:
        yield length.problem(f"at most {limit}, the positions of {model.path[0]}")


@reads("teacher_model", "student_model", "variants.*.method")
def widths(teacher: Value, student: Value, methods: Value) -> Iterator[Located]:
    """Report a student that is narrower or wider than its teacher, where a method compares the two."""
    ours, theirs = student.model.facts.width, teacher.model.facts.width
    needs = {name: METHODS[method].same_width for name, method in methods.value.items()}
    reasons = [f"{name} {reason}" for name, reason in needs.items() if reason]
    if ours is not None and theirs is not None and ours != theirs and reasons:
        expected = f"the teacher's width {theirs}: {', '.join(reasons)}"
        yield student.problem(expected, found=f"{shown(student.value)} with width {ours}")


@reads("teacher_model", "student_model", "{variant}.method", "{variant}.layer_map")
def fitting_layer_map(teacher: Value, student: Value, method: Value, layer_map: Value) -> Iterator[Located]:
    """Report a layer map that does not fit the depths of the models, or the method."""
    ours, theirs = student.model.depth, teacher.model.depth
    if ours is None or theirs is None or "layer_map" not in METHODS[method.value].options:
        return
    expected = _fitting(layer_map.value, ours, theirs) or _one_to_one(layer_map.value, ours, theirs, method.value)
    if expected:
        yield layer_map.problem(expected)


def _fitting(layer_map: LayerMap, student: int, teacher: int) -> str | None:
    """Return the expectation that this layer map fails at these depths; None if it fits."""
    depths = f"{student} student and {teacher} teacher layers"
    if student > teacher:
        return f"a student no deeper than its teacher: no map fits {depths}"
    if isinstance(layer_map, list):
        if len(layer_map) != student:
            return f"{student} lists, one per student layer (empty where it is mapped to none)"
        highest = max((layer for layers in layer_map for layer in layers), default=0)
        return f"teacher layers from 0 to {teacher - 1}" if highest >= teacher else None
    if layer_map in ("skip", "both") and teacher % student:
        return f"first, last or a list for {depths}: {layer_map} needs a multiple of the student's depth"
    return None


def _one_to_one(layer_map: LayerMap, student: int, teacher: int, method: str) -> str | None:
    """Return the expectation of a one-to-one method that this layer map fails; None if it fails none."""
    if not METHODS[method].one_to_one:
        return None
    if isinstance(layer_map, list):
        compared = layer_map[: student - METHODS[method].unmatched_layers]
        several = any(len(layers) != 1 for layers in compared)
    else:
        several = layer_map == "both" and teacher > student
    return f"exactly one teacher layer per student layer: {method} compares layer with layer" if several else None


@reads("student_model", "variants.*.method")
def last_layer(student: Value, methods: Value) -> Iterator[Located]:
    """Report a student of one layer, which is the last one, for a method that leaves that out."""
    names = [name for name, method in methods.value.items() if METHODS[method].unmatched_layers]
    if student.model.depth == 1 and names:
        found = f"{shown(student.value)} with 1 layer"
        yield student.problem(f"at least 2 layers: {', '.join(names)} leaves the last one out", found=found)


# `readable` comes first: the others read the files of models that have passed it.
MODEL_CHECKS = (
    revision,
    checksum,
    teacher_layers,
    own_tokens,
    shared_vocabulary,
    tokenizer,
    token_rows,
    padding,
    token_types,
    whole_vocabulary,
    same_tokens,
    outputs,
    positions,
    widths,
    fitting_layer_map,
    last_layer,
)
