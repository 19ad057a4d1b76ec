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
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from rkd.errors import RkdError

PACKAGES = ("torch", "transformers", "datasets", "accelerate", "numpy", "pandas", "snakemake")


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
    of it; whatever stood at `path` is replaced. What has the name is on disk: no power failure empties it.

    Raises:
        RkdError: nothing can be written there, for example as the disk is full; the old content is still there.

    >>> with atomic_path("table.csv") as temporary:
    ...     temporary.write_text("a,b")
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)  # left by a killed process of the same number
    try:
        with _writing(path):
            yield temporary
            _sync(temporary)
            if temporary.is_dir() or (temporary.exists() and path.is_dir()):  # os.replace puts files over files only
                _remove(path)
            os.replace(temporary, path)
            _sync(path.parent, inside=False)
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


def _sync(path: Path, inside: bool = True) -> None:
    """Wait until a file, or a folder and all that is inside, is on disk."""
    for part in [path, *(path.rglob("*") if inside and path.is_dir() else ())]:
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
        temporary.mkdir(parents=True)
    try:
        with _writing(folder):
            yield temporary
            _sync(temporary)
            names = sorted(path.name for path in temporary.iterdir() if path.name != last)
            _remove(folder / last)
            for name in [*names, last]:
                _remove(folder / name)
                os.replace(temporary / name, folder / name)
            _sync(folder, inside=False)
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


def provenance(started: float, device: str, threads: int) -> dict[str, Any]:
    """Where, with what and for how long a run was made: the part of run.json that is not the spec.

    Args:
        started: `time.time()` at the start of the run.
        device: the torch device the run used, for example "cpu".
        threads: number of CPU threads of the run.
    """
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": processor_name(),
        "device": device,
        "threads": threads,
        "git": git_state(Path(__file__).resolve().parent),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "peak_memory_mib": round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)),
    }
    if device.startswith("cuda"):
        import torch

        result["gpu"] = torch.cuda.get_device_name()
        result["peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() >> 20
    return result


def run_script(main: Callable[[], None]) -> None:
    """Run a script's `main`; bad input ends it with one line on stderr and exit code 2, without a traceback."""
    try:
        main()
    except RkdError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
