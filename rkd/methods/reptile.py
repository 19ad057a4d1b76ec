"""Reptile knowledge distillation (Ma et al., COLING 2022): the teacher follows a look-ahead of its student."""

import copy
from collections.abc import Iterable, Iterator
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

MicroBatches = list[tuple[Batch, float]]


class ReptileKD(KD):
    """Reptile distillation: three updates per batch. L is the objective of `KD`.

    1. Inner: θ'_S ← one AdamW step with fresh state from θ_S on L(x, y; θ_S, θ_T), learning rate `student_lr`.
    2. Outer: θ_T ← AdamW(θ_T, θ_T − θ'_S) over the pairs of `layer_map`, learning rate `teacher_lr`.
    3. Student: θ_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with the updated teacher.

    Every gradient is clipped to `max_grad_norm`. One dropout mask per batch serves updates 1 and 3, which therefore
    share the student's forward pass. The inner learning rate neither warms up nor decays. Teacher parameters outside
    the map receive nothing, not even weight decay.

    Each of the arguments from `outer_target` to `outer_step_size` is a control: it changes one sentence of the above
    and so asks whether that sentence matters. Their defaults are the method as it was published.

    Args:
        layer_map: which teacher layers each student layer pulls.
        teacher_lr: μ, peak learning rate of the teacher's AdamW.
        outer_target: what takes the place of θ'_S in update 2. "look-ahead": θ'_S; "student": θ_S, without an update 1
            (does the look-ahead matter?); "initial": θ_S before the first step, for good (does it matter that the
            student learns?). "step" takes θ_S − θ'_S in the place of the pseudo-gradient, the look-ahead's step
            without the way from teacher to student: the one part of the rule that meta-learns (does it help alone?).
        outer_direction: "pseudo-gradient", or "random": each teacher weight takes the step that update 2 has computed
            for it, up or down by chance, drawn anew at every batch (does it matter where the teacher goes, or only
            that it moves?). The signs come from a generator of the method's own.
        outer_scope: "all" pairs of the map, or "encoder", those inside transformer layers: embeddings, pooler and
            classifier stay (is it the layers' pull, or that of the shared embeddings and head?).
        inner_steps: k ≥ 1 steps of AdamW in update 1, all on the same batch with the same dropout mask (does a
            longer look-ahead help?).
        inner_batch: "same", or "quiz": update 1 takes the next batch of `quiz` instead of (x, y), update 3 keeps
            (x, y) (does it matter that the teacher sees the batch on which it is about to teach?).
        quiz: endless iterator over batches that the student does not train on, for inner_batch "quiz" alone; see
            `rkd.training.holdout.QuizBatches`.
        outer_optimizer: "adamw", or "sgd": update 2 is θ_T ← θ_T + ε · (θ'_S − θ_T), Reptile's own rule (Nichol et
            al., 2018), neither clipped nor decayed (does AdamW's walk of constant speed matter?).
        outer_step_size: ε of outer_optimizer "sgd", in (0, 1], with the schedule of the learning rates. 1e-3 is ours.
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
        self.step_alone = outer_target == "step"
        self.pairs = layer_map.pairs(student, teacher)
        if outer_scope == "encoder":
            self.pairs = _inside_layers(self.pairs, student)
        self.student_parameters = [p for p in student.parameters() if p.requires_grad]
        self.ahead: dict[nn.Parameter, Tensor]  # what each student parameter pulls to: θ'_S
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

    def step(self, batch: Batch) -> dict[str, float]:
        micro_batches = self.micro_batches(batch)
        replay = RngState(self.student)

        # 1. Inner update: one look-ahead step of the student with the current teacher.
        forwards: Iterable[Tensor] | None = self.look_ahead(micro_batches, replay)

        # 2. Outer update: the teacher steps along its pseudo-gradient θ_T − θ'_S.
        self.pseudo_gradients()
        self.outer_update()

        # 3. Student update: the real step, with the updated teacher's logits.
        losses = LossAverager()
        if forwards is None:
            replay.restore()
            forwards = (logits(self.student, micro_batch) for micro_batch, _ in micro_batches)
        for z_s, (micro_batch, weight) in zip(forwards, micro_batches, strict=True):
            loss, task, soft = self.objective(z_s, self.teacher_logits(micro_batch), micro_batch["labels"])
            (weight * loss).backward()
            losses.add(weight, loss=loss, task=task, kd=soft)
        self.student_optimizer.step()
        return losses

    def look_ahead(self, micro_batches: MicroBatches, replay: RngState) -> list[Tensor] | None:
        """Put θ'_S into `ahead`: clipped AdamW steps from zero state.

        Args:
            micro_batches: the student's batch.
            replay: where the random generators stood before it.

        Returns:
            z_S of each micro-batch with its graph, if update 3 needs it and memory allows to keep it.
        """
        if not self.looks_ahead:
            return None
        if self.quiz is not None:
            micro_batches = self.micro_batches(next(self.quiz))
        if self.inner_steps > 1:
            self.inner_loop(micro_batches, replay)
            return None
        # Keeping every micro_batch's graph would cost the memory that micro-batches are to save.
        shared = self.quiz is None and len(micro_batches) == 1
        gradients, forwards = self.gradients(self.student, micro_batches, retain_graph=shared)
        # θ'_S takes the gradients' memory; one that lies in another's is copied out before that is written over.
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
    ) -> tuple[list[Tensor | None], list[Tensor]]:
        """∇ L(x, y; θ, θ_T) for every parameter of the student or its copy, and the logits of each micro-batch."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients: list[Tensor | None] = [None] * len(parameters)
        forwards = []
        for micro_batch, weight in micro_batches:
            z_s = logits(model, micro_batch)
            loss, _, _ = self.objective(z_s, self.teacher_logits(micro_batch), micro_batch["labels"])
            parts = torch.autograd.grad(weight * loss, parameters, retain_graph=retain_graph, allow_unused=True)
            gradients = [g if total is None else total + g for g, total in zip(parts, gradients, strict=True)]
            forwards.append(z_s)
        return gradients, forwards

    @torch.no_grad()
    def pseudo_gradients(self) -> None:
        """Give each mapped teacher parameter θ_T − θ'_S, or θ_S − θ'_S, in the memory of θ'_S, read once more here."""
        for student_parameter, teacher_parameter in self.pairs:
            origin, target = student_parameter if self.step_alone else teacher_parameter, self.ahead[student_parameter]
            free = self.looks_ahead and self.last_pair[student_parameter] is teacher_parameter
            teacher_parameter.grad = torch.sub(origin, target, out=target if free else None)
        if self.looks_ahead:
            self.ahead = {}

    def outer_update(self) -> None:
        """Step along the pseudo-gradients, or by as much in a random direction."""
        if self.signs is None:
            self.teacher_optimizer.step()
            return
        before = [parameter.detach().clone() for parameter in self.mapped]
        self.teacher_optimizer.step()
        self.signs.redirect(self.mapped, before)

    def distance(self) -> float:
        """‖θ_T − θ_S‖ / ‖θ_T⁰ − θ_S⁰‖ over the mapped pairs: 1 at the start, 0 when teacher and student are one."""
        return self._distance() / self.initial_distance if self.initial_distance else 0.0

    @torch.no_grad()
    def _distance(self) -> float:
        differences = [teacher - student for student, teacher in self.pairs]
        return float(torch.stack(torch._foreach_norm(differences)).norm())


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
    """Those of the pairs whose student parameter belongs to a transformer layer."""
    inside = {parameter for name, parameter in student.named_parameters() if LAYER.match(name)}
    kept = [pair for pair in pairs if pair[0] in inside]
    if not kept:
        raise RkdError("outer_scope: found 'encoder' with a layer_map that maps no layer; expected a mapped layer")
    return kept
