"""The one training loop: every teacher and every student goes through `train`."""

import copy
import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.methods import by_name
from rkd.methods.base import Method
from rkd.metrics import scores as metrics
from rkd.models import loading
from rkd.models.tokenizer import save_tokenizer
from rkd.specs.jobs import RunSpec
from rkd.tasks import Task, get, primary_score
from rkd.training import evaluation, precision, tracking
from rkd.training.batches import Split, load_prepared
from rkd.training.checkpoint import Checkpoint, Progress, fingerprint
from rkd.training.holdout import QuizBatches, hold_out
from rkd.utils.files import digests, jsonable, staged, write_json
from rkd.utils.provenance import Stopwatch, arithmetic, provenance
from rkd.utils.torch_setup import choose_device, reuse_memory, seed_everything

log = logging.getLogger("rkd")

# The selection rule, and the name of the split that it chooses the epoch by.
HELD_OUT = "held-out"
# What makes numbers that are none.
_ADVICE = "check the temperature, the learning rates and the models' weights"


def run(
    spec: RunSpec,
    data: Path,
    out: Path,
    *,
    teacher: Path | None = None,
    data_sha256: str | None = None,
    device: str = "auto",
    threads: int = 1,
    code: dict[str, str] | None = None,
    checkpoints: Path | None = None,
    checkpoint_minutes: float = 15,
    tensorboard: Path | None = None,
) -> None:
    """Make one run of the plan and write model/, predictions.parquet, history.jsonl and run.json into `out`.

    The four appear together at the end, run.json last: a folder with a run.json holds a whole run.

    Args:
        spec: what to train.
        data: a prepared task, for example results/data/mrpc.
        out: the run's folder.
        teacher: folder of the fine-tuned teacher's model, for the methods that need one.
        data_sha256: what the manifest of the data must have as its `sha256`, where the caller knows it.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        code: digests of the source files, to be recorded; see `rkd.workflow.code_digest.code_digests`.
        checkpoints: folder for this run's state, so that a run which was stopped goes on when it is started again, and
            ends as if it had not been stopped; it is removed at the end. None: a run that is stopped is lost.
        checkpoint_minutes: time between two checkpoints; there is one at the end of every epoch too.
        tensorboard: folder for files that TensorBoard shows, with the numbers of the history; None: no such files.

    Raises:
        RkdError: the models, the data or the spec do not fit each other, another process trains in `checkpoints`, the
            loss is no longer finite, or a folder cannot be written.
        Interrupted: by SIGINT, SIGTERM or SIGHUP, with `checkpoints`; a checkpoint has been written.
    """
    started = Stopwatch()
    reuse_memory()
    seed_everything(spec.seed, threads)
    quiet_libraries()
    accelerator = tracking.accelerator(tensorboard, choose_device(device))
    precision.check(spec.training["precision"], accelerator.device)
    task = get(spec.task, spec.custom_task)
    manifest, tokenizer, splits = planned_data(spec, data, data_sha256)
    splits, quiz_rows = set_aside(spec, splits)
    quiz = None
    if quiz_rows is not None:
        quiz = QuizBatches(quiz_rows, spec.training["batch_size"], spec.seed, accelerator.device)
    max_length = manifest["max_length"]
    student = loading.load_for(spec.model, task, tokenizer, spec.seed, max_length)
    guide = None
    if teacher is not None and spec.method != "finetune":
        guide = loading.load_finetuned(teacher)
        loading.check_reading(guide, tokenizer, where=str(teacher), max_length=max_length, pair=task.pair)
    method = build(spec, student, guide, len(splits["train"]), accelerator.device, quiz)
    log.info("%s", _primary_score(spec, method, splits))

    identity = {
        "spec": asdict(spec),
        "code": code,
        "data": manifest["sha256"],
        "student": fingerprint(method.student),
        "teacher": None if method.teacher is None else fingerprint(method.teacher),
        "threads": threads,
        "device": accelerator.device.type,
        "arithmetic": arithmetic(accelerator.device),
        "torch": torch.__version__,
    }
    gpu = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else None
    with Checkpoint(checkpoints, checkpoint_minutes, identity, gpu) as checkpoint:
        if tensorboard is not None:
            tracking.begin(accelerator, tensorboard, continued=checkpoint.usable())
        done = train(method, task, splits, spec, accelerator, checkpoint)
        accelerator.end_training()

        predicted = [name for name in splits if name not in ("train", HELD_OUT)]
        with checkpoint.interruptible():
            z = {name: _logits(method.student, "student", name, splits, accelerator.device) for name in predicted}
        with staged(out, last="run.json") as folder:
            evaluation.predictions_frame(task, z, splits).to_parquet(folder / "predictions.parquet", index=False)
            cast(PreTrainedModel, method.student).save_pretrained(folder / "model")
            tokenizer.model_max_length = max_length  # who uses the model later cuts texts where its training did
            save_tokenizer(tokenizer, folder / "model")
            history = [json.dumps(jsonable(record), allow_nan=False) + "\n" for record in done.history]
            (folder / "history.jsonl").write_text("".join(history), encoding="utf-8")
            record = {
                "spec": asdict(spec),
                "data": {
                    **{key: manifest.get(key) for key in ("source", "revision", "sha256")},
                    "files": manifest["files"],
                },
                "teacher": digests(teacher) if teacher else None,
                "hub": loading.hub_files(spec.model),
                "code": code,
                "outputs": digests(folder),
                "precision": spec.training["precision"],
                "parameters": loading.count_parameters(method.student),
                "resumed": done.resumed,
                "processors": done.processors,
                **provenance(started, str(accelerator.device), threads),
            }
            record["seconds"] += round(done.seconds, 1)  # those before the run was continued
            write_json(folder / "run.json", record)
        checkpoint.remove()


def train(
    method: Method,
    task: Task,
    splits: dict[str, Split],
    spec: RunSpec,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None = None,
) -> Progress:
    """Train `method.student` for the spec's epochs and leave in it the weights that the selection rule chooses.

    The dev splits, and held-out training data where there are some, are evaluated before the first step and after
    every epoch.

    Returns:
        The progress at the end, with one record of `history` per evaluation.

    Raises:
        RkdError: a loss, a weight or a logit is NaN or infinite; the message names the step or the epoch's end.
    """
    settings = spec.training
    checkpoint = checkpoint or Checkpoint(None)
    at = checkpoint.restore(method)  # from here on `method` and `at` are all the state that there is
    z_t = None
    if method.teacher is not None and not method.trains_teacher:
        with checkpoint.interruptible():
            z_t = _dev_logits(method.teacher, "teacher", task, splits, accelerator.device)
    if not at.history:
        with checkpoint.interruptible():
            record = evaluate(method, task, splits, accelerator.device, z_t)
        at.history.append(_told(record, epoch=0, step=0, seconds=checkpoint.seconds(at), train={}))
        accelerator.log(tracking.scalars(at.history[-1]), step=at.step)

    for epoch in range(at.epoch, settings["epochs"] + 1):
        method.student.train()
        batches = splits["train"].shuffled(settings["batch_size"], spec.seed, epoch, settings["group_by_length"])
        for rows in tqdm(batches[at.batch :], desc=f"epoch {epoch}", leave=False, disable=not sys.stderr.isatty()):
            batch = batch_of(splits["train"], rows, accelerator.device)
            with precision.autocast(settings["precision"], accelerator.device):
                losses = method.step(batch)
            at.step, at.batch = at.step + 1, at.batch + 1
            check_losses(losses, f"{named(spec)}: ", f"at step {at.step} (epoch {epoch})")
            for name, loss in losses.items():
                at.sums[name] = at.sums.get(name, 0.0) + loss
                at.counts[name] += 1
            checkpoint.after_step(method, at)
        check_weights(method, f"{named(spec)}: ", f"after step {at.step} (epoch {epoch})")
        checkpoint.save(method, at)
        with checkpoint.interruptible():
            record = evaluate(method, task, splits, accelerator.device, z_t)
        means = {name: total / at.counts[name] for name, total in at.sums.items()}
        at.history.append(_told(record, epoch=epoch, step=at.step, seconds=checkpoint.seconds(at), train=means))
        accelerator.log(tracking.scalars(at.history[-1]), step=at.step)
        score = _rank(record.get("held_out", record["primary_score"]))
        # The first epoch is always kept.
        if settings["selection"] != "last" and (at.best_state is None or score > at.best_score):
            at.best_score, at.best_state = score, copy.deepcopy(method.student.state_dict())
        at.epoch, at.batch, at.sums, at.counts = epoch + 1, 0, {}, Counter()

    if at.best_state is not None:
        method.student.load_state_dict(at.best_state)
    return at


def evaluate(
    method: Method,
    task: Task,
    splits: dict[str, Split],
    device: torch.device,
    z_t: dict[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Dev scores of the student and, where there is a teacher, what has become of it.

    Args:
        z_t: the teacher's logits by dev split, each of shape (rows, classes), where they are known.

    Returns:
        `dev` (metrics by split), `primary_score`, `warnings`, `held_out` (the primary metric on held-out training
        data, where `splits` has some), and for a teacher `teacher`: its `primary_score`, `kl` and `entropy` (see
        `evaluation.soft_label_statistics`), and its `distance` from the student if the method pulls it.

    Raises:
        RkdError: a logit is NaN or infinite.
    """
    z_s = _dev_logits(method.student, "student", task, splits, device)
    dev = evaluation.scores(task, z_s, splits)
    record: dict[str, Any] = {"dev": dev, "primary_score": evaluation.dev_primary_score(task, dev), "warnings": []}
    if HELD_OUT in splits:
        z = _logits(method.student, "student", HELD_OUT, splits, device)
        decided, labels = evaluation.decide(task, z), splits[HELD_OUT].labels.numpy()
        record["held_out"] = primary_score(task, metrics.compute(task, decided, labels))
    if method.teacher is None:
        return record
    z_t = z_t or _dev_logits(method.teacher, "teacher", task, splits, device)
    teacher = {"primary_score": evaluation.dev_primary_score(task, evaluation.scores(task, z_t, splits))}
    split, temperature = task.primary_split, getattr(method, "temperature", 1.0)
    teacher |= evaluation.soft_label_statistics(z_s[split], z_t[split], temperature)
    if method.trains_teacher:
        if hasattr(method, "distance"):  # from the student, where a layer map says from which of its parameters
            teacher["distance"] = method.distance()
        if _rank(teacher["primary_score"]) < _rank(record["primary_score"]):
            record["warnings"].append(
                f"the teacher's dev score ({100 * teacher['primary_score']:.1f}) has fallen below the student's "
                f"({100 * record['primary_score']:.1f}); a lower teacher_lr moves it less"
            )
    record["teacher"] = teacher
    return record


def _rank(score: float) -> float:
    """What dev scores are compared by: an undefined one (NaN) is below every other."""
    return -math.inf if math.isnan(score) else score


def _dev_logits(
    model: torch.nn.Module, role: str, task: Task, splits: dict[str, Split], device: torch.device
) -> dict[str, Tensor]:
    return {name: _logits(model, role, name, splits, device) for name in task.dev_splits}


def _logits(model: torch.nn.Module, role: str, name: str, splits: dict[str, Split], device: torch.device) -> Tensor:
    """Logits of a split, which must be numbers: where they are NaN, every example would count as of the first class."""
    z = evaluation.predict(model, splits[name], device)
    if wrong := int((~z.isfinite()).any(dim=1).sum()):
        raise RkdError(
            f"{role}: its logits are NaN or infinite for {wrong} of {len(z)} rows of {name}; expected finite numbers"
        )
    return z


def check_losses(losses: Mapping[str, float], who: str, when: str) -> None:
    """Refuse losses that are NaN or infinite; `who` and `when` are parts of the message."""
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise RkdError(f"{who}{name} is {loss} {when}; expected a finite number; {_ADVICE}")


def check_weights(method: Method, who: str, when: str) -> None:
    """Refuse a student, or a teacher that moves, some of whose weights are NaN or infinite, as `check_losses` does."""
    moving = {"student": method.student} | ({"teacher": method.teacher} if method.trains_teacher else {})
    for role, model in moving.items():
        for name, weights in cast(torch.nn.Module, model).named_parameters():
            if not weights.isfinite().all():
                raise RkdError(f"{who}{role}: {name} is NaN or infinite {when}; expected finite weights; {_ADVICE}")


def named(spec: RunSpec) -> str:
    """The name of a run in messages.

    >>> named(spec)
    'mrpc/kd/seed-1'
    """
    return f"{spec.task}/{spec.variant}/seed-{spec.seed}"


def quiet_libraries() -> None:
    """Let transformers tell errors alone, and draw no bars where there is no terminal."""
    transformers_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()


def batch_of(split: Split, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Examples of a split as `Method.step` takes them.

    Args:
        rows: row numbers, int64, shape (rows,).
    """
    return {name: tensor.to(device) for name, tensor in {**split.batch(rows), "row": rows}.items()}


def planned_data(spec: RunSpec, data: Path, sha256: str | None) -> tuple[dict[str, Any], Any, dict[str, Split]]:
    """`load_prepared`, after a look at whether the data are those that a run was planned with.

    Args:
        sha256: of their manifest's content, where it is known.

    Raises:
        RkdError: they are of another task, or have another `sha256`.
    """
    manifest, tokenizer, splits = load_prepared(data)
    if sha256 not in (None, manifest["sha256"]):
        raise RkdError(
            f"{data}: found data with the sha256 {manifest['sha256']}; expected {sha256}, those of the plan: something "
            "has written there since; start again"
        )
    if manifest["task"] != spec.task:
        raise RkdError(f"{data}: task: found {manifest['task']!r}; expected {spec.task!r}")
    theirs, ours = manifest.get("custom_task") or {}, json.loads(json.dumps(spec.custom_task)) or {}
    if changed := [key for key in ours if key not in theirs or theirs[key] != ours[key]]:
        raise RkdError(f"{data}: custom_task: found another {', '.join(changed)}; expected the task that the run is of")
    return manifest, tokenizer, splits


def set_aside(spec: RunSpec, splits: dict[str, Split]) -> tuple[dict[str, Split], Split | None]:
    """The splits without the training rows that this run does not train on, which it may need for two reasons.

    Returns:
        The splits, with the rows that the epoch is chosen by as HELD_OUT where the selection needs some; and the rows
        of the quiz, for the methods that ask for one.

    Raises:
        RkdError: too few rows would be set aside, or none left.
    """
    settings, splits, quiz = spec.training, dict(splits), None
    if settings["selection"] == HELD_OUT:
        share = settings["held_out_fraction"]
        splits["train"], splits[HELD_OUT] = hold_out(splits["train"], share, 1, spec.seed, "held_out_fraction")
    if spec.method == "metadistil" or spec.options.get("inner_batch") == "quiz":
        share = spec.options["quiz_fraction"]
        splits["train"], quiz = hold_out(splits["train"], share, settings["batch_size"], spec.seed)
    return splits, quiz


def build(
    spec: RunSpec,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    rows: int,
    device: torch.device,
    quiz: QuizBatches | None = None,
) -> Method:
    """The method of a spec with its models on the device, after a look at whether they fit.

    Args:
        student: before training, see `models.load_for`.
        teacher: the fine-tuned teacher, for all methods but finetune.
        rows: training rows of an epoch.
        quiz: batches of the rows that `set_aside` returns.

    Raises:
        RkdError: models that do not fit each other, or options that do not fit the models.
    """
    settings, options = spec.training, dict(spec.options)
    total_steps = settings["epochs"] * math.ceil(rows / settings["batch_size"])
    arguments: dict[str, Any] = {
        "student_lr": settings["learning_rate"],
        "total_steps": total_steps,
        "warmup_steps": int(total_steps * settings["warmup_ratio"]),
        **{key: settings[key] for key in ("weight_decay", "max_grad_norm", "adam_epsilon", "gradient_accumulation")},
    }
    ours, theirs = (cast(Any, model) for model in (student, teacher))  # transformers does not type its `to`
    if spec.method == "finetune":
        return by_name(spec.method)(ours.to(device), **arguments)
    if teacher is None:
        raise RkdError(f"method {spec.method!r} needs the folder of a fine-tuned teacher; found none")
    loading.check_fit(student, teacher)
    if "layer_map" in options:
        options["layer_map"] = LayerMap.from_strategy(
            options["layer_map"], loading.depth(student), loading.depth(teacher)
        )
    options.pop("quiz_fraction", None)
    if quiz is not None:
        options["quiz"] = quiz
    return by_name(spec.method)(ours.to(device), theirs.to(device), **arguments, **options)


def _primary_score(spec: RunSpec, method: Method, splits: dict[str, Split]) -> str:
    sizes = ", ".join(f"{name} {len(split)}" for name, split in splits.items())
    parameters = loading.count_parameters(method.student)["total"] / 1e6
    return f"{named(spec)}: {spec.method}, {parameters:.1f}M parameters; rows: {sizes}"


def _told(record: dict[str, Any], *, epoch: int, step: int, seconds: float, train: dict[str, float]) -> dict[str, Any]:
    """A line of the history from an evaluation, which is also told in one line of the log."""
    told = " ".join(f"{name} {value:.4f}" for name, value in train.items())
    log.info("epoch %d step %d dev %.2f %s (%.0f s)", epoch, step, 100 * record["primary_score"], told, seconds)
    for warning in record["warnings"]:
        log.warning("%s", warning)
    return {"epoch": epoch, "step": step, "seconds": round(seconds, 2), "train": train, **record}
