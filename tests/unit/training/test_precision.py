"""bf16: every method takes nearly the step of float32, keeps float32 weights, and is refused where it is missing."""

import copy
import itertools
import json

import pytest
import torch
import yaml

from rkd.config.load import load
from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.methods.build import build
from rkd.models.unpadded import logits
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.training import precision
from rkd.training.job import run
from rkd.workflow.plan import Plan
from tests.helpers import ROOT
from tests.reference.methods import batches, pair
from tests.reference.reptile import LiteralReptileKD

CPU = torch.device("cpu")
METHODS = {
    "finetune": {},
    "kd": {},
    "reptile": {"layer_map": "skip", "teacher_lr": 3e-4},
    "pkd": {"layer_map": "skip", "beta": 10.0},
    "tinybert": {"layer_map": "skip"},
    "metadistil": {"teacher_lr": 3e-4},
    "online": {"teacher_lr": 3e-4},
}


@pytest.mark.parametrize("labels", [3, 1])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_nearly_as_in_float32(name, labels):
    student, teacher = pair(labels=labels, dtype=torch.float32, hidden=32)
    found = {}
    for kind in ("fp32", "bf16"):
        models = copy.deepcopy(student), copy.deepcopy(teacher)
        [quiz] = batches(1, labels, torch.float32, first=90)
        method = build(
            name, *models, options=METHODS[name], quiz=itertools.repeat(quiz), student_lr=5e-4, total_steps=20
        )
        losses = []
        for batch in batches(12, labels, torch.float32, size=12):
            with precision.autocast(kind, CPU):
                losses.append(method.step(batch)["loss"])
        assert {p.dtype for model in models for p in model.parameters()} == {torch.float32}
        found[kind] = torch.tensor(losses)
    assert not torch.equal(found["fp32"], found["bf16"])
    torch.testing.assert_close(found["bf16"], found["fp32"], rtol=0.05, atol=0.01)


@pytest.mark.parametrize("strategy", ["first", "last", "skip", "both"])
@pytest.mark.parametrize("labels", [2, 1])
def test_reptile_in_bf16_stays_near_the_literal_method_in_float32(strategy, labels):
    settings = {"alpha": 0.5, "temperature": 5.0, "teacher_lr": 3e-4, "weight_decay": 0.01, "max_grad_norm": 1.0}
    settings |= {"student_lr": 5e-4, "total_steps": 20}
    student, teacher = pair(labels=labels, dtype=torch.float32, hidden=32)
    before = copy.deepcopy(teacher)
    literal = LiteralReptileKD(copy.deepcopy(student), copy.deepcopy(teacher), strategy=strategy, **settings)
    method = build("reptile", student, teacher, options={"layer_map": strategy}, **settings)
    for batch in batches(16, labels, torch.float32):
        literal.step(batch)
        with precision.autocast("bf16", CPU):
            method.step(batch)
    for model, other in ((student, literal.student), (teacher, literal.teacher)):
        z, expected = logits(model.eval(), batch), logits(other.eval(), batch)
        torch.testing.assert_close(z, expected, rtol=0, atol=0.05 * float(expected.detach().abs().max()))
    walked = [(p - q).norm() for p, q in zip(teacher.parameters(), before.parameters(), strict=True)]
    apart = [(p - q).norm() for p, q in zip(teacher.parameters(), literal.teacher.parameters(), strict=True)]
    assert torch.stack(apart).norm() < 0.1 * torch.stack(walked).norm()


def test_the_student_learns_from_the_teacher_that_has_moved():
    """Weights that autocast has rounded before the teacher moved would give the soft labels of before."""
    student, teacher = pair(dtype=torch.float32, hidden=32)
    [batch] = batches(1, dtype=torch.float32)
    settings = {"student_lr": 5e-4, "total_steps": 20}
    kd = {}
    for kind, lr in itertools.product(("fp32", "bf16"), (0.0, 0.05)):
        models = copy.deepcopy(student), copy.deepcopy(teacher)
        method = build("reptile", *models, options={"layer_map": "skip", "teacher_lr": lr}, **settings)
        with precision.autocast(kind, CPU):
            kd[kind, lr] = method.step(batch)["kd"]
    assert abs(kd["fp32", 0.05] - kd["fp32", 0.0]) > 0.1 * kd["fp32", 0.0], "the teacher's move shows in the loss"
    assert kd["bf16", 0.05] == pytest.approx(kd["fp32", 0.05], rel=0.04)


def test_a_device_without_bf16_is_refused(monkeypatch):
    precision.check("fp32", CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    with pytest.raises(RkdError, match="precision: found 'bf16', but this CPU has no arithmetic for it"):
        precision.check("bf16", CPU)
    precision.check("fp32", CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "amx_bf16": True})
    precision.check("bf16", CPU)


def trained(folder, name, **overrides):
    training = yaml.safe_load((ROOT / "config.yaml").read_text())["student"]
    keys = ("learning_rate", "gradient_accumulation", "weight_decay", "warmup_ratio", "max_grad_norm", "adam_epsilon")
    training = {key: training[key] for key in keys} | {"epochs": 1, "batch_size": 8, "selection": "last"}
    model = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model |= {"intermediate_size": 32, "max_position_embeddings": 64}
    (folder / "model.json").write_text(json.dumps(model))
    source = str(folder / "model.json")
    if not (folder / "data").exists():
        prepare("cola", folder / "data", source="synthetic", tokenizer=source, max_length=48, synthetic_rows=(30, 8, 8))
    training |= {"precision": "fp32", "group_by_length": False, **overrides}
    run(RunSpec("cola", name, "finetune", 1, ModelSpec(source), training), folder / "data", folder / name, device="cpu")
    history = [json.loads(line) for line in (folder / name / "history.jsonl").read_text().splitlines()]
    return history[-1]["train"]["loss"], json.loads((folder / name / "run.json").read_text())


def test_a_run_in_bf16_and_one_with_batches_by_length(tmp_path, monkeypatch):
    loss, record = trained(tmp_path, "fp32")
    assert record["precision"] == "fp32"
    if precision.has_bf16(CPU):
        rounded, record = trained(tmp_path, "bf16", precision="bf16")
        assert record["precision"] == "bf16"
        assert rounded != loss
        assert rounded == pytest.approx(loss, rel=0.02)
    assert trained(tmp_path, "grouped", group_by_length=True)[0] != loss
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(RkdError, match="precision: found 'bf16'"):
        trained(tmp_path, "refused", precision="bf16")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(("key", "value"), [("precision", "bf16"), ("group_by_length", True)])
def test_a_change_trains_what_reads_it(key, value):
    def specs(**sections):
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        plan = Plan(load({**config, **{name: {**config[name], key: value} for name in sections}}))
        return plan.teacher("cola", 1).json(), plan.student("cola", "kd", 1).json()

    teacher, student = specs()
    assert specs(teacher=1)[0] != teacher
    assert specs(teacher=1)[1] == student
    assert specs(student=1) == (teacher, specs(student=1)[1])
    assert specs(student=1)[1] != student
