"""The lease of a GPU, on devices that are not there: no two jobs hold one slot, and a killed job holds none."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from rkd.errors import RkdError
from rkd.workflow import gpu_slots
from tests.helpers import ROOT, TIMEOUT
from tests.helpers.waiting import exit_code

SHOW = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'unset'))"]


@pytest.fixture(autouse=True)
def _no_gpus_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variables nor GPUs of the machine that runs the tests."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RKD_GPU_LEASES", str(tmp_path / "leases"))
    monkeypatch.chdir(tmp_path)


def nvidia_smi(folder: Path, *lines: str, code: int = 0) -> None:
    """A machine with these GPUs."""
    program = folder / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n")
    program.chmod(0o755)


def command(*options: str, run: list[str] = SHOW) -> list[str]:
    return [sys.executable, "-m", "rkd.workflow.gpu_slots", *options, "--", *run]


def output(*options: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    result = subprocess.run(
        command(*options), env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    assert result.stderr == ""
    return result.stdout.strip()


# Which GPUs there are.


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0", ["0"]),
        ("2,0", ["2", "0"]),
        ("GPU-8932f937,MIG-a1", ["GPU-8932f937", "MIG-a1"]),
        (" 1 , 3", ["1", "3"]),
        ("0,-1,1", ["0"]),
        ("", []),
        ("-1", []),
    ],
)
def test_an_existing_variable_goes_before_the_config(visible: str, expected: list[str]) -> None:
    assert gpu_slots.candidates(["7"], {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_the_config_goes_before_what_nvidia_smi_lists(tmp_path: Path) -> None:
    assert gpu_slots.candidates(None, {}) == []
    assert gpu_slots.candidates(["1"], {}) == ["1"]
    nvidia_smi(tmp_path, "0", "1")
    assert gpu_slots.candidates(None, {}) == ["0", "1"]
    assert gpu_slots.candidates(["1"], {}) == ["1"]
    with pytest.raises(RkdError, match=r"gpus: found 2; expected GPUs of this machine: 0, 1"):
        gpu_slots.candidates(["1", "2"], {})


def test_a_broken_nvidia_smi_lists_none(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "NVIDIA-SMI has failed", code=9)
    assert gpu_slots.candidates(None, {}) == []


# What the command sees.


def test_the_command_sees_one_gpu(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "0", "1")
    assert output() == "0"
    assert output("--gpus", "1") == "1"
    assert output("--gpus", "1", CUDA_VISIBLE_DEVICES="GPU-a,GPU-b") == "GPU-a"


def test_without_gpus_or_on_the_cpu_nothing_is_taken(tmp_path: Path) -> None:
    assert output() == "unset"
    assert output("--device", "cuda") == "unset", "the command itself tells that there is none"
    assert output(CUDA_VISIBLE_DEVICES="") == ""
    nvidia_smi(tmp_path, "0")
    assert output("--device", "cpu") == "unset"
    assert not Path("leases").exists()


def test_numbers_of_nvidia_smi_mean_the_same_to_cuda(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "0")
    order = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_DEVICE_ORDER'))"]
    assert (
        subprocess.run(command(run=order), capture_output=True, check=True, timeout=TIMEOUT).stdout == b"PCI_BUS_ID\n"
    )
    given = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    assert (
        subprocess.run(command(run=order), env=given, capture_output=True, check=True, timeout=TIMEOUT).stdout
        == b"None\n"
    )


def test_the_commands_exit_code_is_that_of_the_lease() -> None:
    def code(*run: str) -> int:
        return subprocess.run(
            command("--gpus", "0", run=list(run)), capture_output=True, check=False, timeout=TIMEOUT
        ).returncode

    assert code(sys.executable, "-c", "raise SystemExit(7)") == 7
    assert code(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") == -signal.SIGKILL
    assert code("no-such-program") == 2


# Slots.


def test_every_gpu_is_taken_once_before_any_is_shared(tmp_path: Path) -> None:
    taken = [gpu_slots.take(["0", "1"], 2, tmp_path, {}) for _ in range(5)]
    assert [one and one[0] for one in taken] == ["0", "1", "0", "1", None]
    os.close(taken[1][1])  # type: ignore[index]
    again = gpu_slots.take(["0", "1"], 2, tmp_path, {})
    assert again is not None
    assert again[0] == "1"
    for one in [again, *taken[:1], *taken[2:4]]:
        os.close(one[1])  # type: ignore[index]


def test_gpu_0_of_two_slurm_jobs_is_not_the_same(tmp_path: Path) -> None:
    first = gpu_slots.take(["0"], 1, tmp_path, {"SLURM_JOB_ID": "17"})
    assert first is not None
    assert gpu_slots.take(["0"], 1, tmp_path, {"SLURM_JOB_ID": "17"}) is None, "steps of one Slurm job share its GPUs"
    second = gpu_slots.take(["0"], 1, tmp_path, {"SLURM_JOB_ID": "18"})
    assert second is not None
    os.close(first[1])
    os.close(second[1])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RkdError, match=r"file/.*\.lock: cannot be opened \(.*\); expected a file to lock a GPU by"):
        gpu_slots.take(["0"], 1, tmp_path / "file", {})


def test_a_name_with_a_slash_stays_in_the_folder(tmp_path: Path) -> None:
    taken = gpu_slots.take(["../../0"], 1, tmp_path / "leases", {})
    assert taken is not None
    os.close(taken[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "leases"]
    assert len(list((tmp_path / "leases").iterdir())) == 1


def hammer(folder: Path, gpus: list[str], jobs_per_gpu: int, times: int) -> None:
    """Take and leave slots; a folder per slot, which one process alone can make, witnesses that nobody else has it."""
    for _ in range(times):
        name, file = gpu_slots.wait(gpus, jobs_per_gpu, folder / "leases", {})
        witness = next(place for slot in range(jobs_per_gpu) if (place := made(folder / f"gpu{name}-{slot}")))
        time.sleep(0.002)
        witness.rmdir()
        os.close(file)


def made(folder: Path) -> Path | None:
    try:
        folder.mkdir()
    except FileExistsError:
        return None
    return folder


@pytest.mark.parametrize(("gpus", "jobs_per_gpu"), [(["0"], 1), (["0", "1"], 1), (["0", "1", "2"], 2)])
def test_no_two_of_many_jobs_ever_hold_one_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], jobs_per_gpu: int
) -> None:
    """With more jobs on a GPU than slots, `next` in `hammer` would find no folder to make, and the job would fail."""
    monkeypatch.setattr(gpu_slots, "_POLL_SECONDS", 0.001)
    context = get_context("fork")
    jobs = [context.Process(target=hammer, args=(tmp_path, gpus, jobs_per_gpu, 20)) for _ in range(12)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * len(jobs)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A job that holds the only slot."""
    run = [sys.executable, "-c", "import time; print('there', flush=True); time.sleep(120)"]
    job = subprocess.Popen(command("--gpus", "0", run=run), stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "there\n"
    yield job
    job.kill()
    job.wait(timeout=TIMEOUT)
    job.stdout.close()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_job_frees_its_slot(holder: subprocess.Popen[str], kill: signal.Signals) -> None:
    assert gpu_slots.take(["0"], 1, Path("leases"), {}) is None
    holder.send_signal(kill)
    holder.wait(timeout=TIMEOUT)
    taken = gpu_slots.take(["0"], 1, Path("leases"), {})
    assert taken is not None
    os.close(taken[1])


def test_a_job_waits_for_its_turn_and_says_so(holder: subprocess.Popen[str]) -> None:
    waiting = subprocess.Popen(
        command("--gpus", "0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "waiting for a free GPU (0, jobs on each: 1)\n"
    assert waiting.poll() is None
    holder.kill()
    told = waiting.communicate(timeout=60)
    assert told == ("0\n", "")


def test_the_module_is_no_code_of_a_training() -> None:
    from rkd.workflow.code_digest import code_inputs

    assert "rkd/workflow/gpu_slots.py" not in code_inputs("workflow_scripts/train.py", "rkd.methods.reptile")


# One folder of the machine.


def test_two_clones_do_not_take_one_gpu(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """`holder` works in another folder, as a job of another clone does."""
    clone = tmp_path / "clone"
    clone.mkdir()
    other = subprocess.Popen(
        command("--gpus", "0"), cwd=clone, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stderr is not None
    assert other.stderr.readline() == "waiting for a free GPU (0, jobs on each: 1)\n"
    holder.kill()
    assert other.communicate(timeout=60) == ("0\n", "")


def test_the_folder_is_the_machines_own_unless_the_user_names_another(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "RKD_GPU_LEASES"}
    told = subprocess.run(
        command("--help"), env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT
    ).stdout
    assert str(gpu_slots.LEASES) == "/tmp/rkd-gpu"
    assert "RKD_GPU_LEASES, or /tmp/rkd-gpu" in " ".join(told.split())
    assert output("--gpus", "0", "--leases", "mine/leases") == "0"
    assert (tmp_path / "mine/leases").is_dir()


def test_all_users_may_lock_and_none_removes_the_files_of_others(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        taken = gpu_slots.take(["0"], 1, tmp_path / "leases", {})
    finally:
        os.umask(before)
    assert taken is not None
    os.close(taken[1])
    [lock] = (tmp_path / "leases").iterdir()
    assert stat.S_IMODE((tmp_path / "leases").stat().st_mode) == 0o1777
    assert stat.S_IMODE(lock.stat().st_mode) == 0o666
    assert os.umask(before) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become other users")
def test_jobs_of_two_users_share_out_one_gpu() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o1777)
        folder = Path(name) / "leases"

        def told_of(user: int) -> str:
            reading, writing = os.pipe()
            if not (child := os.fork()):
                try:
                    os.setuid(user)
                    taken = gpu_slots.take(["0"], 1, folder, {})
                    os.write(writing, repr(taken and taken[0]).encode())
                except RkdError as error:
                    os.write(writing, str(error).encode())
                finally:
                    os._exit(0)
            assert exit_code(child) == 0
            os.close(writing)
            with os.fdopen(reading) as pipe:
                return pipe.read()

        assert [told_of(user) for user in (1001, 1002)] == ["'0'", "'0'"]
        held = gpu_slots.take(["0"], 1, folder, {})
        assert held is not None
        assert [told_of(user) for user in (1001, 1002)] == ["None", "None"]
        os.close(held[1])
        assert folder.stat().st_uid == 1001


def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    taken = gpu_slots.take(["0"], 1, folder, {})
    assert taken is not None
    os.close(taken[1])
    [lock] = folder.iterdir()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for put in (lambda: lock.symlink_to(precious), lambda: os.mkfifo(lock), lock.mkdir):
        lock.rmdir() if lock.is_dir() else lock.unlink()
        put()
        with pytest.raises(RkdError, match=r"slot0\.lock: cannot be opened \(.*\); expected a file to lock a GPU by"):
            gpu_slots.take(["0"], 1, folder, {})
    assert precious.read_text() == "mine"
    lock.rmdir()
    lock.hardlink_to(precious)
    taken = gpu_slots.take(["0"], 1, folder, {})
    assert taken is not None
    os.close(taken[1])
    assert precious.read_text() == "mine"
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(RkdError, match="is not a folder that keeps users from each other's files"):
        gpu_slots.take(["0"], 1, tmp_path / "link", {})


def test_a_lock_file_that_was_removed_locks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its opening and its locking, by who cleans the folder: a job that comes later makes another file."""
    opened = gpu_slots._opened

    def cleaned(path: Path) -> int:
        file = opened(path)
        path.unlink()
        return file

    monkeypatch.setattr(gpu_slots, "_opened", cleaned)
    assert gpu_slots.take(["0"], 1, tmp_path / "leases", {}) is None
    monkeypatch.undo()


def test_with_different_numbers_of_jobs_the_largest_holds(tmp_path: Path) -> None:
    taken = [gpu_slots.take(["0"], jobs, tmp_path, {}) for jobs in (1, 1, 2, 1, 2)]
    assert [one and one[0] for one in taken] == ["0", None, "0", None, None]
    for one in taken:
        if one is not None:
            os.close(one[1])


# Options and answers that are none.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--jobs-per-gpu", "0"), "--jobs-per-gpu: found 0; expected a whole number of at least 1"),
        (("--jobs-per-gpu", "-3"), "--jobs-per-gpu: found -3; expected a whole number of at least 1"),
        (("--jobs-per-gpu", "two"), "--jobs-per-gpu: found two; expected a whole number of at least 1"),
        (("--gpus", ""), "--gpus: found ''; expected `all`, or GPUs with commas between them, such as 0,2"),
        (("--gpus", "0,,2"), "--gpus: found '0,,2'; expected `all`, or GPUs with commas between them, such as 0,2"),
    ],
)
def test_a_bad_option_is_one_error_and_the_command_does_not_run(options: tuple[str, ...], told: str) -> None:
    run = [sys.executable, "-c", "print('ran')"]
    result = subprocess.run(command(*options, run=run), capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"error: {told}\n")


def test_no_slots_are_an_error_and_no_wait() -> None:
    with pytest.raises(RkdError, match="jobs_per_gpu: found 0; expected a number of at least 1"):
        gpu_slots.wait(["0"], 0, Path("leases"), {})


def test_an_nvidia_smi_that_hangs_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_slots, "_LIST_SECONDS", 0.5)
    (tmp_path / "bin/sleep").symlink_to(shutil.which("sleep", path="/usr/bin:/bin") or "")
    program = tmp_path / "bin/nvidia-smi"
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o755)
    for gpus in (None, ["0"]):
        with pytest.raises(RkdError, match=r"nvidia-smi: found no answer within 0.5 s; .* set CUDA_VISIBLE_DEVICES to"):
            gpu_slots.candidates(gpus, {})
    assert gpu_slots.candidates(None, {"CUDA_VISIBLE_DEVICES": "1"}) == ["1"], "the way out that the error names"


@pytest.mark.parametrize("line", ["Unable to determine the device handle for GPU", "0, 1", "[N/A]", "-1", "\u0661"])
def test_an_odd_answer_of_nvidia_smi_is_one_error(tmp_path: Path, line: str) -> None:
    nvidia_smi(tmp_path, "0", line)
    with pytest.raises(
        RkdError, match=r"nvidia-smi: found '.*' in its list of GPUs; expected one number per line; set "
    ):
        gpu_slots.candidates(None, {})


def test_an_nvidia_smi_that_finds_none_or_is_no_program(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "No devices were found")
    assert gpu_slots.candidates(None, {}) == []
    nvidia_smi(tmp_path)
    assert gpu_slots.candidates(None, {}) == []
    (tmp_path / "bin/nvidia-smi").write_bytes(b"\x7fELF broken")
    with pytest.raises(RkdError, match=r"nvidia-smi: cannot be run \(Exec format error\); expected a list of GPUs"):
        gpu_slots.candidates(None, {})
