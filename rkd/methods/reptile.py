"""Reptile knowledge distillation (Ma et al., COLING 2022): the teacher follows a look-ahead of its student."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from rkd.errors import RkdError
from rkd.layer_map import LAYER, LayerMap
from rkd.methods.base import Batch, LossAverager, Optimizer, RngState, first_adamw_step, no_decay
from rkd.methods.kd import KD
from rkd.methods.reptile_controls import RandomSigns, ReptileSGD
from rkd.models.unpadded import logits
from rkd.models.vjp import has_one_direction, vjp

MicroBatches = list[tuple[Batch, float]]
Forward = tuple[Tensor, Callable[[Tensor], None]]  # z_S, and the backward pass of a loss of z_S


class ReptileKD(KD):
    """Reptile distillation: three updates per batch. L is the objective of `KD`.

    1. Inner: θ'_S ← one AdamW step with fresh state from θ_S on L(x, y; θ_S, θ_T), learning rate `student_lr`.
    2. Outer: θ_T ← AdamW(θ_T, θ_T − θ'_S) over the pairs of `layer_map`, learning rate `teacher_lr`.
    3. Student: θ_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with the updated teacher.

    Every gradient is clipped to `max_grad_norm`. One dropout mask per batch serves updates 1 and 3, which therefore
    share the student's forward pass. The inner learning rate has no warm-up and no decay. Teacher parameters outside
    the map are not updated, not even by weight decay.

    The arguments from `outer_target` to `outer_step_size` are controls. Each changes one part of the method, to test
    whether that part matters. The defaults are the published method.

    Args:
        layer_map: assigns teacher layers to each student layer.
        teacher_lr: μ, peak learning rate of the teacher's AdamW.
        outer_target: replaces θ'_S in update 2. "look-ahead": θ'_S. "student": θ_S, and update 1 is skipped (does the
            look-ahead matter?). "initial": θ_S before the first step (does it matter that the student learns?).
            "step": the pseudo-gradient is θ_S − θ'_S, the look-ahead's step alone (does the part of the rule that
            meta-learns help by itself?).
        outer_direction: "pseudo-gradient", or "random": each teacher weight takes a step of the size computed by
            update 2, with a sign drawn anew for every batch (does the direction matter, or only that the teacher
            moves?). The signs come from a separate generator.
        outer_scope: "all" pairs of the map, or "encoder", those inside transformer layers: embeddings, pooler and
            classifier stay fixed (do the shared embeddings and head matter?).
        inner_steps: k ≥ 1 steps of AdamW in update 1, all on the same batch with the same dropout mask (does a
            longer look-ahead help?).
        inner_batch: "same", or "quiz": update 1 uses the next batch of `quiz`, update 3 still uses (x, y) (does it
            matter that the look-ahead sees the batch of the student's step?).
        quiz: endless iterator over batches that the student is not trained on, only for inner_batch "quiz"; see
            `rkd.training.holdout.QuizBatches`.
        outer_optimizer: "adamw", or "sgd": update 2 is θ_T ← θ_T + ε · (θ'_S − θ_T), Reptile's own rule (Nichol et
            al., 2018), without clipping or weight decay (does it matter that AdamW ignores the distance?).
        outer_step_size: ε of outer_optimizer "sgd", in (0, 1], with the schedule of the learning rates. The default,
            1e-3, is our choice.
        **settings: see `KD` and `Method`.

    Example:
        >>> layer_map = LayerMap.from_strategy("skip", student_layers=6, teacher_layers=12)
        >>> method = ReptileKD(
        ...     student, teacher, layer_map=layer_map, student_lr=5e-5, teacher_lr=5e-5, total_steps=1000
        ... )
        >>> method.step(batch)
        {'loss': 1.2, 'task': 0.7, 'kd': 1.7}
    """

    options = (
        "alpha",
        "temperature",
        "regression_kd",
        "layer_map",
        "teacher_lr",
        "outer_target",
        "outer_direction",
        "outer_scope",
        "inner_steps",
        "inner_batch",
        "outer_optimizer",
        "outer_step_size",
        "quiz_fraction",
    )
    read_with = (("quiz_fraction", "inner_batch", "quiz"), ("outer_step_size", "outer_optimizer", "sgd"))
    trains_teacher = True
    logits_only = False
    same_width = "pairs their parameters"
    passes = (1, 2, 2, 0)

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        layer_map: LayerMap,
        teacher_lr: float,
        student_lr: float,
        outer_target: str = "look-ahead",
        outer_direction: str = "pseudo-gradient",
        outer_scope: str = "all",
        inner_steps: int = 1,
        inner_batch: str = "same",
        quiz: Iterator[Batch] | None = None,
        outer_optimizer: str = "adamw",
        outer_step_size: float = 1e-3,
        **settings: Any,
    ) -> None:
        super().__init__(student, teacher, student_lr=student_lr, **settings)
        _check_choice("outer_target", outer_target, "look-ahead", "step", "student", "initial")
        _check_choice("outer_direction", outer_direction, "pseudo-gradient", "random")
        _check_choice("outer_scope", outer_scope, "all", "encoder")
        _check_choice("inner_batch", inner_batch, "same", "quiz")
        _check_choice("outer_optimizer", outer_optimizer, "adamw", "sgd")
        _check_inner_loop(outer_target, inner_steps, inner_batch, quiz)
        self.inner_lr, self.inner_steps, self.quiz = student_lr, inner_steps, quiz
        self.looks_ahead = outer_target in ("look-ahead", "step")
        self.outer_target = outer_target
        self.pairs = layer_map.pairs(student, teacher)
        if outer_scope == "encoder":
            self.pairs = _inside_layers(self.pairs, student)
        self.student_parameters = [p for p in student.parameters() if p.requires_grad]
        self.ahead: dict[nn.Parameter, Tensor]  # θ'_S by student parameter
        if outer_target == "initial":
            self.initial_student = copy.deepcopy(student).requires_grad_(False)
            self.ahead = dict(zip(student.parameters(), self.initial_student.parameters(), strict=True))
        elif outer_target == "student":
            self.ahead = {p: p.detach() for p in student.parameters()}
        else:
            self.ahead = {}  # from look_ahead to the outer update
        self.no_decay = no_decay(student)
        self.mapped = [teacher_parameter for _, teacher_parameter in self.pairs]
        self.last_pair = dict(self.pairs)
        self.teacher_optimizer = (
            Optimizer(teacher, self.mapped, lr=teacher_lr, **self.settings)
            if outer_optimizer == "adamw"
            else ReptileSGD(self.mapped, outer_step_size, self.settings["total_steps"], self.settings["warmup_steps"])
        )
        self.signs = RandomSigns(self.mapped) if outer_direction == "random" else None
        self.initial_distance = self._distance()

    def step(self, batch: Batch) -> LossAverager:
        micro_batches, replay = self.micro_batches(batch), RngState(self.student)
        forwards = self.look_ahead(micro_batches, replay)  # 1. inner update
        self.pseudo_gradients()  # 2. outer update
        self.outer_update()
        return self.student_update(micro_batches, forwards, replay)  # 3. student update

    def look_ahead(self, micro_batches: MicroBatches, replay: RngState) -> list[Forward] | None:
        """Take update 1, θ'_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with fresh state, and put θ'_S into `ahead`."""
        if not self.looks_ahead:
            return None
        if self.quiz is not None:
            micro_batches = self.micro_batches(next(self.quiz))
        if self.inner_steps == 1:
            return self.first_step(micro_batches)
        self.inner_loop(micro_batches, replay)
        return None  # the logits of the student's copy are not the student's

    @torch.no_grad()
    def pseudo_gradients(self) -> None:
        """Set the gradient of each mapped θ_T to θ_T − θ'_S, or to θ_S − θ'_S with outer_target "step"."""
        for student, teacher in self.pairs:
            origin = student if self.outer_target == "step" else teacher
            ahead = self.ahead.get(student)
            last_use = ahead is not None and self.looks_ahead and self.last_pair[student] is teacher
            # A frozen θ_S is not updated, so that θ'_S is θ_S.
            teacher.grad = torch.sub(origin, student if ahead is None else ahead, out=ahead if last_use else None)
        if self.looks_ahead:
            self.ahead = {}  # their memory now holds the pseudo-gradients

    def outer_update(self) -> None:
        """Take update 2, θ_T ← AdamW(θ_T, θ_T − θ'_S), or a step of the same size with random signs."""
        before = [parameter.detach().clone() for parameter in self.mapped] if self.signs else []
        self.teacher_optimizer.step()
        if self.signs:
            self.signs.redirect(self.mapped, before)

    def student_update(
        self, micro_batches: MicroBatches, forwards: list[Forward] | None, replay: RngState
    ) -> LossAverager:
        """Take update 3, θ_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with the updated θ_T."""
        if forwards is None:
            replay.restore()
        losses = LossAverager()
        for i, (micro_batch, weight) in enumerate(micro_batches):
            z_s, backward = forwards[i] if forwards else (logits(self.student, micro_batch), Tensor.backward)
            loss, task, soft = self.objective(z_s, self.teacher_logits(micro_batch), micro_batch["labels"])
            backward(weight * loss)
            losses.add(weight, loss=loss, task=task, kd=soft)
        self.student_optimizer.step()
        return losses

    def first_step(self, micro_batches: MicroBatches) -> list[Forward] | None:
        """Put θ'_S into `ahead`: the closed form of one clipped AdamW step from zero state.

        Returns:
            z_S of the batch and its backward pass, if update 3 can reuse them; else None.
        """
        # With several micro-batches, keeping every graph would undo what gradient accumulation saves.
        shared = self.quiz is None and len(micro_batches) == 1
        if shared and self.has_one_direction():
            gradients, forwards = self.gradients_of_one_direction(micro_batches[0][0])
        else:
            gradients, forwards = self.gradients(self.student, micro_batches, retain_graph=shared)
        # θ'_S overwrites the gradients in place. A gradient that shares memory with another is copied first.
        results = _memory(self.student_parameters, gradients)
        gradients = [
            None if g is None else r if r is g else r.copy_(g) for g, r in zip(gradients, results, strict=True)
        ]
        self.ahead = dict(zip(self.student_parameters, results, strict=True))
        first_adamw_step(
            self.student_parameters,
            gradients,
            self.no_decay,
            results,
            lr=self.inner_lr,
            weight_decay=self.settings["weight_decay"],
            max_grad_norm=self.settings["max_grad_norm"],
            epsilon=self.settings["adam_epsilon"],
        )
        return forwards if shared else None

    def inner_loop(self, micro_batches: MicroBatches, replay: RngState) -> None:
        """Put θ'_S into `ahead`: `inner_steps` steps of AdamW on a copy of the student."""
        learner = copy.deepcopy(self.student)
        parameters = [p for p in learner.parameters() if p.requires_grad]
        exempt = no_decay(learner)
        groups = [
            {"params": [p for p in parameters if p not in exempt], "weight_decay": self.settings["weight_decay"]},
            {"params": [p for p in parameters if p in exempt], "weight_decay": 0.0},
        ]
        adamw = AdamW(groups, lr=self.inner_lr, eps=self.settings["adam_epsilon"], fused=True)
        for _ in range(self.inner_steps):
            replay.restore()
            gradients, _ = self.gradients(learner, micro_batches)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            nn.utils.clip_grad_norm_(parameters, self.settings["max_grad_norm"])
            adamw.step()
        self.ahead = {p: q.detach() for p, q in zip(self.student_parameters, parameters, strict=True)}

    def gradients(
        self, model: nn.Module, micro_batches: MicroBatches, retain_graph: bool = False
    ) -> tuple[list[Tensor | None], list[Forward]]:
        """Return ∇ L(x, y; θ, θ_T) by parameter of the student or its copy, and each forward pass."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients: list[Tensor | None] = [None] * len(parameters)
        forwards: list[Forward] = []
        for micro_batch, weight in micro_batches:
            z_s = logits(model, micro_batch)
            loss, _, _ = self.objective(z_s, self.teacher_logits(micro_batch), micro_batch["labels"])
            parts = torch.autograd.grad(weight * loss, parameters, retain_graph=retain_graph, allow_unused=True)
            gradients = [g if total is None else total + g for g, total in zip(parts, gradients, strict=True)]
            forwards.append((z_s, Tensor.backward))
        return gradients, forwards

    def has_one_direction(self) -> bool:
        """Return True if one backward pass of the student serves updates 1 and 3, see `rkd.models.vjp`."""
        # A subclass's losses may depend on more than the difference of two logits.
        losses = ("objective", "soft_loss", "task_loss", "student_update")
        own = any(name in vars(self) or getattr(type(self), name) is not getattr(ReptileKD, name) for name in losses)
        return not own and has_one_direction(self.student)

    def gradients_of_one_direction(self, batch: Batch) -> tuple[list[Tensor | None], list[Forward]]:
        """Do the work of `gradients` for the student on one batch, by `rkd.models.vjp`."""
        z_s, differentiate = vjp(self.student, batch)

        def backward(loss: Tensor) -> None:
            for parameter, gradient in zip(self.student_parameters, differentiate(loss), strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

        loss, _, _ = self.objective(z_s, self.teacher_logits(batch), batch["labels"])
        return [*differentiate(loss)], [(z_s, backward)]

    def distance(self) -> float:
        """Return ‖θ_T − θ_S‖ / ‖θ_T⁰ − θ_S⁰‖ over the mapped pairs: 1 at the start, 0 when they are equal."""
        initial = float(self.initial_distance)
        return float(self._distance()) / initial if initial else 0.0

    @torch.no_grad()
    def _distance(self) -> Tensor:
        differences = [teacher - student for student, teacher in self.pairs]
        return torch.stack(torch._foreach_norm(differences)).norm()


def _memory(parameters: list[nn.Parameter], gradients: list[Tensor | None]) -> list[Tensor]:
    """Return writable memory for each gradient; allocate it for those that have none or share it."""
    taken: set[int] = set()
    result = []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        alone = gradient is not None and gradient.is_contiguous() and gradient.data_ptr() not in taken
        result.append(gradient if gradient is not None and alone else torch.empty_like(parameter, requires_grad=False))
        taken.add(result[-1].data_ptr())
    return result


def _check_choice(key: str, found: str, *allowed: str) -> None:
    if found not in allowed:
        raise RkdError(f"{key}: found {found!r}; expected {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}")


def _check_inner_loop(outer_target: str, inner_steps: int, inner_batch: str, quiz: Iterator[Batch] | None) -> None:
    if inner_steps < 1:
        raise RkdError(f"inner_steps: found {inner_steps}; expected a whole number from 1")
    if outer_target in ("student", "initial") and (inner_steps > 1 or inner_batch == "quiz"):
        key, found = ("inner_steps", inner_steps) if inner_steps > 1 else ("inner_batch", inner_batch)
        raise RkdError(
            f"{key}: found {found!r}; expected its default, as outer_target {outer_target!r} makes no inner update"
        )
    if (inner_batch == "quiz") != (quiz is not None):
        raise RkdError(
            f"quiz: found {'none' if quiz is None else 'one'} with inner_batch {inner_batch!r}; expected quiz batches "
            "with inner_batch 'quiz', and only then"
        )


def _inside_layers(
    pairs: list[tuple[nn.Parameter, nn.Parameter]], student: nn.Module
) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Return the pairs inside transformer layers."""
    inside = {parameter for name, parameter in student.named_parameters() if LAYER.match(name)}
    kept = [pair for pair in pairs if pair[0] in inside]
    if not kept:
        raise RkdError("outer_scope: found 'encoder' with a layer_map that maps no layer; expected a mapped layer")
    return kept
