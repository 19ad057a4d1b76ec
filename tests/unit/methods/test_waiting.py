"""A step never waits for its device, shown without a GPU: tensors on the meta device have shapes, but no values.

Whatever would read one, and so wait for a GPU, raises an error there.
"""

import contextlib
import itertools
import sys

import pytest
import torch

from rkd.methods import KD, FineTune
from rkd.methods.build import build
from rkd.training.batches import on_device
from tests.helpers.models import bert, random_batch

META = torch.device("meta")
METHODS = {
    "finetune": {},
    "kd": {},
    "pkd": {"layer_map": "skip"},
    "tinybert": {"layer_map": "skip", "intermediate_fraction": 0.0},  # stage 1 takes the models' own padded forward
    "online": {"teacher_lr": 1e-5},
    "online follows": {"teacher_lr": 1e-5, "follow_weight": 0.4},
    "lgtm": {"teacher_lr": 1e-5},
    "metadistil": {"teacher_lr": 1e-5},
    "reptile": {"layer_map": "skip", "teacher_lr": 1e-5},
    "reptile quiz": {"layer_map": "skip", "teacher_lr": 1e-5, "inner_batch": "quiz"},
    "reptile long": {"layer_map": "skip", "teacher_lr": 1e-5, "inner_steps": 2},
    "reptile sgd": {"layer_map": "skip", "teacher_lr": 1e-5, "outer_optimizer": "sgd"},
}


@pytest.fixture(autouse=True)
def on_any_device(monkeypatch):
    """Let the optimizers and autocast take tensors on the meta device."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda parameter: None)


def on_meta(labels, **extra):
    """A batch on the device as the loop makes it, with the entries that are read on the CPU."""
    batch = random_batch(0, labels=labels)
    return on_device({**batch, "lengths": batch["attention_mask"].sum(1), "row": torch.arange(6), **extra}, META)


@pytest.mark.parametrize(
    ("name", "labels"), [*((name, 2) for name in METHODS), ("reptile", 1), ("reptile", 3), ("kd", 1)]
)
def test_a_step_reads_nothing_from_its_device(name, labels):
    models = [bert(layers, seed=layers, labels=labels, dropout=0.1).to(META) for layers in (2, 4)]
    batch = on_meta(labels)
    options, quiz = METHODS[name], itertools.repeat(batch)
    settings = {"student_lr": 1e-5, "total_steps": 10}
    method = build(name.partition(" ")[0], *models, options=options, quiz=quiz, device=META, **settings)
    method.student.train()
    for _ in range(3):
        losses = method.step(batch)
    assert "loss" in list(losses)
    with pytest.raises(RuntimeError, match="meta"):
        losses["loss"]


@pytest.mark.parametrize("labels", [1, 2])
def test_missing_labels_and_soft_labels_are_told_apart_on_the_device(labels):
    batch = on_meta(labels, soft_labels=torch.zeros(6, labels))
    method = KD(bert(2, seed=1, labels=labels).to(META), None, student_lr=1e-5, total_steps=10, unlabelled=True)
    method.step(batch)


def test_without_lengths_they_are_read_from_the_device():
    batch = on_meta(2)
    del batch["lengths"]
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        FineTune(bert(2, seed=1).to(META), student_lr=1e-5, total_steps=10).step(batch)
