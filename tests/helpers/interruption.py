"""Trainings that are stopped on their way: every row of the tables on a tiny task, and what must come out the same."""

import json
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoTokenizer

from rkd.config.variants import with_defaults
from rkd.data.prepare import prepare
from rkd.methods import by_name
from rkd.methods.facts import METHODS
from rkd.models import loading
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import get
from rkd.training import job
from tests.helpers import ROOT
from tests.helpers.waiting import exit_code

CONTROLS = {
    "no-lookahead": {"outer_target": "student"},
    "pull-to-initial": {"outer_target": "initial"},
    "random-direction": {"outer_direction": "random"},
    "encoder-only": {"outer_scope": "encoder"},
    "inner-steps-2": {"inner_steps": 2},
    "quiz-batch": {"inner_batch": "quiz"},
    "sgd-outer": {"outer_optimizer": "sgd"},
}
ROWS = {**{method: (method, {}) for method in METHODS}, **{k: ("reptile", v) for k, v in CONTROLS.items()}}

NEVER = 1e9


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
        keys += ("max_grad_norm", "adam_epsilon", "precision", "group_by_length", "selection")
        options = with_defaults(method, {key: settings[key] for key in METHODS[method].options})
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
    loading.load(ModelSpec(tokenizer), get(task), size, seed=2).save_pretrained(place.teacher)
    return place


def outcome(out: Path) -> dict[str, Any]:
    """What must be the same to the last bit, whatever happened on the way: all but the seconds and the record."""
    history = [json.loads(line) for line in (out / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "history": [{key: value for key, value in line.items() if key != "seconds"} for line in history],
        "predictions": (out / "predictions.parquet").read_bytes(),
        "logits": (out / "logits.parquet").read_bytes(),
        "weights": (out / "model" / "model.safetensors").read_bytes(),
    }


def train(
    place: Place, row: str, out: Path, checkpoints: Path | None = None, minutes: float = NEVER, **more: Any
) -> None:
    """Train a row into `out`, from the checkpoint if there is one."""
    spec = more.pop("spec", None) or place.spec(row)
    teacher = more.pop("teacher", None if row == "finetune" else place.teacher)
    settings = {
        "teachers": [teacher] if teacher else [],
        "device": "cpu",
        "threads": 1,
        "checkpoints": checkpoints,
        **more,
    }
    job.run(spec, place.data, out, checkpoint_minutes=minutes, **settings)


def at_step(patch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Let `action` happen in the middle of the given step, counted from 1 at the start of the process's training."""

    def method_of(name: str) -> Any:
        class Disturbed(by_name(name)):  # type: ignore[misc]
            taken = 0

            def step(self, batch: Any) -> Any:
                self.taken += 1
                losses = super().step(batch)
                if self.taken == step:
                    action()
                return losses

        return Disturbed

    patch.setattr("rkd.methods.build.by_name", method_of)


def die() -> None:
    """The end of this process, by the signal that nothing can catch."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    """What `kill` and Slurm send."""
    os.kill(os.getpid(), signal.SIGTERM)


def at_write(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Die at the n-th call, from 1, of those that write a checkpoint or the outputs; returns the calls so far."""
    calls: list[str] = []

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **more: Any) -> Any:
            calls.append(name)
            if len(calls) == number:
                if name == "save":  # half of the file is there
                    original(*arguments, **more)
                    file = arguments[1]
                    file.truncate(file.tell() // 2)
                die()
            return original(*arguments, **more)

        patch.setattr(owner, name, call)

    for owner, name in ((torch, "save"), (os, "fsync"), (os, "replace"), (os, "unlink"), (os, "rmdir")):
        counted(owner, name)
    return calls


def in_child(action: Callable[[pytest.MonkeyPatch], object]) -> int:
    """Run `action` in a process of its own, and return its exit code; negative: the signal that has killed it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            with pytest.MonkeyPatch.context() as patch:
                action(patch)
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return exit_code(pid)


def saved_step(checkpoints: Path) -> int:
    """The step of the checkpoint in a folder, 0 without one."""
    index = checkpoints / "checkpoint.json"
    return (
        int(json.loads(index.read_text())["state"].removeprefix("step-").removesuffix(".pt")) if index.exists() else 0
    )


def end_of_killed_runs(
    place: Place, row: str, out: Path, steps: list[int], sent: int, minutes: float
) -> dict[str, Any]:
    """The outcome of a run that a signal hits at each of the steps in turn, and that then goes on to its end."""
    state = out / "state"
    action, code = (die, -signal.SIGKILL) if sent == signal.SIGKILL else (terminate, 128 + sent)

    def start(patch: pytest.MonkeyPatch, step: int | None = None) -> None:
        if step is not None:
            at_step(patch, step - saved_step(state), action)
        train(place, row, out, state, minutes)

    for step in steps:
        assert in_child(lambda patch, step=step: start(patch, step)) == code, f"{row}: step {step}"
        assert not (out / "run.json").exists()
        assert sent == signal.SIGKILL or saved_step(state) == step
    assert in_child(start) == 0, row
    assert not state.exists()
    return outcome(out)
