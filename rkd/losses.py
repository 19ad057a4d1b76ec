"""The distillation losses: pure functions of logits or hidden states, one equation each.

Published implementations disagree on conventions. Here, Kullback–Leibler terms are averaged over the batch and
multiplied by T², and α is the weight of the soft term. Squared differences of hidden states are averaged over the
hidden size, and every example has the same weight, regardless of its length. The task loss is in `rkd.methods.base`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Compute T² · KL(softmax(z_T / T) ‖ softmax(z_S / T)), averaged over the batch (Hinton et al., 2015).

    Args:
        student_logits: z_S, shape (batch, classes).
        teacher_logits: z_T, same shape; no gradient flows into it if it was computed without autograd.
        temperature: T > 0. The factor T² keeps the gradient's size independent of T.

    Returns:
        A scalar in nats, 0 exactly when both distributions agree.

    Example:
        >>> kd_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=5.0)
        tensor(0.)
    """
    log_p_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_p_teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    # T * T overflows to inf; T**2 would raise OverflowError.
    return temperature * temperature * F.kl_div(log_p_student, log_p_teacher, reduction="batchmean", log_target=True)


def multi_label_kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Compute T² · KL(Bernoulli(σ(z_T / T)) ‖ Bernoulli(σ(z_S / T))), averaged over batch and labels.

    For tasks in which a text has any number of labels: `kd_loss` of each label's yes and no. It is averaged over the
    labels, as the binary cross-entropy of the task loss is, so that α weighs the same as with one label per text.

    Args:
        student_logits: z_S, shape (batch, labels).
        teacher_logits: z_T, same shape; no gradient flows into it if it was computed without autograd.
        temperature: T > 0.

    Returns:
        A scalar in nats, 0 exactly when all probabilities agree.

    Example:
        >>> multi_label_kd_loss(torch.tensor([[2.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=5.0)
        tensor(0.)
    """
    s, t = student_logits / temperature, teacher_logits / temperature
    yes, no = (
        t.sigmoid() * (F.logsigmoid(t) - F.logsigmoid(s)),
        (-t).sigmoid() * (F.logsigmoid(-t) - F.logsigmoid(-s)),
    )
    return temperature * temperature * (yes + no).mean()


def regression_kd_loss(student_scores: Tensor, teacher_scores: Tensor) -> Tensor:
    """Compute the mean squared difference of student and teacher scores, for tasks with a single output (STS-B).

    A softmax over one logit is constant, so `kd_loss` would always be 0.

    Args:
        student_scores: shape (batch, 1).
        teacher_scores: same shape.

    Returns:
        A scalar in squared units of the score.
    """
    return F.mse_loss(student_scores, teacher_scores)


def soft_binary_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute the binary cross-entropy of σ(z_S) with the targets σ(z_T), averaged over batch and labels.

    Args:
        student_logits: z_S, shape (batch, labels).
        teacher_logits: z_T, same shape.

    Returns:
        A scalar in nats.
    """
    return F.binary_cross_entropy_with_logits(student_logits, teacher_logits.sigmoid())


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute −Σ softmax(z_T) · log softmax(z_S), averaged over the batch.

    It equals `kd_loss` at T = 1 plus the entropy of the teacher's distribution.

    Args:
        student_logits: z_S, shape (batch, classes).
        teacher_logits: z_T, same shape.

    Returns:
        A scalar in nats.
    """
    return F.cross_entropy(student_logits, F.softmax(teacher_logits, dim=-1))


def patience_loss(student_states: Tensor, teacher_states: Tensor) -> Tensor:
    """Compute the mean squared difference of ℓ2-normalised [CLS] states (Sun et al., 2019, equation 7).

    The paper sums over the hidden size. Its code and this function take the mean, to which the paper's β refers.

    Args:
        student_states: shape (layers, batch, hidden).
        teacher_states: same shape, the mapped layers in the same order.

    Returns:
        A scalar: the mean over layers, batch and hidden size, from 0 to 4 / hidden.
    """
    return F.mse_loss(F.normalize(student_states, dim=-1), F.normalize(teacher_states, dim=-1))


def hidden_state_loss(student_states: Tensor, teacher_states: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared difference of hidden states over real tokens (Jiao et al., 2020, equation 8).

    Args:
        student_states: shape (batch, length, hidden), projected to the teacher's width if widths differ.
        teacher_states: same shape.
        mask: 1 for real tokens, 0 for padding, shape (batch, length).

    Returns:
        A scalar: the mean over hidden size, then real tokens, then examples.
    """
    weights = mask / mask.sum(dim=1, keepdim=True)
    return (weights * (student_states - teacher_states).square().mean(dim=-1)).sum(dim=1).mean()


def attention_score_loss(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean squared difference of attention scores before the softmax (Jiao et al., 2020, equation 7).

    Args:
        student_scores: shape (batch, heads, length, length), from each query to each key.
        teacher_scores: same shape.
        mask: 1 for real tokens, 0 for padding, shape (batch, length); pairs with a padded query or key are excluded.

    Returns:
        A scalar: the mean over heads, then pairs of real tokens, then examples.
    """
    weights = mask / mask.sum(dim=1, keepdim=True)
    squares = (student_scores - teacher_scores).square().mean(dim=1)
    return torch.einsum("bqk,bq,bk->b", squares, weights, weights).mean()
