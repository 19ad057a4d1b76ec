"""Several teachers as one, and labels of a given entropy."""

import math

import pytest
import torch

from rkd.errors import RkdError
from rkd.models.soft_labels import SoftLabels, divisor_for_entropy, mean_entropy
from rkd.models.unpadded import logits
from tests.helpers.models import bert

BATCH = {
    "input_ids": torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
    "token_type_ids": torch.zeros(2, 4, dtype=torch.long),
}


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probabilities_are_the_mean(classes):
    teachers = [bert(layers=2, labels=classes, seed=seed).eval() for seed in (1, 2, 3)]
    found = logits(SoftLabels(teachers), BATCH).softmax(dim=-1)
    expected = sum(logits(teacher, BATCH).softmax(dim=-1) for teacher in teachers) / 3
    torch.testing.assert_close(found, expected.detach())


def test_scores_are_averaged():
    teachers = [bert(layers=1, labels=1, seed=seed).eval() for seed in (1, 2)]
    expected = (logits(teachers[0], BATCH) + logits(teachers[1], BATCH)) / 2
    torch.testing.assert_close(logits(SoftLabels(teachers), BATCH), expected.detach())


def test_teachers_of_other_classes_are_refused():
    with pytest.raises(RkdError, match="differ in id2label"):
        SoftLabels([bert(1, seed=1, labels=2), bert(1, seed=1, labels=3)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_divisor_gives_the_entropy(share):
    z = 3 * torch.randn(50, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = share * math.log(4)
    divisor = divisor_for_entropy(z, 5.0, wanted)
    assert mean_entropy(z / divisor, 5.0) == pytest.approx(wanted, rel=1e-9)


def test_an_entropy_that_no_soft_labels_have_is_refused():
    z = torch.tensor([[1.0, 0.0]])
    with pytest.raises(RkdError, match=r"match_entropy_of: found an entropy of 0\.9 nats; .* can have 0 to 0\.6931"):
        divisor_for_entropy(z, 1.0, 0.9)
