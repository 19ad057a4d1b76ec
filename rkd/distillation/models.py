"""The models that a distillation is given, as references and folders that trainings read."""

import os
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rkd.config import arguments
from rkd.errors import RkdError
from rkd.labels import check_names, label_name, listed
from rkd.models import hub, loading
from rkd.models import source as model_source
from rkd.models.outputs import MULTI_LABEL, gives_sets
from rkd.models.tokenizer import load_tokenizer, save_tokenizer
from rkd.runs.record import unchanged
from rkd.specs.jobs import ModelSpec
from rkd.utils.files import atomic_path

Model = PreTrainedModel | str | os.PathLike[str]


def model_reference(model: Model, folder: Path, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Return a model reference as the config writes it; a model in memory is saved to `folder` first."""
    if isinstance(model, PreTrainedModel):
        with atomic_path(folder) as temporary:  # nothing stays there of a model that was given before
            model.save_pretrained(temporary)
            if tokenizer is not None:
                save_tokenizer(tokenizer, temporary)
        return str(folder)
    unchanged(model, "model")
    reference = arguments.model_reference(model)
    if (source := model_source.parse(reference)).kind == "hub":
        # Here, so that all of the run, and its continuation, is of one commit.
        return f"{source.location}@{hub.resolve(source.location, source.revision)}"
    return reference


def model_spec(reference: str, teacher: ModelSpec | None) -> ModelSpec:
    """Return the spec of a model before training; `teacher` is that of the model that it may take layers of."""
    source = model_source.parse(reference)
    if source.kind == "hub":
        return ModelSpec(source.location, source.revision)
    layers_of = teacher if source.kind == "teacher-layers" else None
    return ModelSpec(reference, None, source.known_sha256(), layers_of, source.content())


def ready_teacher(
    reference: str,
    names: list[str],
    given: bool,
    regression: bool,
    folder: Path,
    max_length: int,
    pair: bool,
    multi_label: bool = False,
) -> list[str]:
    """Write a fine-tuned teacher and its tokenizer to `folder` with the task's labels; returns their names in order."""
    source = model_source.parse(reference)
    where = str(hub.local(source).path() or source.location)
    model, tokenizer = loading.load_finetuned(where), load_tokenizer(where)
    loading.check_reading(model, tokenizer, where=reference, max_length=max_length, pair=pair)
    if gives_sets(model) != multi_label:
        found = f"found problem_type {model.config.problem_type}"
        expected = MULTI_LABEL if multi_label else "one label per text, or multi_label (--multi-label)"
        raise RkdError(f"teacher {reference}: {found}; expected {expected}")
    theirs = [str(each) for _, each in sorted((model.config.id2label or {}).items())]
    check_names(f"teacher {reference}: its labels", theirs)
    keys = [label_name(each) for each in theirs]
    generic = theirs == [f"LABEL_{index}" for index in range(len(theirs))]
    if regression:
        if len(theirs) != 1:
            raise RkdError(f"teacher {reference}: found {len(theirs)} outputs; expected one, for scores")
        theirs = ["score"]
    elif generic and given and len(names) == len(theirs):
        theirs = names
    elif (given and names != keys) or not set(names) <= set(keys):
        if len(names) != len(theirs):
            found = f"{len(theirs)} outputs ({listed(theirs)}), the task has {len(names)} ({listed(names)})"
            raise RkdError(f"teacher {reference}: found {found}; expected a teacher of this task")
        hint = "" if not generic else "; give labels in the order of its outputs"
        differ = f"its labels are {listed(theirs)}, those of the data {listed(names)}"
        raise RkdError(f"teacher {reference}: {differ}; expected the same{hint}")
    model.config.id2label = dict(enumerate(theirs))
    model.config.label2id = {each: index for index, each in enumerate(theirs)}
    (folder.parent / "run.json").unlink(missing_ok=True)  # of a teacher that was fine-tuned here before
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return [] if regression else theirs
