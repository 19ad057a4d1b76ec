"""Fine-tuning: the student learns from the labels alone. Teachers are trained this way too."""

import torch.nn.functional as F
from torch import Tensor

from rkd.methods.base import Batch, LossAverager, Method
from rkd.models.unpadded import logits


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy (classification) or the mean squared error (regression), averaged over the batch.

    Args:
        logits: shape (batch, classes), or (batch, 1) for regression.
        labels: class ids, int64, or scores, floating point; shape (batch,).

    Returns:
        A scalar: nats for classification, squared units of the score for regression.
    """
    if labels.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


class FineTune(Method):
    """Minimise L_task(z_S, y).

    Example:
        >>> method = FineTune(model, student_lr=5e-5, total_steps=1000)
        >>> method.step(batch)
        {'loss': 0.69, 'task': 0.69}
    """

    needs_teacher = False
    passes = (1, 1, 0, 0)

    def step(self, batch: Batch) -> dict[str, float]:
        losses = LossAverager()
        for micro_batch, weight in self.micro_batches(batch):
            loss = task_loss(logits(self.student, micro_batch), micro_batch["labels"])
            (weight * loss).backward()
            losses.add(weight, loss=loss, task=loss)
        self.student_optimizer.step()
        return losses
