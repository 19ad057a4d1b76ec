"""Losses that stay on their device until they are read, used as a dict of floats."""

import json

import pytest
import torch

from rkd.methods.base import LossAverager


def losses():
    found = LossAverager()
    for weight, value in ((0.25, 1.0), (0.75, 3.0)):
        found.add(weight, loss=torch.tensor(value, requires_grad=True), task=torch.tensor(2 * value))
    return found


def test_the_weighted_sum_is_a_float():
    found = losses()
    assert dict(found) == {"loss": 2.5, "task": 5.0}
    assert all(type(value) is float for value in found.values())
    assert repr(found) == "{'loss': 2.5, 'task': 5.0}"
    assert json.loads(json.dumps(dict(found))) == found


def test_sums_are_as_exact_as_those_of_floats():
    found, expected = LossAverager(), 0.0
    for i in range(1, 50):
        loss = torch.tensor(1 / i)
        found.add(1 / 49, loss=loss)
        expected += 1 / 49 * float(loss)
    assert found["loss"] == expected


def test_terms_may_be_set_and_removed():
    found = losses()
    found["norm"] = 0.5
    found.update(rate=torch.tensor(0.25))
    del found["task"]
    assert found == {"loss": 2.5, "norm": 0.5, "rate": 0.25}
    assert found.pop("norm") == 0.5
    assert "norm" not in found
    with pytest.raises(KeyError, match="norm"):
        found["norm"]


def test_parts_are_joined_in_order_and_are_not_shared():
    found = losses()
    joined = LossAverager({"quiz": torch.tensor(1.0)}, found, {"plain": 4.0})
    assert list(joined) == ["quiz", "loss", "task", "plain"]
    found["loss"] = 7.0
    assert joined["loss"] == 2.5


def test_losses_and_dicts_are_joined_by_the_operator():
    found = losses()
    assert found | {"norm": 0.5} == {"loss": 2.5, "task": 5.0, "norm": 0.5}
    assert list({"norm": 0.5} | found) == ["norm", "loss", "task"]
    found |= {"loss": 1.0}
    assert found == {"loss": 1.0, "task": 5.0}


def test_floats_are_added_too():
    found = LossAverager()
    found.add(0.5, loss=1.0)
    found.add(0.5, loss=torch.tensor(2.0))
    assert found == {"loss": 1.5}
