"""Runs, prepared data and checkpoints that were silently wrong, or whose faults were told too late."""

import fcntl
import json
import logging
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rkd.errors import RkdError
from rkd.methods import FineTune
from rkd.runs.prepared import read_unchanged
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.tasks import get
from rkd.training import job, precision
from rkd.training.batches import load_prepared
from rkd.training.checkpoint import Checkpoint, Interrupted
from rkd.training.trial import trial, trial_apart
from rkd.utils import locks
from rkd.utils.files import write_json
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.interruption import NEVER, Place, at_step, die, make_place, outcome, saved_step, terminate, train
from tests.workflow.conftest import TINY, Workflow


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    return make_place(tmp_path_factory.mktemp("runs"))


# Prepared data are used as they were written, or not at all.


@pytest.fixture
def copied(place, tmp_path):
    """The prepared task in a folder that may be damaged."""
    shutil.copytree(place.data, tmp_path / "data")
    return tmp_path / "data"


def flip(path: Path, at: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def edit_manifest(folder: Path, **changes) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**content, **changes}))


ARROW = "dataset/train/data-00000-of-00001.arrow"


@pytest.mark.parametrize("name", [ARROW, "dataset/train/state.json", "tokenizer/tokenizer.json"])
def test_a_flipped_bit_in_prepared_data_is_named_before_any_training(name, place, copied, tmp_path):
    flip(copied / name)
    with pytest.raises(
        RkdError, match=rf"^{copied / name}: sha256 is \w{{64}}; its manifest records \w{{64}}; expected "
    ):
        job.run(place.spec("finetune"), copied, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_any_bit_of_the_arrow_file_counts(copied):
    size = (copied / ARROW).stat().st_size
    for at in range(0, size, size // 20):
        flip(copied / ARROW, at)
        with pytest.raises(RkdError, match="its manifest records"):
            load_prepared(copied)
        flip(copied / ARROW, at)
    load_prepared(copied)


@pytest.mark.parametrize(
    "changes", [{"max_length": 12}, {"synthetic": False}, {"task": "rte"}, {"custom_task": {"labels": ["a", "b"]}}]
)
def test_a_manifest_whose_flags_were_changed_is_refused(changes, copied):
    edit_manifest(copied, **changes)
    with pytest.raises(
        RkdError, match=r"manifest\.json: what it says has the sha256 \w{64}; it records \w{64}; expected"
    ):
        load_prepared(copied)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "lists no SHA-256 of its files"),
        ('{"task": "mrpc"}', "lists no SHA-256 of its files"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_a_manifest_that_is_none_is_refused(content, told, copied):
    (copied / "manifest.json").write_text(content)
    with pytest.raises(RkdError, match=rf"^{copied}/manifest\.json: {told}"):
        load_prepared(copied)


def test_a_lost_file_of_prepared_data_is_named_and_foreign_ones_do_not_matter(copied):
    (copied / "tokenizer" / "notes.txt").touch()
    read_unchanged(copied)
    (copied / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(RkdError, match=rf"^{copied}/tokenizer/tokenizer_config\.json: missing; expected"):
        read_unchanged(copied)


def test_where_data_come_from_is_no_part_of_what_they_are(copied):
    """The same texts from another folder, with the tokenizer of a copied model, are the same data."""
    content = json.loads((copied / "manifest.json").read_text())
    edit_manifest(
        copied, source="glue_dir", path="/elsewhere", tokenizer={**content["tokenizer"], "reference": "./copy"}
    )
    assert read_unchanged(copied)["sha256"] == content["sha256"]


# A checkpoint goes on only where the same bits come out.

CONTINUED = """
import logging, sys
from pathlib import Path
from tests.helpers.interruption import Place, train

logging.basicConfig(format="%(message)s", level=logging.INFO)
place = Place(Path(sys.argv[1]), "mrpc")
train(place, "kd", Path(sys.argv[2]), Path(sys.argv[2]) / "state")
train(place, "kd", Path(sys.argv[3]))
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="no vector instructions to do without")
def test_a_run_begins_anew_with_other_vector_instructions(place, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, 7, terminate)
        with pytest.raises(Interrupted):
            train(place, "kd", tmp_path / "run", tmp_path / "run" / "state")
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default", "PYTHONPATH": str(ROOT)}
    arguments = [place.folder, tmp_path / "run", tmp_path / "whole"]
    command = [sys.executable, "-c", CONTINUED, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    (told,) = [line for line in done.stderr.splitlines() if "not used" in line]
    named = "arithmetic.capability, arithmetic.environment.ATEN_CPU_CAPABILITY"
    assert f"training begins anew: it belongs to another run, that differs in {named}" in told
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["resumed"] == []
    assert record["arithmetic"]["capability"] == "DEFAULT"
    assert record["arithmetic"]["environment"] == {"ATEN_CPU_CAPABILITY": "default"}


class Model:
    """What a checkpoint needs of a method."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_a_run_that_goes_on_on_another_processor_says_so(tmp_path, caplog):
    for name in ("Ada", "Ada", "Babbage"):
        with Checkpoint(tmp_path, NEVER, {}, processor=name) as state:
            progress = state.restore(Model())
            progress.step += 1
            state.save(Model(), progress)
    assert progress.processors == ["Ada", "Babbage"]
    (told,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert told == "Babbage: this processor may give other last digits than the one that the run began on; before: Ada"


# A clone runs its own code.

SEEN = """
include: "Snakefile"


rule seen:
    output:
        "seen.txt",
    shell:
        "cd /; python -c 'import rkd; print(rkd.__file__)' > {workflow.basedir}/{output}"
"""


def test_a_second_clone_with_the_environment_of_the_first_runs_its_own_code(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = Workflow(tmp_path / "first"), Workflow(tmp_path / "second")
    for module in (first.folder / "rkd").rglob("*.py"):
        module.write_text("raise RuntimeError('the code of the first clone')\n")
    (second.folder / "seen.smk").write_text(SEEN)
    command, settings = second._started("--snakefile", "seen.smk", "seen.txt")
    settings["env"]["PYTHONPATH"] = os.pathsep.join([str(first.folder), str(second.folder)])
    done = subprocess.run(command, **settings, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (second.folder / "seen.txt").read_text().strip() == str(second.folder / "rkd" / "__init__.py")


@pytest.mark.parametrize("script", ["train.py", "prepare_data.py", "make_main_table.py"])
def test_a_script_of_one_clone_refuses_the_library_of_another(script, tmp_path):
    shutil.copytree(ROOT / "workflow_scripts", tmp_path / "workflow_scripts")
    (tmp_path / "rkd").mkdir()
    command = [sys.executable, tmp_path / "workflow_scripts" / script, "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert (done.returncode, done.stdout) == (2, "")
    path = tmp_path / "workflow_scripts" / script
    assert done.stderr == (
        f"error: {path}: found the rkd of {ROOT}; expected that of its own project: set PYTHONPATH={tmp_path}\n"
    )


# Numbers that are none.


def spoiled(step, spoil):
    """Fine-tuning, with a change of the student at the end of the given step of the run."""

    class Spoiled(FineTune):
        taken = 0

        def step(self, batch):
            losses = super().step(batch)
            type(self).taken += 1
            if self.taken == step:
                spoil(self.student)
            return losses

    return Spoiled


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_after_the_last_step_are_no_result(value, place, tmp_path, monkeypatch):
    """The loss of the last step was computed before its update: it is fine."""

    def spoil(student):
        student.classifier.bias.data[0] = value

    method = spoiled(20, spoil)
    monkeypatch.setattr("rkd.methods.build.by_name", lambda _: method)
    told = (
        r"mrpc/finetune/seed-1: student: classifier\.bias is NaN or infinite after step 20 \(epoch 2\); expected finite"
    )
    for _ in range(2):  # the second start goes on from the epoch before, and ends the same
        with pytest.raises(RkdError, match=told):
            train(place, "finetune", tmp_path / "run", tmp_path / "state")
        assert not (tmp_path / "run").exists()
        assert saved_step(tmp_path / "state") == 10
        method.taken = 10


def test_logits_that_overflow_are_no_result(place, tmp_path, monkeypatch):
    """Every weight is a number, and yet no row has logits."""

    def spoil(student):
        student.classifier.bias.data.fill_(3.4e38)
        for row, sign in enumerate((1, -1)):  # one of the two logits overflows, whatever the features' sign
            student.classifier.weight.data[row] = sign * 3e38

    monkeypatch.setattr("rkd.methods.build.by_name", lambda _: spoiled(10, spoil))
    told = r"student: its logits are NaN or infinite for 8 of 8 rows of validation; expected finite numbers"
    with pytest.raises(RkdError, match=told):
        train(place, "finetune", tmp_path, spec=place.spec("finetune", epochs=1))
    assert list(tmp_path.iterdir()) == []


# A step of every student before its teacher is trained.


def teacher_of(place: Place, **training) -> RunSpec:
    return replace(
        place.spec("finetune", **training), variant="teacher", model=ModelSpec(str(place.folder / "teacher.json"))
    )


def with_student(place: Place, spec: RunSpec, **changes) -> RunSpec:
    config = json.loads((place.folder / "student.json").read_text())
    name = "-".join(map(str, changes.values()))
    (place.folder / f"{name}.json").write_text(json.dumps({**config, **changes}))
    return replace(spec, model=ModelSpec(str(place.folder / f"{name}.json")))


def with_training(spec: RunSpec, **settings) -> RunSpec:
    return replace(spec, training={**spec.training, **settings})


def with_options(spec: RunSpec, **options) -> RunSpec:
    return replace(spec, options={**spec.options, **options})


FAULTS = {
    "too few positions": (
        lambda place: with_student(place, place.spec("kd"), max_position_embeddings=20),
        r"max_length: found 24; expected at most 20",
    ),
    "a quiz of too few rows": (
        lambda place: with_options(place.spec("metadistil"), quiz_fraction=0.05),
        r"quiz_fraction: 0\.05 of 40 training rows are 2 rows; expected at least 4 to hold out",
    ),
    "no rows to choose the epoch by": (
        lambda place: with_training(place.spec("kd"), selection="held-out", held_out_fraction=0.01),
        r"held_out_fraction: 0\.01 of 40 training rows are 0 rows; expected at least 1",
    ),
    "a precision that the processor lacks": (
        lambda place: place.spec("reptile", precision="bf16"),
        r"precision: found 'bf16', but this CPU has no arithmetic for it; expected 'fp32'",
    ),
    "a temperature whose square is infinite": (
        lambda place: with_options(place.spec("kd"), temperature=1e200),
        r"loss is nan in a first step on two examples; expected a finite number; check the temperature",
    ),
    "layers that do not fit": (
        lambda place: with_options(place.spec("reptile"), layer_map=[[0]]),
        r"layer_map: the list has 1 entries",
    ),
    "a width that does not fit": (
        lambda place: with_student(place, place.spec("reptile"), hidden_size=12),
        r"layer_map: ",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_student_that_cannot_be_trained_is_told_before_its_teacher_is(fault, place, monkeypatch):
    monkeypatch.setattr(precision, "has_bf16", lambda _: False)
    made, told = FAULTS[fault]
    spec = replace(made(place), variant="mine")
    with pytest.raises(RkdError, match=rf"^mrpc: 1 of 3 runs cannot be trained: mine: {told}") as error:
        trial(teacher_of(place), [place.spec("kd"), spec], place.data, device="cpu", threads=1)
    assert "\n" not in str(error.value)


def test_all_students_that_cannot_be_trained_are_told_at_once(place):
    hot = [replace(with_options(place.spec("kd"), temperature=1e200), variant=name) for name in ("hot", "hotter")]
    few = replace(with_options(place.spec("metadistil"), quiz_fraction=0.05), variant="few")
    with pytest.raises(
        RkdError, match=r"^mrpc: 3 of 4 runs cannot be trained: hot, hotter: loss is .*; few: quiz_fraction:"
    ):
        trial(teacher_of(place), [*hot, few], place.data, device="cpu", threads=1)


def test_every_method_and_a_large_loss_pass_the_trial(place, caplog):
    caplog.set_level(logging.INFO, logger="rkd")
    rows = ("finetune", "kd", "reptile", "pkd", "tinybert", "metadistil", "online", "quiz-batch")
    large = replace(with_options(place.spec("kd"), temperature=1e4), variant="hot")
    halves = replace(place.spec("reptile", gradient_accumulation=2), variant="halves")
    trial(teacher_of(place), [*map(place.spec, rows), large, halves], place.data, device="cpu", threads=1)
    assert re.fullmatch(r"mrpc: tried a first step of 11 runs \(\d+\.\d s\)", caplog.messages[-1])


def written(students: list[RunSpec], folder: Path) -> Path:
    """The file of students that the workflow writes for the job of their teacher."""
    (folder / "students.jsonl").write_text("".join(f"{spec.json()}\n" for spec in students))
    return folder / "students.jsonl"


def test_a_trial_apart_ends_with_one_line_where_a_student_cannot_be_trained(place, tmp_path, capfd):
    students = written([with_options(place.spec("kd"), temperature=1e200)], tmp_path)
    with pytest.raises(SystemExit) as ended:
        trial_apart(teacher_of(place), students, place.data, device="cpu", threads=1)
    assert ended.value.code == 2
    told = capfd.readouterr().err
    assert told.startswith(
        "error: mrpc: 1 of 2 runs cannot be trained: kd: loss is nan in a first step on two examples"
    )
    assert told.count("\n") == 1


def test_a_trial_that_the_system_ends_is_one_error(place, tmp_path, monkeypatch):
    monkeypatch.setattr("rkd.training.trial.build_run", lambda *_, **__: die())
    students = written([], tmp_path)
    with pytest.raises(
        RkdError, match=r"^mrpc: the first steps .* were ended by SIGKILL, as the system does when there is"
    ):
        trial_apart(teacher_of(place), students, place.data, device="cpu", threads=1)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"task": "mrpc"}'])
def test_a_file_of_students_that_is_none_is_one_error(content, place, tmp_path):
    (tmp_path / "students.jsonl").write_text(f"{content}\n")
    with pytest.raises(
        RkdError, match=rf"^{tmp_path}/students\.jsonl: found no list of runs .*; expected one spec per line"
    ):
        trial_apart(teacher_of(place), tmp_path / "students.jsonl", place.data, device="cpu", threads=1)


def test_the_job_of_a_teacher_tries_its_students_first_and_trains_the_same_bits(place, tmp_path):
    students = written([place.spec("kd"), place.spec("reptile")], tmp_path)
    command = [sys.executable, "workflow_scripts/train.py", "--spec", "-", "--trials", str(students)]
    command += ["--data", str(place.data), "--out", str(tmp_path / "run"), "--device", "cpu", "--threads", "1"]
    spec = teacher_of(place)
    done = subprocess.run(
        command, cwd=ROOT, input=spec.json(), capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert "mrpc: tried a first step of 3 runs" in done.stderr.splitlines()[0], done.stderr
    train(place, "finetune", tmp_path / "alone", spec=spec)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")


# Outputs.


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o007])
def test_all_files_of_a_run_have_the_mode_that_the_umask_says(umask, place, tmp_path):
    before = os.umask(umask)
    try:
        train(place, "finetune", tmp_path / "run", spec=place.spec("finetune", epochs=1))
        write_json(tmp_path / "run" / "more" / "x.json", {})
    finally:
        os.umask(before)
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_task_of_2500_labels_is_prepared_trained_and_scored(tmp_path):
    """The spec is longer than an argument of a command may be."""
    labels = [f"the label of the number {index:04} in a long list of them" for index in range(2500)]
    workflow = Workflow(tmp_path)
    rows = "".join(f"a word{index % 7} and word{index % 5},{labels[index]}\n" for index in range(20))
    for name in ("train.csv", "dev.csv"):
        (tmp_path / name).write_text(f"text,kind\n{rows}")
    task = {"text": ["text"], "label": "kind", "labels": labels, "train": "train.csv", "dev": "dev.csv"}
    workflow.overlay({**TINY, "tasks": ["many"], "custom_tasks": {"many": task}, "ablations": {"teacher-lr": None}})
    workflow.snakemake("teachers", "many_all", "--omit-from", "train_student")
    record = json.loads((workflow.run("teacher", task="many") / "run.json").read_text())
    assert len(RunSpec(**{**record["spec"], "model": None}).json()) > 1 << 17
    assert json.loads(workflow.metrics("teacher", task="many").read_text())["custom_task"]["labels"] == labels


def test_every_rule_hands_its_spec_or_config_over_on_standard_input():
    text = "\n".join(file.read_text() for file in (ROOT / "rules").glob("*.smk"))
    for what in ("spec", "config"):
        used = text.count(f"{{params.{what}:q}}")
        assert used == text.count(f"<<< {{params.{what}:q}}") == text.count(f"--{what} -") > 0


# Checkpoints and their lock.


def test_foreign_files_in_a_checkpoints_folder_stay_and_harm_nothing(place, tmp_path):
    state = tmp_path / "state"
    (state / "step-999.pt").mkdir(parents=True)
    (state / "notes-step-1").mkdir()
    (state / "notes-step-1" / "x").touch()
    (state / "old-step-2.txt").touch()
    train(place, "kd", tmp_path / "run", state, minutes=0)
    assert (tmp_path / "run" / "run.json").exists()
    assert sorted(path.name for path in state.iterdir()) == ["notes-step-1", "old-step-2.txt", "step-999.pt"]
    assert (state / "notes-step-1" / "x").exists()


@pytest.fixture
def held(tmp_path):
    """A lock file that another open file holds."""
    with (tmp_path / "lock").open("w+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"host\n", b"host pid\n", b"a b c\n", b"HERE 0\n", b"HERE -1\n"]
)
def test_a_held_lock_with_odd_content_is_one_error(content, held, tmp_path, monkeypatch):
    """No signal is sent: 0 and -1 would be this process's whole group, or all processes."""
    monkeypatch.setattr(locks, "_NAMELESS_SECONDS", 0.1)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal"))
    held.write(content.replace(b"HERE", os.uname().nodename.encode()))
    held.flush()
    with pytest.raises(
        RkdError, match=rf"^{tmp_path}/lock: another process trains this run, but the file does not say which"
    ):
        Checkpoint(tmp_path, NEVER, {}).__enter__()


def test_no_process_is_stopped_that_has_not_the_lock_open(held, tmp_path):
    """A number may have gone to another program since."""
    other = subprocess.Popen(["sleep", "60"])
    try:
        held.write(f"{os.uname().nodename} {other.pid}\n".encode())
        held.flush()
        with pytest.raises(RkdError, match=rf"^{tmp_path}: process {other.pid} on \S+ trains this run; expected none"):
            Checkpoint(tmp_path, NEVER, {}).__enter__()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(timeout=TIMEOUT)


def test_a_process_of_another_user_is_named(held, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(locks, "_has_open", lambda *_: True)
    held.write(f"{{}}\n{os.uname().nodename} 4711\n".encode())
    held.flush()
    with pytest.raises(RkdError, match=r"process 4711 on \S+ trains this run; .* \(it belongs to another user\)$"):
        Checkpoint(tmp_path, NEVER, {}).__enter__()


def test_a_full_disk_at_the_lock_is_one_error(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(
            RkdError, match=rf"^{tmp_path}/lock: cannot be written: File too large; expected a folder for"
        ):
            Checkpoint(tmp_path, NEVER, {}).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with Checkpoint(tmp_path, NEVER, {}):
        pass


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_a_lock_that_is_no_file_is_one_error(kind, tmp_path):
    lock = tmp_path / "lock"
    if kind == "folder":
        lock.mkdir()
    elif kind == "link":
        lock.symlink_to(tmp_path / "nowhere" / "lock")
    else:
        os.mkfifo(lock)
    with pytest.raises(RkdError, match=rf"^{lock}: "):
        Checkpoint(tmp_path, NEVER, {}).__enter__()
    assert not (tmp_path / "nowhere").exists()


def test_a_clock_that_is_set_back_shortens_nothing(place, tmp_path, monkeypatch):
    """Each look at the clock is a day before the last one."""
    days = iter(range(100_000))
    monkeypatch.setattr(time, "time", lambda: 1.8e9 - 86_400 * next(days))
    train(place, "finetune", tmp_path, spec=place.spec("finetune", epochs=1))
    record = json.loads((tmp_path / "run.json").read_text())
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert 0 < record["seconds"] < 60
    assert all(0 <= line["seconds"] < 60 for line in history)


def test_the_task_of_the_place_is_what_the_cases_assume(place):
    assert len(load_prepared(place.data)[2]["train"]) == 40
    assert get(place.task).dev_splits == ("validation",)
