"""One distillation without the workflow: `rkd.distill` for a user's own table and models.

It is the workflow's own code with one task, one method and one seed: data are prepared, a teacher perhaps fine-tuned
and the student trained by the same functions, and the folders are the same.
"""

import inspect
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rkd.api import Request
from rkd.config.arguments import model_reference
from rkd.config.variants import METHOD_OPTIONS, without_unread
from rkd.data.files import find_labels, text_problem
from rkd.data.prepare import prepare, without_bars
from rkd.data.reading import chosen_columns
from rkd.earlier import Earlier
from rkd.errors import RkdError
from rkd.labels import check_names, label_name
from rkd.methods import by_name
from rkd.metrics import scores as metrics
from rkd.models import hub, loading
from rkd.models import source as model_source
from rkd.models.tokenizer import load_tokenizer, save_tokenizer
from rkd.runs.history import read_history
from rkd.runs.paths import check_finished
from rkd.runs.predictions import read_predictions
from rkd.runs.record import OUTPUTS, unchanged
from rkd.runs.task import task_of
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import Task, get
from rkd.training import loop
from rkd.training.out_of_memory import explain_out_of_memory
from rkd.training.trial import trial
from rkd.utils.files import atomic_path, sha256
from rkd.utils.locks import locked
from rkd.utils.torch_setup import choose_device
from rkd.workflow.code_digest import code_digests

log = logging.getLogger("rkd")

Table = pd.DataFrame | str | os.PathLike[str]
Model = PreTrainedModel | str | os.PathLike[str]


@dataclass(frozen=True)
class Distilled:
    """A finished distillation.

    Attributes:
        folder: the student's run, with model/, predictions.parquet, history.jsonl and run.json.
        metrics: `splits` (metrics by split), `primary_score`, and `teacher`, the teacher's primary score before the
            first step.
        predictions: columns split, idx (row of its file or table, from 0), label, prediction (names, or scores) and
            one logit per label.
        history: an evaluation per epoch, the first before any step.
    """

    folder: Path
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: list[dict[str, Any]]
    _temporary: Any = field(default=None, repr=False)  # removes the folder with the last reference to it

    @cached_property
    def student(self) -> PreTrainedModel:
        """The trained student, in eval mode on the CPU."""
        return loading.load_finetuned(self.folder / "model")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What the student reads."""
        return load_tokenizer(self.folder / "model")

    def save(self, path: str | Path) -> Path:
        """Write a folder that `transformers.pipeline` opens, with a model card; returns its path.

        Give the pipeline `truncation=True`, as the card does: see `rkd.export.export`.
        """
        from rkd.export import export

        return export(self.folder, path)


@without_bars()
def carry_out(request: Request) -> Distilled:
    """Do what `rkd.distill` was asked for.

    Raises:
        RkdError: bad data, or models that do not fit, or another process that distils into the same folder; before any
            training.
    """
    choose_device(request.device)  # only torch knows whether there is a GPU
    if request.out is None:
        temporary = tempfile.TemporaryDirectory(prefix="rkd-")
        return _carry_out(request, Path(temporary.name).absolute(), temporary)
    folder = Path(request.out).absolute()
    with _claimed(folder):
        return _carry_out(request, folder, None)


def _carry_out(request: Request, folder: Path, temporary: Any) -> Distilled:
    name, label, columns, labels, scores = request.name, request.label, request.text, request.labels, request.scores
    method, seed, max_length, chosen = request.method, request.seed, request.max_length, request.settings
    finetune_teacher = request.finetune_teacher
    earlier = Earlier(folder)
    earlier.refuse_columns(columns, label)
    files = {"train": _file("train", request.data, folder / "tables", columns, label, earlier)}
    if scores is not None:
        names: list[str] = []
    elif labels is not None:
        names = labels
    else:
        names = find_labels(files["train"], label)
    earlier.refuse_labels(names, whole=labels is not None or method == "finetune" or bool(finetune_teacher))
    for split, table in (("validation", request.dev), ("test", request.test)):
        if table is not None:
            files[split] = _file(split, table, folder / "tables", columns, label)
    reference = _reference(request.teacher, folder / "teacher-before", request.tokenizer)
    teacher_model = folder / "teacher" / "model"
    if method != "finetune" and not finetune_teacher:
        with _own_words(folder):
            names = _ready_teacher(
                reference, names, labels is not None, scores is not None, teacher_model, max_length, len(columns) == 2
            )
    definition, own = request.custom_task(names, files)
    if "validation" not in files:
        own |= {"dev_fraction": request.dev_fraction, "dev_seed": request.dev_seed}

    reads = str(teacher_model) if method != "finetune" and not finetune_teacher else reference
    with _own_words(folder):
        manifest = prepare(
            name,
            folder / "data",
            source="files",
            tokenizer=reads,
            vocab_size=request.vocab_size,
            max_length=max_length,
            custom_task=own,
        )
    first = _spec(reference, None)
    runs: list[tuple[RunSpec, str]] = []
    if method != "finetune" and finetune_teacher:
        runs.append(
            (RunSpec(name, "teacher", "finetune", seed, first, finetune_teacher, custom_task=definition), "teacher")
        )
    last = _spec(_reference(request.student, folder / "student-before", None), first)
    student_spec = RunSpec(name, method, method, seed, last, without_unread(chosen), request.options, definition)
    runs.append((student_spec, "student"))
    for spec, part in runs:
        needs = teacher_model if part == "student" and method != "finetune" else None
        own_files = _own_files(spec)
        differences = earlier.differences(folder / part, spec, manifest, needs, own_files)
        if differences == []:
            log.info("%s: finished already", folder / part)
            continue
        if differences:
            log.warning("%s: trained again: %s", folder / part, "; ".join(differences))
        planned = {"data_sha256": manifest["sha256"], "device": request.device}
        if part == "teacher":  # what does not fit would else be told only at its end
            with _own_words(folder):
                trial(spec, [student_spec], folder / "data", threads=request.threads, **planned)
        with _own_words(folder), explain_out_of_memory(f"{name}/{part}", spec.training):
            loop.run(
                spec,
                folder / "data",
                folder / part,
                teacher=needs,
                **planned,
                threads=request.threads or torch.get_num_threads(),
                code={**code_digests("rkd/training/loop.py", *_modules(spec.method)), **own_files},
                checkpoints=folder / ".checkpoints" / part if temporary is None else None,
                tensorboard=None if request.tensorboard is None else request.tensorboard / part,
            )
    return _result(get(name, definition), folder / "student", temporary)


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """A block in which a distillation's folder is that of this process, with what it is known by from here on.

    A process that is at work there is named and never stopped: it may be a notebook's.
    """
    with locked(folder / ".lock", "distils into this folder"):
        try:
            (folder / ".checkpoints").mkdir(exist_ok=True)
        except OSError as error:
            raise RkdError(f"{folder}: cannot be written: {error.strerror or error}") from None
        yield


def read_run(folder: str | Path) -> Distilled:
    """A finished run of a user's own task from its folder (`out`/student, or one of the workflow's).

    Raises:
        RkdError: no finished run is there, or a part of it is missing, damaged or not as its training left it.
    """
    folder = Path(folder)
    check_finished(folder)
    file = folder / "run.json"
    return _result(task_of(unchanged(folder, *OUTPUTS)["spec"], file), folder, None)


def _result(task: Task, folder: Path, temporary: Any) -> Distilled:
    if not (folder / "model" / "config.json").is_file():
        raise RkdError(f"{folder}: found no model/config.json; expected the folder of a finished run")
    frame = read_predictions(folder / "predictions.parquet")
    history = read_history(folder / "history.jsonl")
    try:
        found = metrics.from_predictions(task, frame)
    except RkdError as error:
        raise RkdError(f"{folder / 'predictions.parquet'}: {error}") from None
    if "teacher" in history[0]:
        score = history[0]["teacher"]["primary_score"]
        found["teacher"] = math.nan if score is None else score
    if not task.regression:
        for column in ("label", "prediction"):
            known = dict(enumerate(task.labels))
            frame[column] = [known.get(value) for value in frame[column]]
        frame = frame.rename(columns={f"logit_{index}": f"logit_{each}" for index, each in enumerate(task.labels)})
    return Distilled(folder, found, frame, history, temporary)


def _file(
    split: str, table: Table, folder: Path, columns: Sequence[str], label: str, earlier: Earlier | None = None
) -> dict[str, str]:
    """The file of a table, its digest and what errors call it; a DataFrame is written first.

    Raises:
        RkdError: a DataFrame that cannot be written, or training data that are not those of the earlier run.
    """

    def digest(file: Path, where: str) -> str:
        found = sha256(file)
        if earlier is not None:
            earlier.refuse_rows(where, found)
        return found

    if isinstance(table, pd.DataFrame):
        path, where = folder / f"{split}.parquet", f"{_ARGUMENTS[split]} (DataFrame)"
        needed = [*columns, *([label] if split != "test" else [])]
        wanted = table[chosen_columns(where, list(table.columns), needed, [label] if split == "test" else [])]
        try:
            with atomic_path(path) as temporary:
                wanted.to_parquet(temporary, index=False)
                content = digest(temporary, where)
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, RkdError):  # nothing can be written there
                raise
            raise RkdError(_unwritable(where, wanted, error)) from None
        return {"path": str(path), "sha256": content, "where": where}
    return {"path": str(table), "sha256": digest(Path(table), str(table))}


# What `distill` calls the table of a split.
_ARGUMENTS = {"train": "data", "validation": "dev", "test": "test"}


def _unwritable(where: str, frame: pd.DataFrame, error: Exception) -> str:
    """The reason why a DataFrame cannot be written as Parquet."""
    for column in frame:
        values = frame[column].dropna()
        for row, value in enumerate(frame[column], 1):
            if isinstance(value, str) and (problem := text_problem(value)):
                return f"{where}, row {row}, column '{column}': {problem}"
        kinds = sorted({type(value).__name__ for value in values})
        if len(kinds) > 1:
            return f"{where}, column '{column}': found values of the types {', '.join(kinds)}; expected one type"
    return f"{where}: cannot be written as Parquet: {' '.join(str(error).split())}"


def _reference(model: Model, folder: Path, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """A model reference as the config has it; a model in memory is written to `folder`, a run stands for its model."""
    if isinstance(model, PreTrainedModel):
        with atomic_path(folder) as temporary:  # nothing stays there of a model that was given before
            model.save_pretrained(temporary)
            if tokenizer is not None:
                save_tokenizer(tokenizer, temporary)
        return str(folder)
    unchanged(model, "model")
    reference = model_reference(model)
    if (source := model_source.parse(reference)).kind == "hub":
        # Here, so that all of the run, and its continuation, is of one commit.
        return f"{source.location}@{hub.resolve(source.location, source.revision)}"
    return reference


def _spec(reference: str, teacher: ModelSpec | None) -> ModelSpec:
    source = model_source.parse(reference)
    if source.kind == "hub":
        return ModelSpec(source.location, source.revision)
    layers_of = teacher if source.kind == "teacher-layers" else None
    return ModelSpec(reference, None, source.known_sha256(), layers_of, source.content())


@contextmanager
def _own_words(folder: Path) -> Iterator[None]:
    """A block whose errors name a model in memory as the user did, not by the folder that it was written to."""
    try:
        yield
    except RkdError as error:
        text = str(error)
        for role in ("teacher", "student"):
            text = text.replace(str(folder / f"{role}-before"), f"the given {role}")
        raise RkdError(text) from error


def _ready_teacher(
    reference: str, names: list[str], given: bool, regression: bool, folder: Path, max_length: int, pair: bool
) -> list[str]:
    """Write a fine-tuned teacher and its tokenizer to `folder` with the task's labels; returns their names in order."""
    source = model_source.parse(reference)
    where = str(hub.local(source).path() or source.location)
    model, tokenizer = loading.load_finetuned(where), load_tokenizer(where)
    loading.check_reading(model, tokenizer, where=reference, max_length=max_length, pair=pair)
    theirs = [str(each) for _, each in sorted((model.config.id2label or {}).items())]
    check_names(f"teacher {reference}: its labels", theirs)
    keys = [label_name(each) for each in theirs]
    generic = theirs == [f"LABEL_{index}" for index in range(len(theirs))]
    if regression:
        if len(theirs) != 1:
            raise RkdError(f"teacher {reference}: found {len(theirs)} outputs, expected one, for scores")
        theirs = ["score"]
    elif generic and given and len(names) == len(theirs):
        theirs = names
    elif (given and names != keys) or not set(names) <= set(keys):
        if len(names) != len(theirs):
            found = f"{len(theirs)} outputs ({', '.join(theirs)}), the task has {len(names)} ({', '.join(names)})"
            raise RkdError(f"teacher {reference}: found {found}; expected a teacher of this task")
        hint = "" if not generic else "; give labels in the order of its outputs"
        raise RkdError(
            f"teacher {reference}: its labels are {theirs}, those of the data {names}; expected the same{hint}"
        )
    model.config.id2label = dict(enumerate(theirs))
    model.config.label2id = {each: index for index, each in enumerate(theirs)}
    (folder.parent / "run.json").unlink(missing_ok=True)  # of a teacher that was fine-tuned here before
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return [] if regression else theirs


def _modules(method: str) -> list[str]:
    return [f"rkd.methods.{method}"] if method in METHOD_OPTIONS else []


def _own_files(spec: RunSpec) -> dict[str, str]:
    """Digest of what a spec only names: the source of a method from outside."""
    found: dict[str, str] = {}
    if spec.method not in METHOD_OPTIONS:
        source = inspect.getsourcefile(by_name(spec.method))
        if source is not None and Path(source).is_file():  # a notebook's cells are no file
            found[f"method {spec.method}"] = sha256(source)
    return found
