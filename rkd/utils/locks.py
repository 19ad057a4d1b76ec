"""One process at a time in a folder: a lock that the kernel frees when its process ends, however it ends."""

import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rkd.errors import RkdError

log = logging.getLogger("rkd")

# The identity of a process that does not say what it does: it equals no other.
_NOTHING = object()
# Seconds in which another process, between its lock and its name in the lock file, has to have written the name.
_NAMELESS_SECONDS = 5.0


def lock(path: Path, doing: str, identity: Any = None, *, take_over: bool = False) -> int:
    """Lock a file, which is made with its folder, against a second process that does something in that folder.

    Args:
        path: the lock file. It names its process, and what that does.
        doing: what a process with this lock does, for messages: "trains this run".
        identity: all that decides what this process does there, as JSON has it.
        take_over: ask another process on this machine that does the very same to stop, and wait for its end. One of
            another identity is never stopped.

    Returns:
        A file descriptor; closing it frees the lock.

    Raises:
        RkdError: another process is there, or the file cannot be written.
    """
    seen, asked = time.monotonic(), None
    while True:
        file = _open(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            os.close(file)
            if holder is not None and holder != asked:
                _meet(path, holder, doing, identity if take_over else _NOTHING)
                asked = holder
            if holder is not None and _is_running(holder.pid):
                seen = time.monotonic()  # its step and its checkpoint take their time
            elif time.monotonic() - seen > _NAMELESS_SECONDS:
                raise RkdError(
                    f"{path}: another process {doing}, but the file does not say which; expected its host and number "
                    "there: end that process, or wait for its end"
                ) from None
            time.sleep(0.2)
            continue
        except OSError as error:  # some network file systems have no locks
            log.warning("%s: cannot be locked (%s); start no second process in its folder", path, error.strerror)
        if not path.exists() or not os.path.samestat(os.fstat(file), path.stat()):
            os.close(file)  # the other process has ended well and removed the file
            continue
        try:
            os.truncate(file, 0)
            with open(file, "wb", closefd=False) as content:  # the name comes last: where it stands, all is there
                content.write(f"{json.dumps(identity)}\n{socket.gethostname()} {os.getpid()}\n".encode())
        except OSError as error:
            os.close(file)
            raise _unwritable(path, error) from None
        return file


@contextlib.contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock within the block; the lock file is removed afterwards.

    Raises:
        RkdError: another process is there, or the file cannot be written.

    Example:
        >>> with locked(out / ".lock", "distils into this folder"):
        ...     prepare(out / "data")
    """
    file = lock(path, doing)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # still locked: who has opened it meanwhile sees that it is gone
        os.close(file)


def differences(a: Any, b: Any, name: str = "") -> list[str]:
    """Dotted names of the places in which two JSON values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted({*a, *b})
        return [d for key in keys for d in differences(a.get(key), b.get(key), f"{name}.{key}" if name else key)]
    return [] if a == b else [name or "its form"]


def _open(path: Path) -> int:
    """Open the lock file; create it and its folder if they are missing."""
    for _ in range(100):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # No link to elsewhere is followed, and no pipe waited for.
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            time.sleep(0.05)  # the other process has just removed the folder
            continue
        except OSError as error:
            raise _unwritable(path, error) from None
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            os.close(lock)
            raise RkdError(f"{path}: exists and is not a file; expected a lock file, or nothing")
        return lock
    raise RkdError(f"{path}: cannot be written: its folder disappears again and again")


def _unwritable(path: Path, error: OSError) -> RkdError:
    return RkdError(f"{path}: cannot be written: {error.strerror}; expected a folder for checkpoints")


@dataclass(frozen=True)
class _Holder:
    """The process that a lock file names."""

    host: str
    pid: int
    identity: Any


def _holder(file: int) -> _Holder | None:
    """Read a lock file; None while it names no process."""
    content = os.pread(file, os.fstat(file).st_size, 0)
    named = re.fullmatch(rb"(?:(.*)\n)?(\S+) ([1-9]\d{0,9})\n", content)
    if named is None:
        return None
    try:
        identity = json.loads(named[1])
    except (ValueError, TypeError, RecursionError):  # an earlier version, or another program, has written it
        identity = _NOTHING
    return _Holder(named[2].decode(errors="replace"), int(named[3]), identity)


def _meet(path: Path, holder: _Holder, doing: str, identity: Any) -> None:
    """Ask the process that holds a lock to stop, where it is here and does the same; else an error names it."""
    there = f"{path.parent}: process {holder.pid} on {holder.host}"
    expected = "expected none: wait for its end, or end it"
    told = f"{there} {doing}; {expected}"
    if holder.host != socket.gethostname() or holder.pid == os.getpid() or not _has_open(holder.pid, path):
        raise RkdError(told)
    if identity is _NOTHING:
        raise RkdError(told)
    if changes := differences(holder.identity, identity):
        raise RkdError(f"{there} is at work on another run here, which differs in {', '.join(changes)}; {expected}")
    log.warning(
        "%s: process %s %s already; asking it to stop, to go on from its checkpoint", path.parent, holder.pid, doing
    )
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise RkdError(f"{told} (it belongs to another user)") from None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _has_open(pid: int, path: Path) -> bool:
    """Return True if a process has a file open, or if the system does not tell: only a sure holder gets a signal."""
    try:
        files = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return True
    for file in files:
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.path.samestat(file.stat(), path.stat()):
                return True
    return False
