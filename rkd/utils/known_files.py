"""SHA-256 of files, remembered between processes by size and times: a plan hashes a large file once."""

import functools
import json
import os
import time
from pathlib import Path

from rkd.utils.files import atomic_write_text, sha256

_LARGE = 1 << 20  # bytes; smaller files are read anew, faster than the memory
_SETTLED = 2.0  # seconds; a file that was written just now may change again within the resolution of its time


def known_sha256(file: str | Path) -> str:
    """Return the SHA-256 of a file; a large one is read only if its size, inode or times have changed.

    Raises:
        OSError: the file cannot be read.

    >>> known_sha256("model.safetensors") == sha256("model.safetensors")
    True
    """
    path = os.path.abspath(file)
    state = os.stat(path)
    return _sha256(path, (state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns))


@functools.cache
def _sha256(path: str, state: tuple[int, ...]) -> str:
    if state[0] < _LARGE:
        return sha256(path)
    memory = _read()
    known = memory.get(path)
    if isinstance(known, dict) and known.get("state") == list(state) and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    found = sha256(path)
    if time.time() - max(state[2:]) / 1e9 > _SETTLED:
        _write({**memory, path: {"state": list(state), "sha256": found}})
    return found


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rkd" / "sha256.json"


def _read() -> dict[str, object]:
    try:
        found = json.loads(_place().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(memory: dict[str, object]) -> None:
    """Keep the memory, without files that are gone; a folder that cannot be written costs time only."""
    try:
        _place().parent.mkdir(parents=True, exist_ok=True)
        kept = {path: known for path, known in memory.items() if os.path.exists(path)}
        atomic_write_text(_place(), json.dumps(kept, indent=1))
    except Exception:
        pass
