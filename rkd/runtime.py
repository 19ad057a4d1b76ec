"""What every script needs around its work: seeds, threads, atomic writes, provenance and one-line errors.

Torch is imported inside the functions that need it, so that torch-free scripts start quickly.
"""

import ctypes
import gc
import hashlib
import json
import math
import os
import platform
import random
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn, TextIO, cast

from rkd.errors import RkdError

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy", "pandas", "snakemake")

# Variables by which users restrict the instructions of numerical libraries, or allow less exact ones.
_ARITHMETIC_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


@contextmanager
def quick_imports() -> Iterator[None]:
    """A block that imports large libraries, in about half the processor time that they would take outside.

    The million objects that they make stay to the end of the process, so no garbage is looked for among them: not
    meanwhile, not in later collections, not at the end.

    >>> with quick_imports():
    ...     from rkd.training import run
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the final name only if the block succeeds.

    Works for files and folders. A reader therefore sees the old content, the new content or nothing, never half
    of it; whatever stood at `path` is replaced. What has the name is on disk: no power failure empties it. Its mode is
    what the umask says, whatever wrote it.

    Raises:
        RkdError: nothing can be written there, for example as the disk is full; the old content is still there.

    >>> with atomic_path("table.csv") as temporary:
    ...     temporary.write_text("a,b")
    """
    path = Path(path)
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    with _writing(path):
        _make_folder(path.parent)
        _remove(temporary)  # left by a killed process of the same number
        _remove(old)
    try:
        with _writing(path):
            yield temporary
            _settle(temporary)
            # os.replace puts files over files only. A folder goes aside as a whole: deleting it takes a while.
            aside = temporary.exists() and (temporary.is_dir() or path.is_dir()) and os.path.lexists(path)
            if aside:
                os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                if aside:
                    os.replace(old, path)
                raise
            _sync(path.parent)
            _remove(old)
    finally:
        _remove(temporary)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A block whose failures to write become one clear error that names `path`."""
    try:
        yield
    except Exception as error:
        if (reason := _write_failure(error)) is None:
            raise
        raise RkdError(f"{path}: cannot be written: {reason}; what stood there before is untouched") from error


def _write_failure(error: BaseException | None) -> str | None:
    """What the system said when a file could not be written, None for other errors."""
    if isinstance(error, FileNotFoundError | RkdError) or error is None:
        return None
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else str(error)
    if number := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        return os.strerror(int(number[1]))
    return _write_failure(error.__context__)  # torch replaces the error of the file that it writes to


def _settle(path: Path) -> None:
    """Give a file, or a folder and all that is inside, the mode that the umask says, and wait until it is on disk.

    Some libraries write files that only their owner may read, whatever the umask. Modes only gain: a folder that hands
    its group on still does.
    """
    umask = _umask()
    for part in [path, *(path.rglob("*") if path.is_dir() else ())]:
        if part.is_symlink():
            continue
        descriptor = os.open(part, os.O_RDONLY)
        try:
            mode = os.fstat(descriptor).st_mode
            allowed = (0o777 if stat.S_ISDIR(mode) else 0o666) & ~umask
            if allowed & ~mode:
                os.fchmod(descriptor, stat.S_IMODE(mode) | allowed)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing, so that no power failure takes them away."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for part in missing:
        _sync(part.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def staged(folder: str | Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder inside `folder`; what is put there moves up, over the same names, if the block succeeds.

    `last` goes away first and comes last: where it stands, all of it is whole and belongs together.

    Raises:
        RkdError: nothing can be written there; what `folder` held is still there.

    >>> with staged("results/teachers/cola/seed-1", last="run.json") as temporary:
    ...     (temporary / "run.json").write_text("{}")
    """
    folder = Path(folder)
    temporary = folder / ".partial"
    with _writing(folder):
        _remove(temporary)  # left by a killed process
        _make_folder(temporary)
    try:
        with _writing(folder):
            yield temporary
            _settle(temporary)
            names = sorted(path.name for path in temporary.iterdir() if path.name != last)
            _remove(folder / last)
            for name in [*names, last]:
                _remove(folder / name)
                os.replace(temporary / name, folder / name)
            _sync(folder)
    finally:
        _remove(temporary)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` so that no reader ever sees half of it."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def jsonable(value: Any) -> Any:
    """`value` with NaN and infinities as None: JSON has no such numbers and strict readers refuse them."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as readable JSON; undefined numbers become null."""
    atomic_write_text(path, json.dumps(jsonable(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digests(folder: str | Path, *names: str) -> dict[str, str]:
    """SHA-256 of the files in a folder by their path in it: of all, or of those files and folders that are named.

    Hidden files are left out: other programs, such as Snakemake, leave theirs.

    >>> digests("results/data/cola", "tokenizer").keys()
    dict_keys(['tokenizer/tokenizer.json', 'tokenizer/tokenizer_config.json'])
    """
    folder = Path(folder)
    places = [folder / name for name in names] or [folder]
    files = {file for place in places for file in (place.rglob("*") if place.is_dir() else [place])}
    shown = sorted(file for file in files if file.is_file() and not file.name.startswith("."))
    return {file.relative_to(folder).as_posix(): sha256(file) for file in shown}


def seed_everything(seed: int, threads: int | None = None) -> None:
    """Seed Python, NumPy and torch, fix the number of CPU threads and ask torch for deterministic kernels.

    The thread count belongs to reproducibility: sums are split over threads, so another count gives other last bits.
    """
    import numpy as np
    import torch

    # Deterministic cuBLAS needs this before the first CUDA call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A help for finding bugs that costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if threads:
        torch.set_num_threads(threads)


def reuse_memory() -> None:
    """Let the C library keep freed memory for the next tensor instead of returning it to the system.

    A gradient of the embedding matrix is tens of megabytes, and fresh pages for it at every step cost more than the
    arithmetic on it: a MiniLM step is a fifth quicker so. Has an effect with glibc only, none elsewhere.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # names of these options in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 1 << 26)


def choose_device(name: str) -> Any:
    """The `torch.device` that a device of the config means: "auto" is a GPU where torch sees one, else the CPU.

    Raises:
        RkdError: "cuda" without a GPU, or another name.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise RkdError(f"device: found {name!r}; expected 'auto', 'cpu' or 'cuda' (CUDA_VISIBLE_DEVICES chooses a GPU)")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise RkdError("device: found 'cuda', but torch sees no GPU here; expected 'cpu' or 'auto'")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def processor_name() -> str:
    """The CPU's model name as the operating system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_state(folder: Path) -> dict[str, Any]:
    """The commit that `folder` is at and whether it has uncommitted changes; empty outside a git checkout."""
    try:
        commit, status = (
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": commit.strip(), "dirty": bool(status.strip())}


def arithmetic(device: Any) -> dict[str, Any]:
    """The instructions that a device computes with, which decide the last bits of all numbers.

    Libraries choose their routines for matrix products and sums by the vector instructions of the processor, and by
    some variables of the environment.

    Args:
        device: a `torch.device`.

    Returns:
        `capability`, torch's name of the instructions that it uses on a CPU, or the compute capability of a GPU;
        `instructions`, the vector instructions of a CPU; `environment`, the variables that are set.

    >>> arithmetic(torch.device("cpu"))["capability"]
    'AVX2'
    """
    import torch

    environment = {name: os.environ[name] for name in _ARITHMETIC_VARIABLES if name in os.environ}
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return {"capability": f"{major}.{minor}", "environment": environment}
    there = [name for name, found in torch.cpu.get_capabilities().items() if found is True]
    if platform.machine() in ("x86_64", "AMD64"):
        there = [name for name in there if name.startswith(("avx", "amx", "fma"))]
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "instructions": sorted(there),
        "environment": environment,
    }


@dataclass(frozen=True)
class Stopwatch:
    """The start of something: its date, and the seconds since then, even if the system's clock is set meanwhile.

    >>> Stopwatch().seconds()
    0.0
    """

    date: float = field(default_factory=time.time)
    _clock: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._clock


def provenance(started: Stopwatch, device: str, threads: int) -> dict[str, Any]:
    """Where, with what and for how long a run was made: the part of run.json that is not the spec.

    Args:
        started: made at the start of the run.
        device: the torch device the run used, for example "cpu".
        threads: number of CPU threads of the run.
    """
    import resource

    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": processor_name(),
        "device": device,
        "arithmetic": arithmetic(torch.device(device)),
        "threads": threads,
        "git": git_state(Path(__file__).resolve().parent),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started.date)),
        "seconds": round(started.seconds(), 1),
        "peak_memory_mib": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
    }
    if device.startswith("cuda"):
        result["gpu"] = torch.cuda.get_device_name()
        result["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() >> 20
    return result


def text_argument(value: str) -> str:
    """An argument of the command line, or for "-" what comes on standard input, where there is no limit on its length.

    A single argument ends at 128 KiB, which a task with some thousand labels exceeds.

    >>> parser.add_argument("--spec", type=text_argument)
    """
    return _whole(sys.stdin) if value == "-" else value


@cache
def _whole(stream: TextIO) -> str:
    return stream.read().removesuffix("\n")


def run_script(main: Callable[[], None]) -> None:
    """Run the `main` of a script or command; whatever is no bug ends it with at most one line, without a traceback.

    Bad input (`RkdError`) ends it with exit code 2 and the error on stderr, and so does a standard output that cannot
    be written, for example on a full disk, or because the caller has closed it. Ctrl-C ends it with 130. Where the
    reader of the output has gone (`… | head`) it ends quietly with 141, as the signal would end it.

    >>> run_script(main)
    """
    before = sys.stdout
    stdout = _closed_output() if before is None else before
    try:
        sys.stdout = cast(TextIO, _Output(stdout))
        try:
            if isinstance(main, FunctionType):
                _check_own_code(Path(main.__code__.co_filename))
            main()
        finally:
            sys.stdout.flush()
    except RkdError as error:
        _end(2, " ".join(str(error).splitlines()))
    except KeyboardInterrupt:
        _end(130, "stopped by Ctrl-C")
    except _OutputError as error:
        _give_up(stdout)
        if isinstance(error.__cause__, BrokenPipeError):
            raise SystemExit(128 + 13) from None
        _end(2, f"standard output: cannot be written: {error}")
    finally:
        sys.stdout = before


def _closed_output() -> TextIO:
    """In place of a standard output that the caller has closed: a stream that cannot be written.

    Python has none then, and drops all that is printed. The stream also takes the number of the closed one, so that no
    file that is opened later gets what a library in C prints.
    """
    return open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # to the end of the process


def _check_own_code(script: Path) -> None:
    """Refuse a script of one copy of the project that has imported the library of another one.

    The digests that are recorded, and that decide what runs again, would be those of other code.
    """
    root, ours = script.resolve().parent.parent, Path(__file__).resolve().parent.parent
    if script.resolve().parent.name == "workflow_scripts" and (root / "rkd").is_dir() and root != ours:
        raise RkdError(f"{script}: found the rkd of {ours}; expected that of its own project: set PYTHONPATH={root}")


class _OutputError(Exception):
    """Standard output cannot be written."""


class _Output:
    """Standard output, whose failures can be told from those of other files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._failing():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._failing():
            self._stream.flush()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _OutputError(error.strerror or str(error)) from error


def _end(code: int, text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(code) from None


def _give_up(stream: TextIO) -> None:
    """Lead a stream that cannot be written nowhere: Python flushes it once more at its end, and would complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
