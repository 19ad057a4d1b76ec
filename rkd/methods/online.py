"""Online distillation: the teacher keeps training on the student's batches, optionally following the student."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rkd.errors import RkdError
from rkd.losses import kd_loss, multi_label_kd_loss, regression_kd_loss
from rkd.methods.base import Batch, LossAverager, Optimizer, RngState
from rkd.methods.kd import KD
from rkd.models.outputs import gives_sets
from rkd.models.unpadded import logits


class OnlineKD(KD):
    """Online distillation: two updates per batch. L is the objective of `KD`, λ the `follow_weight`.

    1. Teacher: θ_T ← AdamW(θ_T, ∇_{θ_T} L_T(x, y; θ_T, θ_S)), learning rate `teacher_lr`, with
       L_T = (1 − λ) · L_task(z_T, y) + λ · KL(softmax(z_S) ‖ softmax(z_T)). z_S is a constant here.
    2. Student: θ_S ← AdamW(θ_S, ∇_{θ_S} L(x, y; θ_S, θ_T)) with the updated teacher.

    λ = 0 is our definition: the teacher trains on its task alone, to test whether it is enough that the teacher
    changes. λ > 0 is ProKT (Shi et al., Findings of ACL 2021): the teacher also follows the student. λ = 1 resembles
    Reptile's outer update, but on predictions instead of weights, so widths may differ.

    The teacher stays in eval mode, so its gradient is computed without dropout. The student uses the same dropout mask
    in both updates. The KL has no temperature and is averaged over the batch.

    Args:
        teacher_lr: peak learning rate of the teacher's AdamW, with the student's schedule; 3e-5 in the code of LGTM.
        follow_weight: λ in [0, 1]; 0.4 in the code of LGTM, there with α = 1 and T = 1.
        **settings: see `KD` and `Method`. For tasks with one output, `regression_kd` also decides what
            replaces the KL: the squared difference of the scores, or nothing.

    Raises:
        RkdError: a weight out of range.

    Example:
        >>> method = OnlineKD(student, teacher, student_lr=5e-5, teacher_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'teacher': 0.1, 'loss': 1.2, 'task': 0.7, 'kd': 1.7}
    """

    options: ClassVar[tuple[str, ...]] = ("alpha", "temperature", "regression_kd", "teacher_lr", "follow_weight")
    trains_teacher = True
    passes = (1, 1, 2, 1)

    def __init__(
        self, student: nn.Module, teacher: nn.Module, *, teacher_lr: float, follow_weight: float = 0.0, **settings: Any
    ) -> None:
        super().__init__(student, teacher, **settings)
        if not 0 <= follow_weight <= 1:
            raise RkdError(f"follow_weight: found {follow_weight}; expected a number from 0 to 1")
        self.follow_weight = follow_weight
        self.teacher_optimizer = Optimizer(teacher, teacher.parameters(), lr=teacher_lr, **self.settings)

    def step(self, batch: Batch) -> LossAverager:
        return self.teacher_update(batch) | super().step(batch)

    def teacher_update(self, batch: Batch) -> LossAverager:
        """Take update 1 and return the teacher's loss before it."""
        micro_batches, losses = self.micro_batches(batch), LossAverager()
        answers: Iterable[Tensor | None] = self.student_logits(micro_batches) if self.follow_weight else repeat(None)
        for (micro_batch, weight), z_s in zip(micro_batches, answers, strict=False):
            loss = self.teacher_objective(self.ask_teacher(micro_batch), z_s, micro_batch["labels"])
            (weight * loss).backward()
            losses.add(weight, teacher=loss)
        self.teacher_optimizer.step()
        return losses

    def teacher_objective(self, z_t: Tensor, z_s: Tensor | None, labels: Tensor) -> Tensor:
        """Compute the scalar L_T; without z_S, only the task loss."""
        task = self.task_loss(z_t, labels)
        if z_s is None:
            return task
        return (1 - self.follow_weight) * task + self.follow_weight * self.follow_loss(z_t, z_s)

    def follow_loss(self, z_t: Tensor, z_s: Tensor) -> Tensor:
        """Compute KL(softmax(z_S) ‖ softmax(z_T)), or its replacement for tasks with one output."""
        if gives_sets(self.student):
            return multi_label_kd_loss(z_t, z_s, temperature=1.0)
        if z_t.shape[-1] > 1:
            return kd_loss(z_t, z_s, temperature=1.0)  # the student's distribution is the target
        if self.regression_kd == "mse":
            return regression_kd_loss(z_t, z_s)
        return 0.0 * z_t.sum()

    @torch.no_grad()
    def student_logits(self, micro_batches: list[tuple[Batch, float]]) -> list[Tensor]:
        """Compute z_S of each micro-batch without autograd; the student's update then draws the same dropout masks."""
        replay = RngState(self.student)
        answers = [logits(self.student, micro_batch) for micro_batch, _ in micro_batches]
        replay.restore()
        return answers
