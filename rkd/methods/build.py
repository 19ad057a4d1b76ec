"""Build a method, for training runs, their trials, measurements and benchmarks."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.methods import by_name
from rkd.methods.base import Batch, Method
from rkd.models import loading

# Options that say what the batches hold; no constructor takes them.
_OF_DATA = ("quiz_fraction", "soft_labels", "student_tokenizer")


def build(
    name: str,
    student: Any,
    teacher: Any = None,
    *,
    options: Mapping[str, Any],
    quiz: Iterator[Batch] | None = None,
    device: torch.device | str = "cpu",
    **settings: Any,
) -> Method:
    """Build a method by its name in configs and move its models to the device.

    Args:
        name: one of rkd's own methods, or a registered one.
        student: a Hugging Face classifier, before training.
        teacher: the fine-tuned teacher; ignored if the method does not need one, or the batches bring soft labels.
        options: options of a run's spec; `layer_map` is a strategy or a list. `quiz_fraction` is ignored here: it
            determined the size of `quiz`. `soft_labels` is True if the batches bring them in place of a teacher, and
            `student_tokenizer` is "own" if they bring the teacher's inputs beside the student's.
        quiz: endless iterator over batches that the student is not trained on; ignored if the method does not need one.
        device: device of the models.
        **settings: of `rkd.methods.base.Method`: `student_lr`, `total_steps`, …

    Raises:
        RkdError: no teacher or quiz for a method that needs one, models that do not fit each other, or options that do
            not fit the models.

    Example:
        >>> method = build("kd", student, teacher, options={"alpha": 0.5}, student_lr=5e-5, total_steps=1000)
    """
    kind = by_name(name)
    arguments = {key: value for key, value in options.items() if key not in _OF_DATA}
    if kind.needs_quiz(options):
        if quiz is None:
            raise RkdError(f"method {name!r}: found no quiz; expected batches that the student does not train on")
        arguments["quiz"] = quiz
    if options.get("soft_labels"):
        if not kind.logits_only or kind.trains_teacher:
            raise RkdError(f"method {name!r}: found soft labels; expected a teacher: it reads more than logits")
        distilled: Method = kind(student.to(device), None, **settings, **arguments)
        return distilled
    models = [student]
    if kind.needs_teacher:
        if teacher is None:
            raise RkdError(f"method {name!r} needs the folder of a fine-tuned teacher; found none")
        own = options.get("student_tokenizer") == "own"
        if own and not kind.logits_only:
            raise RkdError(
                f"method {name!r}: found a student with a tokenizer of its own; expected that of the teacher"
            )
        loading.check_fit(student, teacher, same_vocabulary=not own)
        if "layer_map" in arguments:
            depths = loading.depth(student), loading.depth(teacher)
            arguments["layer_map"] = LayerMap.from_strategy(arguments["layer_map"], *depths)
        models.append(teacher)
    built: Method = kind(*(model.to(device) for model in models), **settings, **arguments)
    return built
