"""Trainings that are stopped on their way: every row of the tables on a tiny task, and what must come out the same."""

import json
import os
import random
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from rkd import models
from rkd.data.prepare import prepare
from rkd.spec import ModelSpec, RunSpec
from rkd.tasks import get
from rkd.variants import METHOD_OPTIONS
from tests.conftest import ROOT

CONTROLS = {
    "no-lookahead": {"pull_to": "student"},
    "pull-to-initial": {"pull_to": "initial"},
    "random-direction": {"pull_direction": "random"},
    "encoder-only": {"pull_scope": "encoder"},
    "inner-steps-2": {"inner_steps": 2},
    "quiz-batch": {"inner_batch": "quiz"},
    "sgd-outer": {"outer_optimizer": "sgd"},
}
ROWS = {**{method: (method, {}) for method in METHOD_OPTIONS}, **{k: ("reptile", v) for k, v in CONTROLS.items()}}
# Which steps are hit is drawn anew for every run of the tests; RKD_TEST_SEED repeats one.
SEED = os.environ.setdefault("RKD_TEST_SEED", str(secrets.randbelow(10**6)))


def draws(*what: object) -> random.Random:
    """A generator for one test, that the seed of this run of the tests decides."""
    return random.Random(repr((SEED, *what)))


@dataclass(frozen=True)
class Place:
    """A tiny prepared task with a teacher and a student."""

    folder: Path
    task: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher"

    def spec(self, row: str, **training: Any) -> RunSpec:
        """Two epochs of a row, of which the best is kept."""
        method, overrides = ROWS[row]
        student = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))["student"]
        settings = {**student, **overrides}
        settings |= {"epochs": 2, "batch_size": 4, "selection": "best", "weight_decay": 0.01, **training}
        keys = ("learning_rate", "epochs", "batch_size", "gradient_accumulation", "weight_decay", "warmup_ratio")
        keys += ("max_grad_norm", "adam_epsilon", "precision", "batch_order", "selection")
        options = {key: settings[key] for key in METHOD_OPTIONS[method]}
        model = ModelSpec(str(self.folder / "student.json"))
        return RunSpec(self.task, row, method, 1, model, {key: settings[key] for key in keys}, options)

    def steps(self, row: str) -> int:
        """Steps of the whole run: some rows set a tenth of the 40 training examples aside."""
        return 2 * (9 if row in ("metadistil", "quiz-batch") else 10)


def make_place(folder: Path, task: str = "mrpc") -> Place:
    """Prepare the data and write the models, which have dropout."""
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 40}
    for role, layers in (("student", 2), ("teacher", 4)):
        config = {"model_type": "bert", "num_hidden_layers": layers, "pad_token_id": 0, **sizes}
        (folder / f"{role}.json").write_text(json.dumps(config), encoding="utf-8")
    place, tokenizer = Place(folder, task), str(folder / "teacher.json")
    reading = {"vocab_size": 120, "max_length": 24, "synthetic_rows": (40, 8, 8)}
    prepare(task, place.data, source="synthetic", tokenizer=tokenizer, **reading)
    size = len(AutoTokenizer.from_pretrained(place.data / "tokenizer", local_files_only=True))
    models.load(ModelSpec(tokenizer), get(task), size, seed=2).save_pretrained(place.teacher)
    return place


def outcome(out: Path) -> dict[str, Any]:
    """What must be the same to the last bit, whatever happened on the way: all but the seconds and the record."""
    history = [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "history": [{key: value for key, value in line.items() if key != "seconds"} for line in history],
        "predictions": (out / "predictions.parquet").read_bytes(),
        "weights": (out / "model" / "model.safetensors").read_bytes(),
    }
