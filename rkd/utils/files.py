"""Atomic writes, JSON without undefined numbers, and digests of files."""

import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rkd.errors import RkdError


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
    """Turn failures to write into one clear error that names `path`."""
    try:
        yield
    except Exception as error:
        if (reason := _write_failure(error)) is None:
            raise
        raise RkdError(f"{path}: cannot be written: {reason}; what stood there before is untouched") from error


def _write_failure(error: BaseException | None) -> str | None:
    """Return what the system said when a file could not be written; None for other errors."""
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
    """Return the umask of this process, which can only be read by setting it."""
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
