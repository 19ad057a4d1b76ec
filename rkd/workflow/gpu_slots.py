"""A GPU for one job: `python -m rkd.workflow.gpu_slots [options] -- COMMAND` waits for a free one and becomes COMMAND.

Snakemake counts GPUs but does not say which. Here every GPU has `jobs_per_gpu` slots, and a slot is a file that is
locked with `flock`. As COMMAND takes the place of this process, it holds the lock itself, and the kernel drops it when
COMMAND ends, however it ends: no slot is ever left behind. Trainings do not import this module, so an edit here trains
nothing anew.

The files lie in one folder of the machine, for all of its users and all folders of results. Where jobs ask for
different `jobs_per_gpu`, each takes the first free one of its own slots: as many share a GPU as the largest number
says.

Which GPUs there are is told by, in this order, CUDA_VISIBLE_DEVICES (set by a user or by Slurm), the config's `gpus`,
and nvidia-smi. Where there are none, or the device is cpu, COMMAND runs at once.
"""

import argparse
import contextlib
import errno
import fcntl
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rkd.errors import RkdError
from rkd.utils.script import run_script

# Not below TMPDIR, which differs between users and jobs of one machine. Cleaners of /tmp leave locked files alone.
LEASES = Path("/tmp/rkd-gpu")
LEASES_VARIABLE = "RKD_GPU_LEASES"
VISIBLE = "CUDA_VISIBLE_DEVICES"
_POLL_SECONDS = 0.5
_TOLD_SECONDS = 60
_LIST_SECONDS = 30  # in which nvidia-smi answers, also where it has to load the driver first
_GO_ON = f"set {VISIBLE} to the GPUs to use, or `device: cpu`"


def candidates(gpus: Sequence[str] | None, environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that jobs of this machine or Slurm job may use, as CUDA_VISIBLE_DEVICES names them.

    Args:
        gpus: the config's `gpus`; None: all that nvidia-smi lists.
        environment: `os.environ`.

    Raises:
        RkdError: `gpus` names one that nvidia-smi does not list, or nvidia-smi does not answer with a list.

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
        raise RkdError(f"gpus: found {absent[0]}; expected GPUs of this machine: {', '.join(there)}")
    return list(gpus)


def take(
    gpus: Sequence[str], jobs_per_gpu: int, folder: Path, environment: Mapping[str, str]
) -> tuple[str, int] | None:
    """Take a free slot, first slots of all GPUs before second ones: return the GPU and the locked file, or None.

    It is held until the file is closed, by this process and all that inherit it.

    Args:
        gpus: names of the GPUs, as `candidates` returns them.
        jobs_per_gpu: slots of each, at least 1.
        folder: of the lock files; made if need be, for all users.
        environment: `os.environ`.

    Raises:
        RkdError: a slot is not a file that can be locked.
    """
    if jobs_per_gpu < 1:
        raise RkdError(f"jobs_per_gpu: found {jobs_per_gpu}; expected a number of at least 1")
    # On a shared file system "0" of two nodes, or of two Slurm jobs on one node, are different GPUs.
    place = "-".join(
        [platform.node(), *([f"job{environment['SLURM_JOB_ID']}"] if "SLURM_JOB_ID" in environment else [])]
    )
    for slot in range(jobs_per_gpu):
        for gpu in gpus:
            name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{place}-gpu{gpu}-slot{slot}")
            path = folder / f"{name}.lock"
            if (file := _locked(path)) is not None:
                return gpu, file
    return None


def _locked(path: Path) -> int | None:
    """Open and lock a lock file; None if another process has locked it."""
    try:
        file = _opened(path)
    except OSError as error:
        raise RkdError(
            f"{path}: cannot be opened ({error.strerror}); expected a file to lock a GPU by; name another folder by "
            f"{LEASES_VARIABLE}"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), os.lstat(path)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass  # another process has it, or has removed it since it was opened: the next look opens it anew
    except OSError as error:
        os.close(file)
        raise RkdError(
            f"{path.parent}: its file system has no locks ({error.strerror}); name another folder by {LEASES_VARIABLE}"
        ) from None
    os.close(file)
    return None


def _opened(path: Path) -> int:
    """Open the lock file; create it if it is missing.

    All users may write to its folder: no link is followed, no pipe waited for, and nothing written.
    """
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
    with _open_to_all():
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(0o1777)
        folder = path.parent.lstat()
        trusted = folder.st_uid in (0, os.geteuid()) or folder.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(folder.st_mode) or not trusted:
            raise OSError(errno.EPERM, f"{path.parent} is not a folder that keeps users from each other's files")
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666))
    # Apart, as Linux refuses O_CREAT for a file of another user in such a folder.
    try:
        file = os.open(path, flags)
    except PermissionError:
        file = os.open(path, flags & ~os.O_RDWR)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file")
    return file


@contextlib.contextmanager
def _open_to_all() -> Iterator[None]:
    """Ignore the user's umask within the block: files and folders get exactly the requested mode."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


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
    """Return the indices of this machine's GPUs in PCI order, as nvidia-smi lists them."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        process = subprocess.Popen(
            query,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise RkdError(f"nvidia-smi: cannot be run ({error.strerror}); expected a list of GPUs; {_GO_ON}") from None
    try:
        output, _ = process.communicate(timeout=_LIST_SECONDS)
    except subprocess.TimeoutExpired:
        # Not waited for: a process that hangs in the driver does not end by a signal either.
        os.killpg(process.pid, signal.SIGKILL)
        raise RkdError(
            f"nvidia-smi: found no answer within {_LIST_SECONDS} s; expected a list of GPUs; to go on "
            f"without it, {_GO_ON}"
        ) from None
    if process.returncode or output.strip() == "No devices were found":
        return []
    numbers = [line.strip() for line in output.splitlines() if line.strip()]
    if odd := [line for line in numbers if not re.fullmatch("[0-9]+", line)]:
        raise RkdError(f"nvidia-smi: found {odd[0]!r} in its list of GPUs; expected one number per line; {_GO_ON}")
    return numbers


def _count(text: str) -> int:
    """Parse the value of --jobs-per-gpu."""
    if re.fullmatch("[0-9]{1,4}", text) and int(text) > 0:
        return int(text)
    raise RkdError(f"--jobs-per-gpu: found {text}; expected a whole number of at least 1")


def _names(text: str) -> list[str] | None:
    """Parse the value of --gpus; None means all."""
    names = [name.strip() for name in text.split(",")]
    if text != "all" and not all(names):
        raise RkdError(f"--gpus: found {text!r}; expected `all`, or GPUs with commas between them, such as 0,2")
    return None if text == "all" else names


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rkd.workflow.gpu_slots", description="Run a command on a GPU of its own."
    )
    leases = os.environ.get(LEASES_VARIABLE) or str(LEASES)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="cpu: no GPU is taken")
    parser.add_argument("--gpus", default="all", help="GPUs to take from, such as 0,2; all: those of nvidia-smi")
    parser.add_argument("--jobs-per-gpu", default="1", help="jobs that may share a GPU")
    parser.add_argument(
        "--leases",
        type=Path,
        default=leases,
        help=f"folder of the lock files (default: {LEASES_VARIABLE}, or {LEASES})",
    )
    parser.add_argument("command", nargs="+", help="command to run")
    arguments = parser.parse_args()
    environment = dict(os.environ)
    gpus, jobs = _names(arguments.gpus), _count(arguments.jobs_per_gpu)
    if arguments.device != "cpu" and (found := candidates(gpus, environment)):
        gpu, file = wait(found, jobs, arguments.leases.absolute(), environment)
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
