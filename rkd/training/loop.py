"""The training loop shared by all teachers and students."""

import copy
import logging
import math
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from rkd.errors import RkdError
from rkd.methods.base import LossAverager, Method
from rkd.metrics import scores as metrics
from rkd.specs.jobs import RunSpec
from rkd.tasks import Task, primary_score
from rkd.training import evaluation, precision, tracking
from rkd.training.batches import Split, on_device
from rkd.training.checkpoint import Checkpoint, Progress
from rkd.training.data import TrainingData

log = logging.getLogger("rkd")

# Usual causes of NaN and infinite values.
_ADVICE = "check the temperature, the learning rates and the models' weights"


def train(
    method: Method,
    task: Task,
    data: TrainingData,
    spec: RunSpec,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None = None,
) -> Progress:
    """Train `method.student` for the spec's epochs, then load the weights of the selected epoch into it.

    The dev splits, and held-out training data if any, are evaluated before the first step and after every epoch.

    Returns:
        The progress at the end, with one record of `history` per evaluation.

    Raises:
        RkdError: a loss, a weight or a logit is NaN or infinite; the message names the step or the epoch's end.
    """
    device = accelerator.device
    checkpoint = checkpoint or Checkpoint(None)
    at = checkpoint.restore(method)  # from here on, `method` and `at` hold the complete state
    z_t = None
    if method.teacher is not None and not method.trains_teacher:
        with checkpoint.interruptible():
            z_t = all_logits(method.teacher, "teacher", _for_teacher(data.dev), device)

    def evaluated(epoch: int, losses: dict[str, float]) -> dict[str, Any]:
        """Evaluate after an epoch and add the result to the history."""
        with checkpoint.interruptible():
            record = evaluate(method, task, data, device, z_t)
        at.history.append(_logged(record, epoch=epoch, step=at.step, seconds=checkpoint.seconds(at), train=losses))
        accelerator.log(tracking.scalars(at.history[-1]), step=at.step)
        return record

    if not at.history:
        evaluated(0, {})
    for epoch in range(at.epoch, spec.training["epochs"] + 1):
        if at.waited >= spec.training.get("patience", math.inf):
            log.info("stopped after epoch %d: none was better than epoch %d", epoch - 1, epoch - 1 - at.waited)
            break
        train_epoch(method, data.train, spec, device, checkpoint, at)
        record = evaluated(epoch, {name: total / at.counts[name] for name, total in at.sums.items()})
        score = _rank(_selected_by(record, spec.training["selection"]))
        at.waited = 0 if score > at.best_score or not method.trains_classifier else at.waited + 1
        # The first epoch is always kept.
        if spec.training["selection"] != "last" and (at.best_state is None or score > at.best_score):
            at.best_score, at.best_state = score, copy.deepcopy(method.student.state_dict())
        at.epoch, at.batch, at.sums, at.counts = epoch + 1, 0, {}, Counter()

    if at.best_state is not None:
        method.student.load_state_dict(at.best_state)
    return at


def train_epoch(
    method: Method, rows: Split, spec: RunSpec, device: torch.device, checkpoint: Checkpoint, at: Progress
) -> None:
    """Train the rest of the current epoch and update the progress `at`.

    Args:
        rows: the training split.

    Raises:
        RkdError: a loss, or a weight after the epoch, is NaN or infinite.
    """
    settings, epoch, who = spec.training, at.epoch, f"{named(spec)}: "
    unread: list[tuple[int, Mapping[str, float]]] = []

    def read() -> None:
        """Check the losses of the last steps and add them to the sums of the epoch."""
        for step, losses in unread:
            found = dict(losses)
            check_losses(found, who, f"at step {step} (epoch {epoch})")
            for name, loss in found.items():
                at.sums[name] = at.sums.get(name, 0.0) + loss
                at.counts[name] += 1
        unread.clear()

    method.student.train()
    batches = rows.shuffled(settings["batch_size"], spec.seed, epoch, settings["group_by_length"])
    for chosen in tqdm(batches[at.batch :], desc=f"epoch {epoch}", leave=False, disable=not sys.stderr.isatty()):
        batch = batch_of(rows, chosen, device)
        with precision.autocast(settings["precision"], device):
            losses = method.step(batch)
        at.step, at.batch = at.step + 1, at.batch + 1
        unread.append((at.step, LossAverager(losses)))
        if len(unread) == read_interval(device):
            read()
        checkpoint.after_step(method, at, before_saving=read)
    read()
    check_weights(method, who, f"after step {at.step} (epoch {epoch})")
    checkpoint.save(method, at)


def read_interval(device: torch.device) -> int:
    """Return the number of steps between two reads of the losses; each read waits for the GPU."""
    return 1 if device.type == "cpu" else 20


def evaluate(
    method: Method,
    task: Task,
    data: TrainingData,
    device: torch.device,
    z_t: dict[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Evaluate the student and, if there is one, the teacher on the dev splits.

    Args:
        z_t: the teacher's logits by dev split, each of shape (rows, classes), if known.

    Returns:
        `dev` (metrics by split), `primary_score`, `warnings`, `held_out` and `held_out_loss` (the primary score and the
        mean task loss on held-out training data, if any), and, if there is a teacher, `teacher`: its `primary_score`,
        `kl` and `entropy` (see `evaluation.soft_label_statistics`), and its `distance` from the student if the method
        defines one.

    Raises:
        RkdError: a logit is NaN or infinite.
    """
    z_s = all_logits(method.student, "student", data.dev, device)
    dev = evaluation.scores(task, z_s, data.dev)
    record: dict[str, Any] = {"dev": dev, "primary_score": evaluation.dev_primary_score(task, dev), "warnings": []}
    if data.held_out is not None:
        z = all_logits(method.student, "student", {"held-out": data.held_out}, device)["held-out"]
        found = metrics.compute(task, evaluation.decide(task, z), data.held_out.labels.numpy())
        record["held_out"] = primary_score(task, found)
        record["held_out_loss"] = float(method.task_loss(z.to(device), data.held_out.labels.to(device)))
    if method.teacher is None:
        return record
    z_t = z_t or all_logits(method.teacher, "teacher", _for_teacher(data.dev), device)
    teacher = {"primary_score": evaluation.dev_primary_score(task, evaluation.scores(task, z_t, data.dev))}
    split, temperature = task.primary_split, getattr(method, "temperature", 1.0)
    both = z_s[split], z_t[split]
    teacher |= evaluation.soft_label_statistics(*both, temperature, multi_label=task.multi_label)
    if reason := evaluation.near_chance(task, z_t[split], data.dev[split].labels):
        record["warnings"].append(f"the teacher is near chance on dev ({reason}): it has nothing to teach")
    if method.trains_teacher:
        if hasattr(method, "distance"):  # only for methods that pair parameters by a layer map
            teacher["distance"] = method.distance()
        if _rank(teacher["primary_score"]) < _rank(record["primary_score"]):
            record["warnings"].append(
                f"the teacher's dev score ({100 * teacher['primary_score']:.1f}) has fallen below the student's "
                f"({100 * record['primary_score']:.1f}); a lower teacher_lr moves it less"
            )
    record["teacher"] = teacher
    return record


def _for_teacher(splits: Mapping[str, Split]) -> dict[str, Split]:
    return {name: split.for_teacher for name, split in splits.items()}


def _selected_by(record: Mapping[str, Any], selection: str) -> float:
    """Return the number of an evaluation by which an epoch is selected, the larger the better."""
    if selection == "held-out-loss":
        return -float(record["held_out_loss"])
    return float(record.get("held_out", record["primary_score"]))


def _rank(score: float) -> float:
    """Return the sort key of a dev score: an undefined one (NaN) is below every other."""
    return -math.inf if math.isnan(score) else score


def all_logits(
    model: torch.nn.Module, role: str, splits: Mapping[str, Split], device: torch.device
) -> dict[str, Tensor]:
    """Compute logits by split and check that they are finite: argmax would turn NaN into a valid class.

    Args:
        role: the model's name in error messages.

    Returns:
        A tensor of shape (rows, classes) for each split.

    Raises:
        RkdError: a logit is NaN or infinite.
    """
    found = {}
    for name, split in splits.items():
        z = found[name] = evaluation.predict(model, split, device)
        if wrong := int((~z.isfinite()).any(dim=1).sum()):
            raise RkdError(
                f"{role}: its logits are NaN or infinite for {wrong} of {len(z)} rows of {name}; expected finite "
                "numbers"
            )
    return found


def check_losses(losses: Mapping[str, float], who: str, when: str) -> None:
    """Raise an error if a loss is NaN or infinite; `who` and `when` are parts of the message."""
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise RkdError(f"{who}{name} is {loss} {when}; expected a finite number; {_ADVICE}")


def check_weights(method: Method, who: str, when: str) -> None:
    """Raise an error if a weight of the student or a trainable teacher is NaN or infinite."""
    trained = {"student": method.student} | ({"teacher": method.teacher} if method.trains_teacher else {})
    for role, model in trained.items():
        for name, weights in cast(torch.nn.Module, model).named_parameters():
            if not weights.isfinite().all():
                raise RkdError(f"{who}{role}: {name} is NaN or infinite {when}; expected finite weights; {_ADVICE}")


def named(spec: RunSpec) -> str:
    """Return the name of a run in messages.

    >>> named(spec)
    'mrpc/kd/seed-1'
    """
    return f"{spec.task}/{spec.variant}/seed-{spec.seed}"


def batch_of(split: Split, rows: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Return examples of a split as a batch for `Method.step`, on the device.

    Args:
        rows: row numbers, int64, shape (rows,).
    """
    return on_device({**split.batch(rows), "row": rows}, device)


def _logged(
    record: dict[str, Any], *, epoch: int, step: int, seconds: float, train: dict[str, float]
) -> dict[str, Any]:
    """Return the history line of an evaluation, and log it in one line."""
    losses = " ".join(f"{name} {value:.4f}" for name, value in train.items())
    log.info("epoch %d step %d dev %.2f %s (%.0f s)", epoch, step, 100 * record["primary_score"], losses, seconds)
    for warning in record["warnings"]:
        log.warning("%s", warning)
    return {"epoch": epoch, "step": step, "seconds": round(seconds, 2), "train": train, **record}
