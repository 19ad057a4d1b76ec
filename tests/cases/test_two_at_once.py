"""A second process on the same folder, data that change under a training, and checkpoints that are not used."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import rkd
from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.methods import KD, FineTune
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.training import job, trial
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.distillation import TINY, reviews
from tests.helpers.interruption import (
    Place,
    at_step,
    die,
    in_child,
    make_place,
    outcome,
    saved_step,
    terminate,
    train,
)
from tests.helpers.waiting import exit_code


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return make_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """The outcome of KD that nothing has disturbed."""
    out = tmp_path_factory.mktemp("whole")
    train(place, "kd", out)
    return outcome(out)


@contextlib.contextmanager
def beside(action):
    """A process that does `action`, while it waits in it for the end of the block; yields its number.

    `action` gets a MonkeyPatch and a function that waits.
    """
    ready, go = os.pipe(), os.pipe()

    def wait():
        os.write(ready[1], b"!")
        os.read(go[0], 1)

    if (pid := os.fork()) == 0:
        os.setpgid(0, 0)
        os.close(go[1])
        os._exit(in_child(lambda patch: action(patch, wait)) % 256)
    os.close(go[0])
    os.close(ready[1])
    try:
        assert os.read(ready[0], 1) == b"!", "the process has ended before it waited"
        yield
        os.close(go[1])
        assert exit_code(pid) == 0
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        raise
    finally:
        os.close(ready[0])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# One distillation at a time in a folder.


def distil(out, data=None, **changes):
    return rkd.distill(reviews() if data is None else data, dev=reviews(20, 1), out=out, **{**TINY, **changes})


def exchanged():
    return reviews().assign(mood=lambda frame: frame["mood"].map({"bad": "good", "good": "bad"}))


def steps_of_training(patch, method, hook):
    """Let `hook` happen before each step of a method's training, with the step's number; a trial's are none."""
    step, count = method.step, iter(range(1, 10**6))

    def hooked(self, batch):
        if len(batch["labels"]) > trial.ROWS:
            hook(next(count))
        return step(self, batch)

    patch.setattr(method, "step", hooked)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a distillation that nothing has disturbed."""
    return distil(tmp_path_factory.mktemp("finished") / "out").folder.parent


@pytest.fixture(scope="module")
def undisturbed(finished):
    return outcome(finished / "student")


@pytest.mark.parametrize(
    "second",
    [
        {"data": exchanged(), "options": {"temperature": 1e200}},
        {"data": exchanged()},
        {"epochs": 2},
        {},
    ],
    ids=["that fails", "other data", "other settings", "the same"],
)
def test_a_second_distillation_into_a_folder_in_use_is_one_error_and_changes_nothing(second, undisturbed, tmp_path):
    def first(patch, wait):
        steps_of_training(patch, FineTune, lambda number: number == 3 and wait())
        distil(tmp_path / "out")

    with beside(first):
        before = contents(tmp_path / "out")
        with pytest.raises(
            RkdError,
            match=rf"^{tmp_path}/out: process \d+ on \S+ distils into this folder; expected none: wait for its end, or",
        ):
            distil(tmp_path / "out", **second)
        assert contents(tmp_path / "out") == before
    assert outcome(tmp_path / "out" / "student") == undisturbed
    assert not list((tmp_path / "out" / ".checkpoints").iterdir())


def test_the_command_names_the_process_that_is_at_work(tmp_path):
    data = tmp_path / "data.csv"
    reviews().to_csv(data, index=False)
    command = [
        sys.executable,
        "-m",
        "rkd",
        "distill",
        "--data",
        data,
        "--teacher",
        TINY["teacher"],
        "--finetune-teacher",
    ]
    command += ["--student", TINY["student"], "--text", "text", "--label", "mood", "--out", tmp_path / "out"]

    def first(patch, wait):
        steps_of_training(patch, FineTune, lambda number: number == 1 and wait())
        distil(tmp_path / "out")

    with beside(first):
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {tmp_path}/out: process ")


def test_a_folder_is_free_when_its_process_was_killed_or_has_failed(undisturbed, tmp_path):
    out = tmp_path / "out"

    def killed(patch):
        steps_of_training(patch, KD, lambda number: number == 3 and die())
        distil(out)

    assert in_child(killed) == -signal.SIGKILL
    with pytest.raises(RkdError, match="cannot be trained"):
        distil(out, finetune_teacher={"learning_rate": 6e-4}, options={"temperature": 1e200})
    assert not (out / ".checkpoints" / "lock").exists()
    assert outcome(distil(out).folder) == undisturbed


# A training reads the data that it was planned with.


def other_data(place, folder):
    reading = {"vocab_size": 120, "max_length": 24, "synthetic_rows": (40, 8, 8), "synthetic_seed": 1}
    return prepare(place.task, folder, source="synthetic", tokenizer=str(place.folder / "teacher.json"), **reading)


def test_a_training_and_a_trial_refuse_other_data_than_those_of_the_plan(place, tmp_path):
    planned = json.loads((place.data / "manifest.json").read_text())["sha256"]
    other = other_data(place, tmp_path / "data")["sha256"]
    told = rf"^{tmp_path}/data: found data with the sha256 {other}; expected {planned}, those of the plan"
    with pytest.raises(RkdError, match=told):
        job.run(place.spec("finetune"), tmp_path / "data", tmp_path / "run", device="cpu", data_sha256=planned)
    with pytest.raises(RkdError, match=told):
        trial.trial(place.spec("finetune"), [], tmp_path / "data", device="cpu", data_sha256=planned)
    assert not (tmp_path / "run").exists()


def test_a_training_refuses_data_of_another_task(place, tmp_path):
    with pytest.raises(RkdError, match=rf"^{place.data}: task: found 'mrpc'; expected 'rte'"):
        job.run(replace(place.spec("finetune"), task="rte"), place.data, tmp_path / "run", device="cpu")


def test_a_training_refuses_data_whose_labels_had_another_order(finished, tmp_path):
    spec = RunSpec.from_json(json.dumps(json.loads((finished / "teacher" / "run.json").read_text())["spec"]))
    spec.custom_task["labels"].reverse()
    with pytest.raises(RkdError, match=rf"^{finished}/data: custom_task: found another labels; expected the task"):
        job.run(spec, finished / "data", tmp_path / "run", device="cpu")


def test_a_student_is_not_trained_on_data_that_came_after_its_teacher(tmp_path, monkeypatch):
    """Whatever has written them: the folder's lock is not all that stands between."""
    out, run = tmp_path / "out", job.run
    distil(tmp_path / "other", exchanged())

    def exchanging(spec, data, *arguments, **more):
        if spec.method == "kd":
            shutil.rmtree(data)
            shutil.copytree(tmp_path / "other" / "data", data)
        run(spec, data, *arguments, **more)

    monkeypatch.setattr(job, "run", exchanging)
    with pytest.raises(RkdError, match=rf"^{out}/data: found data with the sha256 \w{{64}}; expected \w{{64}}, those"):
        distil(out)
    assert not (out / "student").exists()


# The trial, whatever checkpoint is there.


@pytest.mark.parametrize("more", [{}, {"finetune_teacher": {"learning_rate": 6e-4}}], ids=["used", "not used"])
def test_students_are_tried_before_a_stopped_teacher_goes_on_or_begins_anew(more, undisturbed, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        steps_of_training(patch, FineTune, lambda number: number == 3 and terminate())
        with pytest.raises(SystemExit, match="143"):
            distil(out)
    checkpoint = contents(out / ".checkpoints" / "teacher")
    with monkeypatch.context() as patch:
        steps_of_training(patch, FineTune, lambda number: pytest.fail("the teacher is trained"))
        with pytest.raises(RkdError, match=r"kd: loss is nan in a first step on two examples; .* check .*temperature"):
            distil(out, options={"temperature": 1e200}, **more)
    assert contents(out / ".checkpoints" / "teacher") == checkpoint
    assert outcome(distil(out).folder) == undisturbed
    assert json.loads((out / "teacher" / "run.json").read_text())["resumed"] == [3]


def test_the_job_of_a_stopped_teacher_tries_its_students_again(place, tmp_path):
    spec = replace(place.spec("finetune"), variant="teacher", model=ModelSpec(str(place.folder / "teacher.json")))
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, terminate)
        with pytest.raises(SystemExit):
            train(place, "finetune", tmp_path / "run", tmp_path / "state", spec=spec)
    student = place.spec("kd")
    student.options["temperature"] = 1e200
    (tmp_path / "students.jsonl").write_text(student.json() + "\n")
    command = [sys.executable, "workflow_scripts/train.py", "--spec", "-", "--data", place.data, "--device", "cpu"]
    command += ["--trials", tmp_path / "students.jsonl", "--out", tmp_path / "run", "--checkpoints", tmp_path / "state"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=ROOT,
        input=spec.json(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: mrpc: 1 of 2 runs cannot be trained: kd: loss is nan")
    assert saved_step(tmp_path / "state") == 7
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_in_a_training_is_told_with_all_that_may_be_wrong(place, tmp_path):
    spec = place.spec("kd")
    spec.options["temperature"] = 1e200
    with pytest.raises(RkdError, match=r"loss is nan at step 1 \(epoch 1\); .*; check the temperature, the learning"):
        train(place, "kd", tmp_path, spec=spec)


def test_what_tensorboard_shows_is_of_one_run(place, tmp_path):
    """The numbers of a checkpoint that is not used go away with it, those of one that is used stay."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra tensorboard"
    )

    def shown():
        events = accumulator.EventAccumulator(str(tmp_path / "board" / "events"))
        files = list((tmp_path / "board" / "events").rglob("events.out.tfevents*"))
        return len(files), events

    settings = {"tensorboard": tmp_path / "board"}

    def stopped(patch):
        at_step(patch, 7, terminate)
        train(place, "kd", tmp_path / "run", tmp_path / "state", **settings)

    def goes_on(patch):
        train(place, "kd", tmp_path / "run", tmp_path / "state", **settings)

    def begins_anew(patch):
        train(place, "kd", tmp_path / "run", tmp_path / "state", spec=replace(place.spec("kd"), seed=2), **settings)

    assert in_child(stopped) == 143
    assert in_child(goes_on) == 0
    used = shown()[0]
    assert in_child(stopped) == 143
    assert shown()[0] < used + 1
    assert in_child(begins_anew) == 0
    assert shown()[0] == 1


# Who takes another process's place.


@pytest.mark.parametrize("what", ["spec.options.temperature", "data", "code.rkd/losses.py"])
def test_a_run_that_goes_on_from_nothing_of_another_one_does_not_stop_it(what, place, whole, tmp_path):
    """The other process is named, and trains to its end."""
    more, data = {}, place.data
    if what == "data":
        other_data(place, data := tmp_path / "data")
    elif what.startswith("code"):
        more = {"code": {"rkd/losses.py": "another"}}
    spec = place.spec("kd")
    if what.startswith("spec"):
        spec.options["temperature"] = 2.5

    def first(patch, wait):
        at_step(patch, 12, wait)
        train(place, "kd", tmp_path / "run", tmp_path / "state", code={"rkd/losses.py": "one"})

    with beside(first):
        before = contents(tmp_path / "state")
        told = rf"^{tmp_path}/state: process \d+ on \S+ is at work on another run here, which differs in .*; expected"
        with pytest.raises(RkdError, match=told) as error:
            job.run(
                spec,
                data,
                tmp_path / "run",
                teachers=[place.teacher],
                device="cpu",
                checkpoints=tmp_path / "state",
                **{"code": {"rkd/losses.py": "one"}, **more},
            )
        assert what in str(error.value)
        assert contents(tmp_path / "state") == before
    assert outcome(tmp_path / "run") == whole
    assert json.loads((tmp_path / "run" / "run.json").read_text())["resumed"] == []
