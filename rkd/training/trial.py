"""One trial step of every student before its teacher is trained: misfits show within seconds instead of hours.

Training runs do not import this module, because it does not affect results.
"""

import copy
import logging
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from rkd.errors import RkdError
from rkd.methods import by_name
from rkd.models import loading
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import Task, get
from rkd.training import loop, precision
from rkd.training.batches import Split
from rkd.training.data import planned_data, set_aside
from rkd.training.job import build_run
from rkd.training.out_of_memory import explain_out_of_memory
from rkd.utils.provenance import Stopwatch
from rkd.utils.script import run_script
from rkd.utils.torch_setup import choose_device, quiet_transformers, seed_everything

log = logging.getLogger("rkd")

# Rows of the batch: two rows involve padding and can be split for gradient accumulation.
ROWS = 2


def trial(
    teacher: RunSpec,
    students: Sequence[RunSpec],
    data: Path,
    *,
    data_sha256: str | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Try the first step of a teacher's fine-tuning and of its students' training, and discard the result.

    Each run is built from the prepared data as for training, with two differences: students learn from the teacher
    before its fine-tuning, and the batch consists of the two longest training examples.

    Args:
        teacher: the fine-tuning run; its model is also the students' teacher.
        students: runs on the same task.
        data: the prepared task, for example results/data/mrpc.
        data_sha256: expected `sha256` of the data's manifest, if known.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; torch's own number by default.

    Raises:
        RkdError: lists every run that cannot be trained, with the reason: models that do not fit each other or the
            data, too few rows to set aside, a precision that the device does not have, a loss that is not a number, too
            little memory.

    Example:
        >>> trial(plan.teacher("mrpc", 1), [plan.student("mrpc", "kd", 1)], Path("results/data/mrpc"))
    """
    started = Stopwatch()
    seed_everything(teacher.seed, threads)
    quiet_transformers()
    where = choose_device(device)
    task = get(teacher.task, teacher.custom_task)

    @cache
    def prepared(tokens: str) -> tuple[dict[str, Any], Any, dict[str, Split]]:
        return planned_data(replace(teacher, options={"student_tokenizer": tokens}), data, data_sha256)

    @cache
    def first(model: ModelSpec, tokens: str = "teacher") -> PreTrainedModel:
        manifest, tokenizer, _ = prepared(tokens)
        return loading.load_for(model, task, tokenizer, teacher.seed, manifest["max_length"])

    prepared("teacher")
    problems: dict[str, list[str]] = {}
    for spec in (teacher, *students):
        try:
            with explain_out_of_memory(spec.variant, spec.training):
                precision.check(spec.training["precision"], where)
                guide = first(teacher.model) if by_name(spec.method).needs_teacher else None
                tokens = spec.options.get("student_tokenizer", "teacher")
                _step(spec, task, first(spec.model, tokens), guide, prepared(tokens)[2], where)
        except RkdError as error:
            problems.setdefault(str(error), []).append(spec.variant)
    if problems:
        count = sum(map(len, problems.values()))
        if len(problems) == 1 and count == 1 + len(students):
            raise RkdError(*problems)  # a problem of the data, or one that all runs share
        reasons = "; ".join(f"{', '.join(variants)}: {reason}" for reason, variants in problems.items())
        raise RkdError(f"{task.name}: {count} of {1 + len(students)} runs cannot be trained: {reasons}")
    log.info("%s: tried a first step of %d runs (%.1f s)", task.name, 1 + len(students), started.seconds())


def _step(
    spec: RunSpec,
    task: Task,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    splits: dict[str, Split],
    device: torch.device,
) -> None:
    """Take the first step of a run with copies of the models."""
    data, size = set_aside(spec, task, splits), min(ROWS, spec.training["batch_size"])
    method = build_run(spec, copy.deepcopy(student), copy.deepcopy(teacher), data, device, quiz_batch_size=size)
    method.student.train()
    rows = torch.argsort(data.train.lengths, descending=True, stable=True)[:size]
    with precision.autocast(spec.training["precision"], device):
        losses = method.step(loop.batch_of(data.train, rows, device))
    loop.check_losses(losses, "", "in a first step on two examples")
    loop.check_weights(method, "", "after a first step on two examples")


def trial_apart(
    teacher: RunSpec, students: Path, data: Path, *, data_sha256: str | None = None, device: str, threads: int
) -> None:
    """Run `trial` in a child process, so that it affects neither the memory use nor the state of the training run.

    Call it before this process uses a GPU. The child process reports its own errors.

    Args:
        students: a file with the canonical JSON of a `RunSpec` per line. If it is missing, as can happen without a
            shared file system, a warning is logged and nothing is tried.

    Raises:
        RkdError: the file is invalid, or the process was killed.
        SystemExit: a run cannot be trained; the exit code is that of the process.
    """
    if not students.exists():
        log.warning("%s: not found; the students of this teacher are not tried before it is trained", students)
        return
    try:
        specs = [RunSpec.from_json(line) for line in students.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RkdError(f"{students}: found no list of runs ({error}); expected one spec per line") from None
    _in_child(
        partial(trial, teacher, specs, data, data_sha256=data_sha256, device=device, threads=threads), teacher.task
    )


def _in_child(action: Callable[[], None], task: str) -> None:
    child = multiprocessing.get_context("fork").Process(target=run_script, args=(action,))
    child.start()
    child.join()
    code = child.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        reason = ", as the system does when there is too little memory" if name == "SIGKILL" else ""
        raise RkdError(f"{task}: the first steps of the runs that learn from this teacher were ended by {name}{reason}")
    if code:
        raise SystemExit(code)
