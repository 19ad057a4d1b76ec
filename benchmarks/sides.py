"""The sides of a comparison: a method of rkd or the literal implementation, each with its own models."""

import copy
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from transformers import BertConfig, BertForSequenceClassification

from benchmarks.data import MINILM, Batch
from rkd.methods.build import build as build_method
from rkd.models import loading
from rkd.specs.jobs import ModelSpec
from rkd.tasks import get
from rkd.training import precision
from tests.reference.reptile import LiteralReptileKD

SETTINGS: dict[str, Any] = {
    "alpha": 0.5,
    "temperature": 5.0,
    "student_lr": 5e-5,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "total_steps": 1000,
}
TEACHER_LR = 5e-5
# Options of rkd's methods in addition to SETTINGS.
OPTIONS: dict[str, dict[str, Any]] = {
    "reptile": {"layer_map": "skip", "teacher_lr": TEACHER_LR},
    "kd": {},
    "metadistil": {"teacher_lr": TEACHER_LR},
}
Step = Callable[[Batch], object]


class Pair(NamedTuple):
    """A student and its teacher, on the CPU; each side gets its own copies."""

    student: Any
    teacher: Any


def minilm(task: str) -> Pair:
    """Load MiniLM, 6 → 3 layers of width 384, with a classifier for the task."""
    teacher = ModelSpec(MINILM)
    vocabulary = 30522
    student = ModelSpec("teacher-layers:1,3,5", layers_of=teacher)
    return Pair(*(loading.load(spec, get(task), vocabulary, seed=0) for spec in (student, teacher)))


def random_pair(student_layers: int, teacher_layers: int, **config: Any) -> Pair:
    """Return BERT classifiers with random weights, in BERT-base's shape unless `config` overrides it."""
    torch.manual_seed(0)
    student, teacher = (
        BertForSequenceClassification(BertConfig(num_hidden_layers=layers, **config))
        for layers in (student_layers, teacher_layers)
    )
    return Pair(student, teacher)


def build(side: str, pair: Pair, batch: Batch, device: str = "cpu", copies: bool = True) -> Any:
    """Build a method with copies of the pair, or with the pair itself if `copies` is False.

    Args:
        side: "literal", or the name of a method of rkd.
        batch: the quiz batch of methods that take one.
    """
    student, teacher = map(copy.deepcopy, pair) if copies else pair
    student, teacher = student.to(device).train(), teacher.to(device)
    if side == "literal":
        return LiteralReptileKD(student, teacher, strategy="skip", teacher_lr=TEACHER_LR, **SETTINGS)
    options, quiz = OPTIONS[side], itertools.repeat(batch)
    return build_method(side, student, teacher, options=options, quiz=quiz, device=device, **SETTINGS)


def take_quiz(method: Any, batches: list[Batch]) -> None:
    """Give a method that takes a quiz the batches of the following steps."""
    if getattr(method, "quiz", None) is not None:
        method.quiz = itertools.cycle(batches[1:] + batches[:1])


def stepper(method: Any, name: str = "fp32", device: str = "cpu") -> Step:
    """Return `method.step` in "fp32" or "bf16"; "tf32" is a setting of the process."""

    def step(batch: Batch) -> object:
        with precision.autocast("bf16" if name == "bf16" else "fp32", torch.device(device)):
            return method.step(batch)

    return step
