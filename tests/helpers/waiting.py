"""Waits that end: a limit on all of them."""

import os
import signal
import time
from collections.abc import Callable

from tests.helpers import TIMEOUT


def until(condition: Callable[[], object], interval: float = 0.02) -> None:
    """Wait until a condition holds; fail after TIMEOUT seconds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"not within {TIMEOUT} s"
        time.sleep(interval)


def exit_code(pid: int) -> int:
    """Wait for the end of a forked child and return its exit code; kill it after TIMEOUT seconds."""
    ended: list[int] = []

    def has_ended() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(found)

    try:
        until(has_ended, 0.005)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return ended[0]
