"""A GPU for one job: `python -m rkd.gpu [options] -- COMMAND` waits for a free one and becomes COMMAND.

Snakemake counts GPUs but does not say which. Here every GPU has `jobs_per_gpu` slots, and a slot is a file that is
locked with `flock`. As COMMAND takes the place of this process, it holds the lock itself, and the kernel drops it when
COMMAND ends, however it ends: no slot is ever left behind. Trainings do not import this module, so an edit here trains
nothing anew.

Which GPUs there are is told by, in this order, CUDA_VISIBLE_DEVICES (set by a user or by Slurm), the config's `gpus`,
and nvidia-smi. Where there are none, or the device is cpu, COMMAND runs at once.
"""

import argparse
import contextlib
import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rkd.errors import RkdError
from rkd.runtime import run_script

LEASES = Path("results/.gpu")
VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL_SECONDS = 0.5
_TOLD_SECONDS = 60


def candidates(gpus: Sequence[str] | None, environment: Mapping[str, str]) -> list[str]:
    """The GPUs that jobs of this machine, or of this Slurm job, may take, as CUDA_VISIBLE_DEVICES names them.

    Args:
        gpus: the config's `gpus`; None: all that nvidia-smi lists.
        environment: `os.environ`.

    Raises:
        RkdError: `gpus` names one that nvidia-smi does not list.

    >>> candidates(["0", "1"], {"CUDA_VISIBLE_DEVICES": "3"})
    ['3']
    """
    visible = environment.get(VISIBLE)
    if visible is not None:
        # As CUDA reads it: the first number that is no GPU hides the rest.
        tokens = [token.strip() for token in visible.split(",")]
        hidden = next((place for place, token in enumerate(tokens) if token in ("", "-1")), len(tokens))
        return tokens[:hidden]
    there = _listed()
    if gpus is None:
        return there
    if there and (absent := [gpu for gpu in gpus if gpu not in there]):
        raise RkdError(f"gpus: found {absent[0]}, expected GPUs of this machine: {', '.join(there)}")
    return list(gpus)


def take(
    gpus: Sequence[str], jobs_per_gpu: int, folder: Path, environment: Mapping[str, str]
) -> tuple[str, int] | None:
    """A free slot, the first of every GPU before any second one: its GPU and the open, locked file; None: all taken.

    It is held until the file is closed, by this process and all that inherit it.
    """
    # On a shared file system "0" of two nodes, or of two Slurm jobs on one node, are different GPUs.
    place = "-".join(
        [platform.node(), *([f"job{environment['SLURM_JOB_ID']}"] if "SLURM_JOB_ID" in environment else [])]
    )
    for slot in range(jobs_per_gpu):
        for gpu in gpus:
            name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{place}-gpu{gpu}-slot{slot}")
            path = folder / f"{name}.lock"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise RkdError(f"{path}: cannot be written: {error.strerror}; a GPU is locked by it") from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
            except OSError as error:
                os.close(file)
                raise RkdError(f"{folder}: its file system has no locks ({error.strerror}); set {VISIBLE}") from None
            else:
                with contextlib.suppress(OSError):  # for people: the lock is what counts, on a full disk too
                    os.truncate(file, 0)
                    os.write(file, f"{os.getpid()}\n".encode())
                return gpu, file
    return None


def wait(gpus: Sequence[str], jobs_per_gpu: int, folder: Path, environment: Mapping[str, str]) -> tuple[str, int]:
    """`take`, as soon as a slot is free; says once a minute that it waits."""
    waited = 0.0
    while (found := take(gpus, jobs_per_gpu, folder, environment)) is None:
        if waited % _TOLD_SECONDS == 0:
            print(
                f"waiting for a free GPU ({', '.join(gpus)}, jobs on each: {jobs_per_gpu})", file=sys.stderr, flush=True
            )
        time.sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS
    return found


def _listed() -> list[str]:
    """The numbers of this machine's GPUs in the order of their slots (PCI), as nvidia-smi lists them."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    result = subprocess.run(query, capture_output=True, text=True, check=False)
    return result.stdout.split() if result.returncode == 0 else []


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m rkd.gpu", description="Run a command on a GPU of its own.")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="cpu: no GPU is taken")
    parser.add_argument("--gpus", default="all", help="GPUs to take from, such as 0,2; all: those of nvidia-smi")
    parser.add_argument("--jobs-per-gpu", type=int, default=1, help="jobs that may share a GPU")
    parser.add_argument("--leases", type=Path, default=LEASES, help=f"folder of the lock files (default: {LEASES})")
    parser.add_argument("command", nargs="+", help="command to run")
    arguments = parser.parse_args()
    environment = dict(os.environ)
    gpus = None if arguments.gpus == "all" else arguments.gpus.split(",")
    if arguments.device != "cpu" and (found := candidates(gpus, environment)):
        gpu, file = wait(found, arguments.jobs_per_gpu, arguments.leases, environment)
        os.set_inheritable(file, True)
        if VISIBLE not in environment:  # nvidia-smi counts in this order, CUDA on its own would begin with the fastest
            environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        environment[VISIBLE] = gpu
    try:
        os.execvpe(arguments.command[0], arguments.command, environment)
    except OSError as error:
        raise RkdError(f"{arguments.command[0]}: cannot be run: {error.strerror}") from None


if __name__ == "__main__":
    run_script(main)
