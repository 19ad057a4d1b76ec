"""Fine-tuning: the student learns from the labels alone. Teachers are trained this way too."""

from rkd.methods.base import Batch, LossAverager, Method, task_loss
from rkd.models.unpadded import logits

# Methods of users import the task loss from here, too.
__all__ = ["FineTune", "task_loss"]


class FineTune(Method):
    """Minimise L_task(z_S, y).

    Example:
        >>> method = FineTune(model, student_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'loss': 0.69, 'task': 0.69}
    """

    needs_teacher = False
    passes = (1, 1, 0, 0)

    def step(self, batch: Batch) -> LossAverager:
        losses = LossAverager()
        for micro_batch, weight in self.micro_batches(batch):
            loss = self.task_loss(logits(self.student, micro_batch), micro_batch["labels"])
            (weight * loss).backward()
            losses.add(weight, loss=loss, task=loss)
        self.student_optimizer.step()
        return losses
