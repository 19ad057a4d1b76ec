"""Online distillation: the teacher keeps learning the task from the student's own batches (our definition)."""

from typing import Any

from torch import nn

from rkd.methods.base import Batch, Optimizer
from rkd.methods.finetune import task_loss
from rkd.methods.kd import KD
from rkd.models.unpadded import logits


class OnlineKD(KD):
    """Two updates per batch, with L the objective of `KD`:

    1. Teacher: θ_T ← AdamW(θ_T, ∇ L_task(x, y; θ_T)), learning rate `teacher_lr`.
    2. Student: θ_S ← AdamW(θ_S, ∇ L(x, y; θ_S, θ_T)) with the updated teacher.

    The question: is a teacher that moves enough, whatever it moves for? It learns its task and nothing about the
    student. It stays in eval mode, as every teacher here: its gradient is that without dropout. The definition is
    ours; "online" distillation elsewhere also trains the teacher on the student's outputs.

    Args:
        teacher_lr: peak learning rate of the teacher's AdamW, with the student's schedule.
        **settings: see `KD` and `Method`.

    Example:
        >>> method = OnlineKD(student, teacher, student_lr=5e-5, teacher_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'teacher': 0.1, 'loss': 1.2, 'task': 0.7, 'kd': 1.7}
    """

    options = ("alpha", "temperature", "regression_kd", "teacher_lr")
    trains_teacher = True
    passes = (1, 1, 2, 1)

    def __init__(self, student: nn.Module, teacher: nn.Module, *, teacher_lr: float, **settings: Any) -> None:
        super().__init__(student, teacher, **settings)
        self.teacher_optimizer = Optimizer(teacher, teacher.parameters(), lr=teacher_lr, **self.settings)

    def step(self, batch: Batch) -> dict[str, float]:
        teacher_loss = 0.0
        for micro_batch, weight in self.micro_batches(batch):
            loss = task_loss(logits(self.teacher, micro_batch), micro_batch["labels"])
            (weight * loss).backward()
            teacher_loss += weight * float(loss.detach())
        self.teacher_optimizer.step()
        return {"teacher": teacher_loss, **super().step(batch)}
