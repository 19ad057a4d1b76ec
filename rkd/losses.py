"""The distillation losses: pure functions of logits, one equation each.

Conventions, where published codes disagree: Kullback–Leibler terms are averaged over the batch, multiplied by T², and
α weighs the soft term. The task loss stands with the method that it defines, in `rkd.methods.finetune`.
"""

import torch.nn.functional as F
from torch import Tensor


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(z_T / T) ‖ softmax(z_S / T)), averaged over the batch (Hinton et al., 2015).

    Args:
        student_logits: z_S, shape (batch, classes).
        teacher_logits: z_T, same shape; gradients do not flow into it when it was computed without autograd.
        temperature: T > 0. The factor T² keeps the gradient's size independent of T.

    Returns:
        A scalar in nats, 0 exactly when both distributions agree.

    Example:
        >>> kd_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=5.0)
        tensor(0.)
    """
    log_p_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_p_student, log_p_teacher, reduction="batchmean", log_target=True)


def regression_kd_loss(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Mean squared difference of student and teacher scores, for tasks with a single output (STS-B).

    A softmax over one logit is constant, so the Kullback–Leibler term of `kd_loss` would vanish there.

    Args:
        student_scores: shape (batch, 1).
        teacher_scores: same shape.

    Returns:
        A scalar in squared units of the score.
    """
    return F.mse_loss(student_scores, teacher_scores)
