"""Several teachers as one, and soft labels of a given entropy: a frozen module that gives logits like a classifier."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from rkd.errors import RkdError
from rkd.models.loading import check_fit
from rkd.models.outputs import gives_sets
from rkd.models.unpadded import logits

# The divisors of logits that are tried for an entropy: beyond them all soft labels are one-hot or uniform.
_SMALLEST, _LARGEST = 2.0**-30, 2.0**30


class SoftLabels(nn.Module):
    """One or more frozen classifiers as one.

    Its logits are

        z = log(mean over teachers of softmax(z_t)) / divisor,

    or with one output the mean of the scores. With several labels per text each label has the logit of the mean of
    σ(z_t), over the divisor. A single teacher with divisor 1 gives its logits up to a constant per row, which no
    softmax sees.

    Args:
        teachers: classifiers with the same labels and vocabulary size.
        divisor: a larger one makes the soft labels smoother.

    Raises:
        RkdError: the teachers do not fit each other.

    Example:
        >>> both = SoftLabels([first, second])
        >>> both(**batch).logits.exp()  # the mean of their probabilities
    """

    def __init__(self, teachers: Sequence[PreTrainedModel], divisor: float = 1.0) -> None:
        super().__init__()
        for other in teachers[1:]:
            check_fit(teachers[0], other)
        self.teachers = nn.ModuleList(teachers)
        self.divisor = divisor
        # What tells whether a student fits; of no model type, so that none's forward pass is taken for this one's.
        one = teachers[0].config
        self.config = PretrainedConfig(id2label=one.id2label, label2id=one.label2id)
        self.config.problem_type = one.problem_type
        self.config.vocab_size = one.vocab_size

    @torch.no_grad()
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            batch["token_type_ids"] = token_type_ids
        z = torch.stack([logits(teacher, batch) for teacher in self.teachers])
        if z.shape[-1] == 1:
            return SimpleNamespace(logits=z.mean(dim=0))
        if gives_sets(self.teachers[0]):
            yes, no = (torch.logsumexp(F.logsigmoid(each), dim=0) for each in (z, -z))
            return SimpleNamespace(logits=(yes - no) / self.divisor)
        log_mean = torch.logsumexp(F.log_softmax(z, dim=-1), dim=0) - math.log(len(z))
        return SimpleNamespace(logits=log_mean / self.divisor)


def mean_entropy(z: Tensor, temperature: float) -> float:
    """Return the mean entropy of softmax(z / T) in nats.

    Args:
        z: logits, shape (rows, classes).
        temperature: T.

    >>> round(mean_entropy(torch.zeros(3, 2), 1.0), 4)
    0.6931
    """
    log_p = F.log_softmax(z.double() / temperature, dim=-1)
    return abs(float((log_p.exp() * log_p).sum(dim=-1).mean()))  # abs: no minus zero


def divisor_for_entropy(z: Tensor, temperature: float, entropy: float) -> float:
    """Return c such that softmax(z / (c·T)) has a given mean entropy, by bisection: the entropy rises with c.

    Args:
        z: logits, shape (rows, classes).
        temperature: T.
        entropy: in nats.

    Raises:
        RkdError: no divisor gives it.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> round(divisor_for_entropy(z, 1.0, mean_entropy(z, 3.0)), 6)
    3.0
    """
    low, high = _SMALLEST, _LARGEST
    reach = [mean_entropy(z, temperature * each) for each in (low, high)]
    if not reach[0] <= entropy <= reach[1]:
        raise RkdError(
            f"match_entropy_of: found an entropy of {entropy:.4g} nats; the soft labels of this teacher can have "
            f"{reach[0]:.4g} to {reach[1]:.4g}"
        )
    for _ in range(100):
        middle = math.sqrt(low * high)
        if mean_entropy(z, temperature * middle) < entropy:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)
