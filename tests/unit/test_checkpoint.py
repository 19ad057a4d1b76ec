"""Checkpoints: a run that is stopped and started again ends as if nothing had happened; bad ones are not used."""

import json
import random
import signal

import numpy as np
import pytest
import torch

from rkd import training
from rkd.checkpoint import Interrupted
from rkd.methods import by_name
from tests.interruption import ROWS, draws, make_place, outcome

NEVER = 1e9


class Killed(BaseException):
    """The process is gone: nobody catches this."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def whole(place):
    """`whole(row)`: the outcome of a run without interruption, made once."""
    made = {}

    def run_of(row):
        if row not in made:
            train(place, row, place.folder / "whole" / row)
            made[row] = outcome(place.folder / "whole" / row)
        return made[row]

    return run_of


def train(place, row, out, checkpoints=None, minutes=NEVER, spec=None, code=None):
    teacher = None if row == "finetune" else place.teacher
    spec = spec or place.spec(row)
    settings = {"teacher": teacher, "device": "cpu", "threads": 1, "code": code}
    training.run(spec, place.data, out, **settings, checkpoints=checkpoints, checkpoint_minutes=minutes)


def disturbed(monkeypatch, step, action):
    """Let `action` happen in the middle of the given step of this process, counted from 1 at every start."""

    def method_of(name):
        class Disturbed(by_name(name)):
            taken = 0

            def step(self, batch):
                self.taken += 1
                losses = super().step(batch)
                if self.taken == step:
                    action()
                return losses

        return Disturbed

    monkeypatch.setattr(training, "by_name", method_of)


def kill():
    raise Killed


def terminate():
    signal.raise_signal(signal.SIGTERM)


def stop(monkeypatch, place, row, out, step, action=terminate, minutes=NEVER, **more):
    """Start a run that is stopped at a step, and return what it was stopped by."""
    with monkeypatch.context() as patch:
        disturbed(patch, step, action)
        with pytest.raises((Killed, Interrupted)) as stopped:
            train(place, row, out, out / "state", minutes, **more)
    return stopped.value


# The same end, to the last bit.


@pytest.mark.parametrize("row", ROWS)
def test_every_row_ends_as_if_it_had_not_been_stopped(row, place, whole, monkeypatch, tmp_path):
    draw = draws("rows", row)
    first, second = sorted(draw.sample(range(1, place.steps(row)), 2))
    # A signal: the state after this very step is saved. Then a kill: steps of which nothing is saved are taken again.
    stop(monkeypatch, place, row, tmp_path, first, terminate)
    stop(monkeypatch, place, row, tmp_path, second - first, kill, minutes=draw.choice([0, NEVER]))
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    train(place, row, tmp_path, tmp_path / "state")
    assert outcome(tmp_path) == whole(row)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "predictions.parquet", "history.jsonl", "run.json"}
    resumed = json.loads((tmp_path / "run.json").read_text())["resumed"]
    assert resumed[0] == first
    assert first <= resumed[-1] <= second
