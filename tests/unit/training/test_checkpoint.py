"""Checkpoints: a run that is stopped and started again ends as if nothing had happened; bad ones are not used.

The interruptions here are real signals, in processes of their own. Which steps and calls are hit is drawn from a fixed
seed; `make soak` takes many more, from a new seed that its header names.
"""

import contextlib
import json
import logging
import os
import random
import re
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rkd.errors import RkdError
from rkd.models.loading import load_finetuned
from rkd.training import loop
from rkd.training.checkpoint import Checkpoint, Interrupted
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.interruption import (
    NEVER,
    ROWS,
    at_step,
    at_write,
    end_of_killed_runs,
    in_child,
    make_place,
    outcome,
    saved_step,
    terminate,
    train,
)
from tests.helpers.seeds import SOAK, draws
from tests.helpers.waiting import exit_code, until


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


@pytest.fixture
def stopped(place, tmp_path):
    """A KD run that SIGTERM has stopped after step 7: its folder, whose checkpoint is in `state`."""
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, terminate)
        with pytest.raises(Interrupted):
            train(place, "kd", tmp_path, tmp_path / "state")
    return tmp_path


@pytest.fixture(autouse=True)
def terminal():
    """Signals as in a terminal: what a shell starts in the background ignores Ctrl-C, and nohup SIGHUP."""
    as_there = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in as_there.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# The same end, to the last bit.


@pytest.mark.parametrize("row", ROWS)
def test_every_row_ends_as_if_it_had_not_been_stopped(row, place, whole, tmp_path):
    draw = draws("rows", row)
    (step,) = draw.sample(range(1, place.steps(row)), 1)
    sent, minutes = draw.choice([(signal.SIGTERM, NEVER), (signal.SIGKILL, 0), (signal.SIGKILL, NEVER)])
    assert end_of_killed_runs(place, row, tmp_path, [step], sent, minutes) == whole(row), (step, sent, minutes)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model",
        "predictions.parquet",
        "logits.parquet",
        "history.jsonl",
        "run.json",
    }


@pytest.mark.parametrize(("looks", "sent", "minutes"), [(5, signal.SIGTERM, NEVER), (5, signal.SIGKILL, 0)])
def test_losses_that_are_read_seldom_are_read_before_a_checkpoint(looks, sent, minutes, place, whole, tmp_path):
    """As on a GPU: the sums of the epoch's losses are those of a run that reads after every step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "read_interval", lambda device: looks)
        assert end_of_killed_runs(place, "kd", tmp_path, [7], sent, minutes) == whole("kd")


@pytest.mark.skipif(not SOAK, reason="minutes: make soak")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("row", ROWS)
def test_every_row_at_ten_random_steps(row, sent, place, whole, tmp_path):
    draw = draws("soak", row, sent)
    steps = sorted(draw.sample(range(1, place.steps(row)), 10))
    minutes = draw.choice([0, NEVER]) if sent == signal.SIGKILL else NEVER
    assert end_of_killed_runs(place, row, tmp_path, steps, sent, minutes) == whole(row), (steps, minutes)


def test_a_kill_during_any_write_leaves_a_whole_checkpoint_and_no_half_output(place, whole, tmp_path):
    """Checkpoints and outputs are written by many calls of the system; a run is killed at each of those drawn."""
    with pytest.MonkeyPatch.context() as patch:
        calls = at_write(patch, 0)
        train(place, "reptile", tmp_path / "all", tmp_path / "all/state")
    assert {"save", "fsync", "replace", "unlink", "rmdir"} == set(calls)
    numbers = range(1, len(calls) + 1)
    for number in numbers if SOAK else sorted(draws("writes").sample(numbers, 3)):
        out = tmp_path / str(number)

        def start(patch, number=number, out=out):
            at_write(patch, number)
            train(place, "reptile", out, out / "state")

        told = f"call {number}, {calls[number - 1]}"
        assert in_child(start) == -signal.SIGKILL, told
        if (out / "run.json").exists():
            assert outcome(out) == whole("reptile"), told
        train(place, "reptile", out, out / "state")
        assert outcome(out) == whole("reptile"), told
        assert not (out / "state").exists(), told


def test_all_random_generators_go_on_where_they_were(place, stopped, tmp_path):
    def drawn():
        return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()

    with Checkpoint(tmp_path / "other", NEVER, {}) as first:
        np.random.randn()  # one of a pair: the other is part of the state
        first.save(Model(), first.restore(Model()))
        expected = drawn()
    drawn()
    with Checkpoint(tmp_path / "other", NEVER, {}) as second:
        second.restore(Model())
        assert drawn() == expected


class Model:
    """What a checkpoint needs of a method."""

    def __init__(self, value=0.0):
        self.value = torch.tensor(value)

    def state_dict(self):
        return {"value": self.value}

    def load_state_dict(self, state):
        self.value = state["value"]


def test_the_same_step_is_not_saved_again(tmp_path):
    """A run that goes on from the end of an epoch saves there first: a kill would meet the only copy."""
    with Checkpoint(tmp_path, NEVER, {}) as first:
        progress = first.restore(Model())
        progress.step = 5
        first.save(Model(1.0), progress)
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    with Checkpoint(tmp_path, NEVER, {}) as second:
        progress = second.restore(Model())
        second.save(Model(2.0), progress)
        assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == before
        progress.step = 6
        second.save(Model(2.0), progress)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "lock", "step-6.pt"]


def test_a_process_that_waits_for_the_folder_may_have_its_lock_anew(tmp_path, monkeypatch):
    unlink = os.unlink

    def as_beside_another(path, **more):
        unlink(path, **more)
        if Path(path).name == "lock":
            Path(path).touch()

    with Checkpoint(tmp_path / "state", NEVER, {}) as checkpoint:
        checkpoint.save(Model(), checkpoint.restore(Model()))
        monkeypatch.setattr(os, "unlink", as_beside_another)
        checkpoint.remove()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]


def test_the_history_and_the_seconds_go_on(place, stopped):
    train(place, "kd", stopped, stopped / "state")
    history = [json.loads(line) for line in (stopped / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [0, 10, 20]
    assert [line["seconds"] for line in history] == sorted(line["seconds"] for line in history)
    record = json.loads((stopped / "run.json").read_text())
    assert record["resumed"] == [7]
    assert record["seconds"] >= history[-1]["seconds"] - 0.11  # the sum of two numbers with one decimal


# Same spec, same machine, same threads.


@pytest.mark.parametrize("row", ROWS)
def test_the_same_spec_gives_the_same_predictions_also_beside_other_jobs(row, place, whole, tmp_path):
    """Two processes at a time beside other tests: which one waits for a core must not matter."""
    processes = []
    for name in "ab":
        if (pid := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                train(place, row, tmp_path / name)
                os._exit(0)
            os._exit(1)
        processes.append(pid)
    assert [exit_code(pid) for pid in processes] == [0, 0]
    for name in "ab":
        assert outcome(tmp_path / name) == whole(row)


# Checkpoints that are not used.


def damage(name, edit):
    def apply(state):
        (path,) = state.glob(name)
        edit(path)

    return apply


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damage("step-*.pt", flip_a_bit), r"step-7\.pt is damaged: sha256 is [0-9a-f]{64}; expected [0-9a-f]{64}"),
        (damage("step-*.pt", lambda path: os.truncate(path, 1000)), r"step-7\.pt is damaged: sha256 is"),
        (damage("step-*.pt", lambda path: path.write_bytes(b"")), r"step-7\.pt is damaged: sha256 is"),
        (damage("step-*.pt", lambda path: path.unlink()), r"step-7\.pt cannot be read \(No such file or directory\)"),
        (
            damage("checkpoint.json", lambda path: path.write_text(path.read_text()[:50])),
            r"checkpoint\.json is damaged",
        ),
        (damage("checkpoint.json", lambda path: path.write_text("[]")), r"checkpoint\.json is damaged"),
        (damage("checkpoint.json", lambda path: path.write_bytes(b"\xff\x00")), r"checkpoint\.json is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_not_used(spoil, reason, place, whole, stopped, caplog):
    spoil(stopped / "state")
    train(place, "kd", stopped, stopped / "state")
    (told,) = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert told.startswith(f"{stopped / 'state'}: this checkpoint is not used, training begins anew: ")
    assert re.search(reason, told), told
    assert outcome(stopped) == whole("kd")
    assert json.loads((stopped / "run.json").read_text())["resumed"] == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda place: {"spec": place.spec("kd", learning_rate=2e-3)}, "spec.training.learning_rate"),
        (lambda place: {"spec": replace(place.spec("kd"), seed=2)}, "spec.seed, student"),
        (lambda place: {"code": {"rkd/losses.py": "b", "rkd/tasks.py": "c"}}, "code.rkd/losses.py"),
    ],
)
def test_a_checkpoint_of_another_run_is_named_and_not_used(change, named, place, tmp_path, caplog):
    code = {"code": {"rkd/losses.py": "a", "rkd/tasks.py": "c"}}
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, terminate)
        with pytest.raises(Interrupted):
            train(place, "kd", tmp_path, tmp_path / "state", **code)
    caplog.set_level(logging.INFO, logger="rkd")
    changed = code | change(place)
    train(place, "kd", tmp_path, tmp_path / "state", **changed)
    told = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert [line.partition(": it belongs to another run, that differs in ")[2] for line in told] == [named]
    train(place, "kd", tmp_path / "fresh", **changed)
    assert outcome(tmp_path) == outcome(tmp_path / "fresh")


def test_another_teacher_is_another_run(place, stopped, tmp_path, caplog):
    model = load_finetuned(place.teacher)
    with torch.no_grad():
        model.classifier.bias[0] += 1e-6
    model.save_pretrained(tmp_path / "teacher")
    train(place, "kd", stopped, stopped / "state", teacher=tmp_path / "teacher")
    assert "it belongs to another run, that differs in teacher" in caplog.text


def test_no_pickle_in_a_checkpoint(stopped):
    """It loads without leave to call anything."""
    (path,) = (stopped / "state").glob("step-*.pt")
    assert set(torch.load(path, weights_only=True)) == {"method", "progress", "random"}


# Signals.


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_lets_the_step_end_saves_and_says_how_to_go_on(sent, code, place, tmp_path, caplog):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 13, lambda: signal.raise_signal(sent))
        with pytest.raises(SystemExit) as ended:
            train(place, "kd", tmp_path, tmp_path / "state")
    assert ended.value.code == code
    assert saved_step(tmp_path / "state") == 13
    assert caplog.messages[-1] == (
        f"{sent.name}: stopped; the same command goes on after step 13 ({tmp_path / 'state'})"
    )
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_signal_ends_an_evaluation_at_once(place, whole, tmp_path, caplog, monkeypatch):
    evaluate, seen = loop.evaluate, []

    def interrupted(*arguments):
        seen.append(arguments)
        if len(seen) in (1, 3):  # the first of this process, the second of the next one
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("the evaluation goes on")
        return evaluate(*arguments)

    monkeypatch.setattr(loop, "evaluate", interrupted)
    for told in ("the same command begins anew, no step is saved yet", "the same command goes on after step 10"):
        with pytest.raises(Interrupted):
            train(place, "kd", tmp_path, tmp_path / "state")
        assert told in caplog.messages[-1]
    train(place, "kd", tmp_path, tmp_path / "state")
    assert outcome(tmp_path) == whole("kd")


def test_an_ignored_signal_stays_ignored(place, whole, tmp_path):
    """nohup, and a shell's background jobs, ask for that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.MonkeyPatch.context() as patch:
            at_step(patch, 5, lambda: signal.raise_signal(signal.SIGHUP))
            train(place, "kd", tmp_path, tmp_path / "state")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome(tmp_path) == whole("kd")


def test_without_a_folder_nothing_is_saved_and_signals_are_what_they_were(place, tmp_path, monkeypatch):
    at_step(monkeypatch, 5, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(place, "kd", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_script_ends_with_the_code_of_the_signal(place, tmp_path):
    spec = place.spec("kd", epochs=1000)
    script = [sys.executable, "workflow_scripts/train.py", "--spec", spec.json(), "--data", str(place.data)]
    script += ["--teacher", str(place.teacher), "--device", "cpu", "--out", str(tmp_path)]
    state = tmp_path / "state"
    script += ["--checkpoints", str(state)]
    process = subprocess.Popen(script, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "epoch 2 " in line:
            process.send_signal(signal.SIGTERM)
            break
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 143
    told = (
        f"SIGTERM: stopped; the same command goes on after step {saved_step(tmp_path / 'state')} ({tmp_path / 'state'})"
    )
    assert rest.splitlines()[-1].endswith(told)


# A second process on the same run.


def test_what_a_killed_snakemake_left_behind_hands_over(place, whole, tmp_path, caplog):
    """Its job goes on alone; the next start asks it to stop and goes on from its checkpoint."""
    ready = tmp_path / "ready"

    def left_behind(patch):
        at_step(patch, 12, lambda: (ready.touch(), signal.pause()))
        train(place, "kd", tmp_path / "run", tmp_path / "state")

    if (pid := os.fork()) == 0:
        os._exit(in_child(left_behind))
    until(ready.exists)
    caplog.set_level(logging.INFO, logger="rkd")
    train(place, "kd", tmp_path / "run", tmp_path / "state")
    assert exit_code(pid) == 143
    assert "trains this run already; asking it to stop, to go on from its checkpoint" in caplog.text
    assert "going on from step 12 (epoch 2)" in caplog.text
    assert outcome(tmp_path / "run") == whole("kd")


def test_a_process_on_another_machine_is_named(tmp_path):
    with Checkpoint(tmp_path, NEVER, {}):
        (tmp_path / "lock").write_text("elsewhere 4711\n")
        with pytest.raises(RkdError, match=r"process 4711 on elsewhere trains this run; expected none: wait"):
            Checkpoint(tmp_path, NEVER, {}).__enter__()


# Disks and permissions.


def test_a_full_disk_is_one_clear_error_and_leaves_the_earlier_run(place, whole, tmp_path):
    """Of the sizes up to which files may grow here, small ones stop the checkpoint and larger ones an output."""
    train(place, "reptile", tmp_path / "run")
    earlier = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(len(content) for content in earlier.values())
    for size, checkpoints, at in (
        (4096, tmp_path / "state", tmp_path / "state" / "step-10.pt"),
        (largest // 2, None, tmp_path / "run"),
        (largest - 1, None, tmp_path / "run"),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(RkdError, match=rf"^{at}: cannot be written: File too large; what stood there before"):
                train(place, "reptile", tmp_path / "run", checkpoints)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == earlier
    train(place, "reptile", tmp_path / "run", tmp_path / "state")
    assert outcome(tmp_path / "run") == whole("reptile")


@pytest.fixture
def small_disk(tmp_path):
    """`small_disk(size)`: a folder on a file system of its own, of so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = []

    def mount(size):
        folder = tmp_path / f"disk-{size}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder],
            capture_output=True,
            check=False,
            timeout=TIMEOUT,
        )
        if done.returncode:
            pytest.skip(f"no mount here: {done.stderr.decode().strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True, timeout=TIMEOUT)


@pytest.mark.parametrize(("share", "saved"), [(0.5, False), (1.5, True)])
def test_a_small_disk_that_is_full(share, saved, place, whole, small_disk, stopped, tmp_path):
    """Whether no checkpoint has room, or one but not the next beside it: once there is room the run goes on."""
    disk = small_disk(round(share * (stopped / "state" / "step-7.pt").stat().st_size))
    with pytest.raises(RkdError, match=rf"^{disk}\S*: cannot be written: No space left on device"):
        train(place, "kd", disk / "run", disk / "state", minutes=0)
    assert not (disk / "run" / "run.json").exists()
    assert (saved_step(disk / "state") > 0) == saved
    subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True, timeout=TIMEOUT)
    train(place, "kd", disk / "run", disk / "state")
    assert outcome(disk / "run") == whole("kd")


def test_a_read_only_disk(place, small_disk, tmp_path):
    disk = small_disk(10_000_000)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=TIMEOUT)
    for checkpoints in (None, disk / "state"):
        with pytest.raises(RkdError, match=rf"^{disk}/\S+: cannot be written: Read-only file system"):
            train(place, "finetune", disk / "run", checkpoints)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_permission_lost_on_the_way(place, whole, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 3, lambda: os.seteuid(65534))
        try:
            with pytest.raises(RkdError, match=r"/state/step-\d+\.pt: cannot be written: Permission denied"):
                train(place, "kd", tmp_path / "run", tmp_path / "state", minutes=0)
        finally:
            os.seteuid(0)
    assert saved_step(tmp_path / "state") == 2
    train(place, "kd", tmp_path / "run", tmp_path / "state")
    assert outcome(tmp_path / "run") == whole("kd")
