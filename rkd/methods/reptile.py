"""Reptile knowledge distillation (Ma et al., COLING 2022): the teacher follows a look-ahead of its student."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rkd.layer_map import LayerMap
from rkd.methods.base import Batch, Means, Optimizer, RandomState, first_adamw_step, no_decay
from rkd.methods.kd import KD
from rkd.packed import logits


class ReptileKD(KD):
    """Three updates per batch, with L the objective of `KD`:

    1. Inner: θ'_S ← one AdamW step with fresh state from θ_S on L(x, y; θ_S, θ_T), learning rate `student_lr`.
    2. Meta: θ_T ← AdamW(θ_T, θ_T − θ'_S) over the pairs of `layer_map`, learning rate `teacher_lr`.
    3. Student: θ_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with the updated teacher.

    Every gradient is clipped to `max_grad_norm`. One dropout mask per batch serves updates 1 and 3, which therefore
    share the student's forward pass. The inner learning rate neither warms up nor decays. Teacher parameters outside
    the map receive nothing, not even weight decay.

    Args:
        layer_map: which teacher layers each student layer pulls.
        teacher_lr: μ, peak learning rate of the teacher's AdamW.
        **settings: see `KD` and `Method`.

    Example:
        >>> layer_map = LayerMap.from_strategy("skip", student_layers=6, teacher_layers=12)
        >>> method = ReptileKD(
        ...     student, teacher, layer_map=layer_map, student_lr=5e-5, teacher_lr=5e-5, total_steps=1000
        ... )
        >>> method.step(batch)
        {'loss': 1.2, 'task': 0.7, 'kd': 1.7}
    """

    teacher_moves = True

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        layer_map: LayerMap,
        teacher_lr: float,
        student_lr: float,
        **settings: Any,
    ) -> None:
        super().__init__(student, teacher, student_lr=student_lr, **settings)
        self.inner_lr = student_lr
        self.pairs = layer_map.pairs(student, teacher)
        self.student_parameters = [p for p in student.parameters() if p.requires_grad]
        self.ahead = {p: torch.empty_like(p, requires_grad=False) for p in self.student_parameters}  # θ'_S
        self.no_decay = no_decay(student)
        mapped = [teacher_parameter for _, teacher_parameter in self.pairs]
        self.teacher_optimizer = Optimizer(teacher, mapped, lr=teacher_lr, **self.settings)
        self.initial_distance = self._distance()

    def step(self, batch: Batch) -> dict[str, float]:
        chunks = self.chunks(batch)
        replay = RandomState(self.student)
        forwards: Iterable[Tensor]
        forwards = kept = []

        # 1. Inner update: where would the student go with the teacher as it is?
        gradients: list[Tensor | None] = [None] * len(self.student_parameters)
        for chunk, share in chunks:
            z_s = logits(self.student, chunk)
            loss, _, _ = self.objective(z_s, self.teacher_logits(chunk), chunk["labels"])
            parts = torch.autograd.grad(
                share * loss, self.student_parameters, retain_graph=len(chunks) == 1, allow_unused=True
            )
            gradients = [g if total is None else total + g for g, total in zip(parts, gradients, strict=True)]
            kept.append(z_s)
        self.look_ahead(gradients)

        # 2. Meta update: the teacher follows, its pseudo-gradient is θ_T − θ'_S.
        for student_parameter, teacher_parameter in self.pairs:
            teacher_parameter.grad = teacher_parameter.detach() - self.ahead[student_parameter]
        self.teacher_optimizer.step()

        # 3. Student update: the real step, with the updated teacher's logits.
        losses = Means()
        if len(chunks) > 1:  # keeping every chunk's graph would cost the memory that chunks are to save
            replay.restore()
            forwards = (logits(self.student, chunk) for chunk, _ in chunks)
        for z_s, (chunk, share) in zip(forwards, chunks, strict=True):
            loss, task, soft = self.objective(z_s, self.teacher_logits(chunk), chunk["labels"])
            (share * loss).backward()
            losses.add(share, loss=loss, task=task, kd=soft)
        self.student_optimizer.step()
        return losses

    def look_ahead(self, gradients: list[Tensor | None]) -> None:
        """Put θ'_S into `ahead`: one clipped AdamW step from zero state."""
        first_adamw_step(
            self.student_parameters,
            gradients,
            self.no_decay,
            list(self.ahead.values()),
            lr=self.inner_lr,
            weight_decay=self.settings["weight_decay"],
            max_grad_norm=self.settings["max_grad_norm"],
            epsilon=self.settings["adam_epsilon"],
        )

    def distance(self) -> float:
        """‖θ_T − θ_S‖ / ‖θ_T⁰ − θ_S⁰‖ over the mapped pairs: 1 at the start, 0 when teacher and student are one."""
        return self._distance() / self.initial_distance if self.initial_distance else 0.0

    @torch.no_grad()
    def _distance(self) -> float:
        differences = [teacher - student for student, teacher in self.pairs]
        return float(torch.stack(torch._foreach_norm(differences)).norm())
