"""One distillation without the workflow: `rkd.distill` for a user's own table and models.

It is the workflow's own code with one task, one method and one seed: data are prepared, a teacher perhaps fine-tuned
and the student trained by the same functions, and the folders are the same.
"""

import inspect
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rkd.config.variants import without_unread
from rkd.data.files import find_labels
from rkd.data.prepare import prepare, without_bars
from rkd.data.soft_columns import labels_of
from rkd.data.soft_labels import columns_in
from rkd.distillation.choice import choose, tries
from rkd.distillation.earlier import Earlier
from rkd.distillation.models import model_reference, model_spec, ready_teacher
from rkd.distillation.request import Request
from rkd.distillation.result import Distilled
from rkd.distillation.tables import table_file
from rkd.errors import RkdError
from rkd.methods import by_name
from rkd.methods.facts import METHODS, TEACHER_METHOD, needs_teacher
from rkd.runs.result import result_of
from rkd.specs.jobs import RunSpec
from rkd.tasks import get
from rkd.training import job
from rkd.training.out_of_memory import explain_out_of_memory
from rkd.training.trial import trial
from rkd.utils.files import sha256
from rkd.utils.locks import locked
from rkd.utils.torch_setup import choose_device
from rkd.workflow.code_digest import code_digests

log = logging.getLogger("rkd")


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
    name, label, columns, scores = request.name, request.label_columns, request.text, request.scores
    labels, soft = request.labels, request.soft_labels
    method, seed, max_length, chosen = request.method, request.seed, request.max_length, request.settings
    finetune_teacher, taught = request.finetune_teacher, request.taught
    earlier = Earlier(folder)
    earlier.refuse_columns(columns, request.label)
    tables, extra = folder / "tables", request.soft_columns
    free = soft is not None
    wanted = [*columns, *([] if free else label), *extra]
    files = {"train": table_file("train", request.data, tables, wanted, label if free else [], earlier)}
    soft_file = None if soft is None or extra else table_file("soft_labels", soft, tables, None)
    if scores is not None:
        names: list[str] = []
    elif labels is not None:
        names = labels
    elif soft is not None:
        names = labels_of(columns_in(soft_file) if soft_file else soft)
    else:
        names = find_labels(files["train"], label[0], request.label_separator if request.multi_label else None)
    earlier.refuse_labels(names, whole=labels is not None or not taught or bool(finetune_teacher))
    for split, table in (("validation", request.dev), ("test", request.test)):
        if table is not None:
            optional = label if split == "test" else []
            files[split] = table_file(split, table, tables, [*columns, *([] if optional else label)], optional)
    unlabelled = None
    if request.unlabelled is not None:
        rest = None if free and not extra else [*columns, *extra]
        unlabelled = table_file("unlabelled", request.unlabelled, tables, rest)
    if request.teacher is None:  # the student's tokenizer reads the texts
        reference = model_reference(request.student, folder / "student-before", request.tokenizer)
    else:
        reference = model_reference(request.teacher, folder / "teacher-before", request.tokenizer)
        if not needs_teacher(method):
            log.warning("%s learns from no teacher: of the given one only the tokenizer is read", method)
    teacher_model = folder / "teacher" / "model"
    if taught and not finetune_teacher:
        with _own_words(folder):
            names = ready_teacher(
                reference,
                names,
                labels is not None,
                scores is not None,
                teacher_model,
                max_length,
                len(columns) == 2,
                request.multi_label,
            )
    definition, own = request.custom_task(names, files)
    if soft_file is not None:
        own["soft_labels"]["file"] = soft_file
    if "validation" not in files:
        own |= {"dev_fraction": request.dev_fraction, "dev_seed": request.dev_seed}

    reads = str(teacher_model) if taught and not finetune_teacher else reference
    with _own_words(folder):
        manifest = prepare(
            name,
            folder / "data",
            source="files",
            tokenizer=reads,
            vocab_size=request.vocab_size,
            max_length=max_length,
            custom_task=own,
            unlabelled=unlabelled,
            student_tokenizer=_student_tokenizer(request, folder),
        )
    first = model_spec(reference, None)
    runs: list[tuple[RunSpec, str]] = []
    if taught and finetune_teacher:
        runs.append(
            (RunSpec(name, "teacher", TEACHER_METHOD, seed, first, finetune_teacher, custom_task=definition), "teacher")
        )
    last = first
    if request.teacher is not None:
        last = model_spec(model_reference(request.student, folder / "student-before", None), first)
    options = {**request.options, **({} if soft is None else {"soft_labels": True})}
    options |= {"student_tokenizer": "own"} if request.student_tokenizer == "own" else {}
    student_spec = RunSpec(name, method, method, seed, last, without_unread(chosen), options, definition)
    tried = tries(student_spec, request.learning_rates)
    runs += [(spec, part) for part, spec in tried.items()] or [(student_spec, "student")]
    for spec, part in runs:
        needs = teacher_model if part != "teacher" and taught else None
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
            job.run(
                spec,
                folder / "data",
                folder / part,
                teachers=[] if needs is None else [needs],
                **planned,
                threads=request.threads or torch.get_num_threads(),
                code={**code_digests("rkd/training/job.py", *_modules(spec.method)), **own_files},
                checkpoints=folder / ".checkpoints" / part if temporary is None else None,
                tensorboard=None if request.tensorboard is None else request.tensorboard / part,
            )
    if tried:
        choose(folder, tried)
    result = result_of(get(name, definition), folder / "student")
    return Distilled(**vars(result), _temporary=temporary)


def _student_tokenizer(request: Request, folder: Path) -> dict[str, str | None] | None:
    """Return the tokenizer of a student with a vocabulary of its own; None if it reads what the teacher reads."""
    if request.student_tokenizer != "own":
        return None
    return {"reference": model_reference(request.student, folder / "student-before", None)}


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Lock a distillation's folder for this process and write its identity into it.

    A process that is at work there is named and never stopped: it may be a notebook's.
    """
    with locked(folder / ".lock", "distils into this folder"):
        try:
            (folder / ".checkpoints").mkdir(exist_ok=True)
        except OSError as error:
            raise RkdError(f"{folder}: cannot be written: {error.strerror or error}") from None
        yield


@contextmanager
def _own_words(folder: Path) -> Iterator[None]:
    """Make errors name a model in memory as the user did, not by the folder that it was written to."""
    try:
        yield
    except RkdError as error:
        text = str(error)
        for role in ("teacher", "student"):
            text = text.replace(str(folder / f"{role}-before"), f"the given {role}")
        raise RkdError(text) from error


def _modules(method: str) -> list[str]:
    return [f"rkd.methods.{method}"] if method in METHODS else []


def _own_files(spec: RunSpec) -> dict[str, str]:
    """Digest of what a spec only names: the source of a method from outside."""
    found: dict[str, str] = {}
    if spec.method not in METHODS:
        source = inspect.getsourcefile(by_name(spec.method))
        if source is not None and Path(source).is_file():  # a notebook's cells are no file
            found[f"method {spec.method}"] = sha256(source)
    return found
