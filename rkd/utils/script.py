"""Run the main function of a script or command: errors in one line, exit codes, arguments on stdin."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, NoReturn, TextIO, cast

from rkd.errors import RkdError


def text_argument(value: str) -> str:
    """Return a command-line argument, or for "-" the standard input, whose length is not limited.

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
    root, ours = script.resolve().parent.parent, Path(__file__).resolve().parents[2]
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
