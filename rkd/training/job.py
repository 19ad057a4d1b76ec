"""One training job: load the data, hold out rows, build the method, train, and write the run's folder."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rkd.errors import RkdError
from rkd.labels import check_names, label_name, listed
from rkd.methods import by_name
from rkd.methods.base import Method
from rkd.methods.build import build
from rkd.models import loading
from rkd.models.outputs import gives_sets
from rkd.models.soft_labels import SoftLabels, divisor_for_entropy, mean_entropy
from rkd.models.tokenizer import load_tokenizer, save_tokenizer
from rkd.runs.predictions import write_predictions
from rkd.runs.prepared import TOKENIZER
from rkd.specs.identity import LEFT, in_store
from rkd.specs.jobs import RunSpec
from rkd.tasks import get
from rkd.training import evaluation, loop, precision, tracking
from rkd.training.checkpoint import Checkpoint, fingerprint
from rkd.training.data import TrainingData, planned_data, set_aside
from rkd.training.holdout import QuizBatches
from rkd.utils.files import digests, jsonable, staged, write_json
from rkd.utils.provenance import Stopwatch, arithmetic, provenance
from rkd.utils.torch_setup import choose_device, quiet_transformers, reuse_memory, seed_everything

log = logging.getLogger("rkd")


def run(
    spec: RunSpec,
    data: Path,
    out: Path,
    *,
    teachers: Sequence[Path] = (),
    entropy_of: Path | None = None,
    keep_teacher: bool = False,
    data_sha256: str | None = None,
    inputs: dict[str, str | None] | None = None,
    device: str = "auto",
    threads: int = 1,
    code: dict[str, str] | None = None,
    checkpoints: Path | None = None,
    checkpoint_minutes: float = 15,
    tensorboard: Path | None = None,
) -> None:
    """Train one run of the plan; write model/, {predictions,logits}.parquet, history.jsonl and run.json into `out`.

    All appear together at the end, run.json last: a folder with a run.json holds a complete run.

    Args:
        spec: what to train.
        data: a prepared task, for example results/data/mrpc-0123456789.
        out: the run's folder.
        teachers: folder of the fine-tuned teacher's model, for the methods that need one; several are an ensemble, see
            `rkd.models.soft_labels.SoftLabels`.
        entropy_of: folder of another teacher; the teacher's logits are divided by a number such that its soft labels
            have the mean entropy of that one's on the training rows.
        keep_teacher: write teacher/, too, the teacher as the last step leaves it.
        data_sha256: expected `sha256` of the data's manifest, if known.
        inputs: digests of the data's and the teacher's settings, to be recorded; see
            `rkd.specs.identity.check_folder`.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads.
        code: digests of the source files, for the record; see `rkd.workflow.code_digest.code_digests`.
        checkpoints: folder for this run's checkpoints. A stopped run resumes from them and gives the same result as an
            uninterrupted one. The folder is removed at the end. None: a stopped run starts over.
        checkpoint_minutes: interval between checkpoints; there is also one after every epoch.
        tensorboard: folder for TensorBoard files with the numbers of the history; None: no such files.

    Raises:
        RkdError: the models, the data or the spec do not fit each other, another process trains in `checkpoints`, the
            loss is no longer finite, or a folder cannot be written.
        Interrupted: SIGINT, SIGTERM or SIGHUP, if `checkpoints` is given; a checkpoint has been written.
    """
    started = Stopwatch()
    reuse_memory()
    seed_everything(spec.seed, threads)
    quiet_transformers()
    accelerator = tracking.accelerator(tensorboard, choose_device(device))
    precision.check(spec.training["precision"], accelerator.device)
    task = get(spec.task, spec.custom_task)
    manifest, tokenizer, splits = planned_data(spec, data, data_sha256)
    parts = set_aside(spec, task, splits)
    max_length = manifest["max_length"]
    student = loading.load_for(spec.model, task, tokenizer, spec.seed, max_length)
    guide: PreTrainedModel | SoftLabels | None = None
    smoothing = None
    if teachers and by_name(spec.method).needs_teacher:
        found = []
        own_tokens = spec.options.get("student_tokenizer") == "own"
        reads = load_tokenizer(data / TOKENIZER) if own_tokens else tokenizer
        for place in (*teachers, *([entropy_of] if entropy_of else [])):
            found.append(loading.load_finetuned(place))
            loading.check_reading(found[-1], reads, where=str(place), max_length=max_length, pair=task.pair)
        guide = found[0] if len(found) == 1 else SoftLabels(found[: len(teachers)])
        if entropy_of is not None and isinstance(guide, SoftLabels):
            smoothing = _match_entropy(guide, found[-1], parts, spec.options["temperature"], accelerator.device)
    method = build_run(spec, student, guide, parts, accelerator.device)
    log.info("%s", _summary(spec, method, parts))

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
        done = loop.train(method, task, parts, spec, accelerator, checkpoint)
        accelerator.end_training()

        predicted = {**parts.dev, **parts.test}
        with checkpoint.interruptible():
            z = loop.all_logits(method.student, "student", predicted, accelerator.device)
        with staged(out, last="run.json") as folder:
            write_predictions(evaluation.predictions_frame(task, z, predicted), folder)
            cast(PreTrainedModel, method.student).save_pretrained(folder / "model")
            tokenizer.model_max_length = max_length  # later users truncate texts as training did
            save_tokenizer(tokenizer, folder / "model")
            if keep_teacher:
                cast(PreTrainedModel, method.teacher).save_pretrained(folder / LEFT)
                save_tokenizer(tokenizer, folder / LEFT)
            history = [json.dumps(jsonable(record), allow_nan=False) + "\n" for record in done.history]
            (folder / "history.jsonl").write_text("".join(history), encoding="utf-8")
            record = {
                "spec": asdict(spec),
                "data": {
                    **{key: manifest.get(key) for key in ("source", "revision", "sha256")},
                    "files": manifest["files"],
                },
                "teacher": _teacher_files(teachers, entropy_of, inputs),
                "inputs": inputs,
                **({"smoothing": smoothing} if smoothing else {}),
                "hub": loading.hub_files(spec.model),
                "code": code,
                "outputs": digests(folder),
                "precision": spec.training["precision"],
                "parameters": loading.count_parameters(method.student),
                "resumed": done.resumed,
                "processors": done.processors,
                **provenance(started, str(accelerator.device), threads),
            }
            record["seconds"] += round(done.seconds, 1)  # the time before the run was resumed
            write_json(folder / "run.json", record)
        checkpoint.remove()


def _teacher_files(
    teachers: Sequence[Path], entropy_of: Path | None, inputs: Mapping[str, Any] | None
) -> dict[str, str] | None:
    """Return the SHA-256 of the teacher's files, by their place in the store unless it is one fine-tuned teacher."""
    places = [*teachers, *([entropy_of] if entropy_of else [])]
    if not places:
        return None
    if not (inputs or {}).get("learns_from"):
        return digests(places[0])
    return {f"{in_store(place)}/{name}": known for place in places for name, known in digests(place).items()}


def _match_entropy(
    guide: SoftLabels, other: PreTrainedModel, parts: TrainingData, temperature: float, device: torch.device
) -> dict[str, float]:
    """Give the soft labels of `guide` the mean entropy of another teacher's on the training rows.

    Returns:
        For run.json: `entropy` in nats, and `divisor`, by which the logits are divided.
    """
    z, z_other = (
        loop.all_logits(cast(nn.Module, model).to(device), "teacher", {"train": parts.train.for_teacher}, device)[
            "train"
        ]
        for model in (guide, other)
    )
    entropy = mean_entropy(z_other, temperature)
    guide.divisor = divisor_for_entropy(z, temperature, entropy)
    log.info("soft labels: entropy %.4f, logits divided by %.4f", entropy, guide.divisor)
    return {"entropy": entropy, "divisor": guide.divisor}


def build_run(
    spec: RunSpec,
    student: PreTrainedModel,
    teacher: PreTrainedModel | SoftLabels | None,
    data: TrainingData,
    device: torch.device,
    quiz_batch_size: int | None = None,
) -> Method:
    """Build the method of a spec, with its schedule and quiz batches.

    Args:
        student: the student before training; see `rkd.models.loading.load_for`.
        teacher: the fine-tuned teacher, for methods that need one.
        quiz_batch_size: rows of a quiz batch; the spec's batch size by default.

    Raises:
        RkdError: as `rkd.methods.build.build`.
    """
    settings, quiz = spec.training, None
    if data.quiz is not None:
        quiz = QuizBatches(data.quiz, quiz_batch_size or settings["batch_size"], spec.seed, device)
    names = [str(name) for _, name in sorted((student.config.id2label or {}).items())]
    if gives_sets(student) and settings.get("class_weights") is not None:
        raise RkdError("class_weights: found some for a task with several labels per text; expected null")
    weights = class_weights(settings.get("class_weights"), data.train.labels[data.train.labelled], names)
    total_steps = settings["epochs"] * math.ceil(len(data.train) / settings["batch_size"])
    return build(
        spec.method,
        student,
        teacher,
        options=spec.options,
        quiz=quiz,
        device=device,
        student_lr=settings["learning_rate"],
        total_steps=total_steps,
        warmup_steps=int(total_steps * settings["warmup_ratio"]),
        **({} if weights is None else {"class_weights": weights.to(device)}),
        **({} if data.train.labelled.all() else {"unlabelled": True}),
        **{key: settings[key] for key in ("weight_decay", "max_grad_norm", "adam_epsilon", "gradient_accumulation")},
    )


def class_weights(
    rule: str | Sequence[float] | Mapping[str, float] | None, labels: Tensor, names: Sequence[str]
) -> Tensor | None:
    """Return the weight of each class in the task loss, with a mean of 1 over the training rows.

    Args:
        rule: "balanced", for weights in inverse proportion to the classes' numbers of rows, a weight per class, by its
            name or in the order of the ids, or None for no weights.
        labels: class ids of the training rows, shape (rows,).
        names: the classes, in the order of their ids.

    Raises:
        RkdError: another number of weights than of classes, weights of other classes, or labels that are scores.

    >>> class_weights("balanced", torch.tensor([0, 0, 0, 1]), ["bad", "good"])
    tensor([0.6667, 2.0000])
    """
    if rule is None:
        return None
    if labels.is_floating_point():
        raise RkdError(f"class_weights: found {rule} for a regression task; expected null")
    counts, classes = torch.bincount(labels, minlength=len(names)).double(), len(names)
    if rule == "balanced":
        weights = len(labels) / (classes * counts.clamp(min=1))
    else:
        if isinstance(rule, Mapping):
            check_names("class_weights", rule)
            given = {label_name(key): value for key, value in rule.items()}
            if given.keys() != set(map(label_name, names)):
                raise RkdError(f"class_weights: found those of {listed(rule)}; expected one of each of {listed(names)}")
            rule = [given[label_name(name)] for name in names]
        if len(rule) != classes:
            order = f"one per label in this order: {listed(names)}"
            raise RkdError(f"class_weights: found {len(rule)} numbers; expected {classes}, {order}")
        weights = torch.tensor(rule, dtype=torch.float64)
    weights = weights / weights[labels].mean()
    shown = listed(f"{name} {weight:.3g}" for name, weight in zip(names, weights.tolist(), strict=True))
    log.info("class weights: %s", shown)
    return weights.float()


def _summary(spec: RunSpec, method: Method, data: TrainingData) -> str:
    """Return the first line of a run's log."""
    sizes = ", ".join(f"{name} {rows}" for name, rows in data.sizes().items())
    parameters = loading.count_parameters(method.student)["total"] / 1e6
    return f"{loop.named(spec)}: {spec.method}, {parameters:.1f}M parameters; rows: {sizes}"
