"""The lease of a GPU, on devices that are not there: no two jobs hold one slot, and a killed job holds none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from rkd import gpu
from rkd.errors import RkdError
from tests.conftest import ROOT

SHOW = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'unset'))"]


@pytest.fixture(autouse=True)
def _no_gpus_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither variables nor GPUs of the machine that runs the tests."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


def nvidia_smi(folder: Path, *lines: str, code: int = 0) -> None:
    """A machine with these GPUs."""
    program = folder / "bin" / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n")
    program.chmod(0o755)


def command(*options: str, run: list[str] = SHOW) -> list[str]:
    return [sys.executable, "-m", "rkd.gpu", *options, "--", *run]


def output(*options: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    result = subprocess.run(command(*options), env=environment, capture_output=True, text=True, check=True)
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
    assert gpu.candidates(["7"], {"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_the_config_goes_before_what_nvidia_smi_lists(tmp_path: Path) -> None:
    assert gpu.candidates(None, {}) == []
    assert gpu.candidates(["1"], {}) == ["1"]
    nvidia_smi(tmp_path, "0", "1")
    assert gpu.candidates(None, {}) == ["0", "1"]
    assert gpu.candidates(["1"], {}) == ["1"]
    with pytest.raises(RkdError, match=r"gpus: found 2, expected GPUs of this machine: 0, 1"):
        gpu.candidates(["1", "2"], {})


def test_a_broken_nvidia_smi_lists_none(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "NVIDIA-SMI has failed", code=9)
    assert gpu.candidates(None, {}) == []


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
    assert not Path("results").exists()


def test_numbers_of_nvidia_smi_mean_the_same_to_cuda(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "0")
    order = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_DEVICE_ORDER'))"]
    assert subprocess.run(command(run=order), capture_output=True, check=True).stdout == b"PCI_BUS_ID\n"
    given = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    assert subprocess.run(command(run=order), env=given, capture_output=True, check=True).stdout == b"None\n"


def test_the_commands_exit_code_is_that_of_the_lease() -> None:
    def code(*run: str) -> int:
        return subprocess.run(command("--gpus", "0", run=list(run)), capture_output=True, check=False).returncode

    assert code(sys.executable, "-c", "raise SystemExit(7)") == 7
    assert code(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)") == -signal.SIGKILL
    assert code("no-such-program") == 2


# Slots.


def test_every_gpu_is_taken_once_before_any_is_shared(tmp_path: Path) -> None:
    taken = [gpu.take(["0", "1"], 2, tmp_path, {}) for _ in range(5)]
    assert [one and one[0] for one in taken] == ["0", "1", "0", "1", None]
    os.close(taken[1][1])  # type: ignore[index]
    again = gpu.take(["0", "1"], 2, tmp_path, {})
    assert again is not None
    assert again[0] == "1"
    for one in [again, *taken[:1], *taken[2:4]]:
        os.close(one[1])  # type: ignore[index]


def test_gpu_0_of_two_slurm_jobs_is_not_the_same(tmp_path: Path) -> None:
    first = gpu.take(["0"], 1, tmp_path, {"SLURM_JOB_ID": "17"})
    assert first is not None
    assert gpu.take(["0"], 1, tmp_path, {"SLURM_JOB_ID": "17"}) is None, "steps of one Slurm job share its GPUs"
    second = gpu.take(["0"], 1, tmp_path, {"SLURM_JOB_ID": "18"})
    assert second is not None
    os.close(first[1])
    os.close(second[1])


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RkdError, match=r"file/.*\.lock: cannot be written: .*; a GPU is locked by it"):
        gpu.take(["0"], 1, tmp_path / "file", {})


def test_a_name_with_a_slash_stays_in_the_folder(tmp_path: Path) -> None:
    taken = gpu.take(["../../0"], 1, tmp_path / "leases", {})
    assert taken is not None
    os.close(taken[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "leases"]
    assert len(list((tmp_path / "leases").iterdir())) == 1


def hammer(folder: Path, gpus: list[str], jobs_per_gpu: int, times: int) -> None:
    """Take and leave slots; a folder per slot, which one process alone can make, witnesses that nobody else has it."""
    for _ in range(times):
        name, file = gpu.wait(gpus, jobs_per_gpu, folder / "leases", {})
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
    monkeypatch.setattr(gpu, "_POLL_SECONDS", 0.001)
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
    job.wait()
    job.stdout.close()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_job_frees_its_slot(holder: subprocess.Popen[str], kill: signal.Signals) -> None:
    assert gpu.take(["0"], 1, gpu.LEASES, {}) is None
    holder.send_signal(kill)
    holder.wait()
    taken = gpu.take(["0"], 1, gpu.LEASES, {})
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
    from rkd.code_inputs import code_inputs

    assert "rkd/gpu.py" not in code_inputs("workflow_scripts/train.py", "rkd.methods.reptile")
