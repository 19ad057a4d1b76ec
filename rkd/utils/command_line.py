"""The command lines of the workflow's scripts: errors of one line, specs, named values and numbers in a range."""

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rkd.errors import RkdError


class ArgumentParser(argparse.ArgumentParser):
    """An argument parser whose errors are `RkdError`, as all others are; `runtime.run_script` tells them in one line.

    >>> ArgumentParser().parse_args(["--speed", "5"])
    Traceback (most recent call last):
    rkd.errors.RkdError: unrecognized arguments: --speed 5
    """

    def error(self, message: str) -> NoReturn:
        """Raise the error instead of printing the usage."""
        raise RkdError(message)

    def parse_args(self, *arguments: Any, **options: Any) -> Any:
        """As argparse does; a file of arguments (@FILE) that is no text is an error, too."""
        try:
            return super().parse_args(*arguments, **options)
        except (UnicodeDecodeError, RecursionError) as error:
            raise RkdError(f"@FILE: cannot be read as arguments: {error}") from None


def named(option: str, pairs: Sequence[str], expected: str) -> dict[str, str]:
    """Parse the values of a repeatable option NAME=VALUE, by name.

    Args:
        option: the option's name, for errors.
        pairs: its words.
        expected: what a word should be, for errors.

    Raises:
        RkdError: a word has no "=", or a name occurs twice.

    >>> named("--models", ["teacher=models/a", "kd=models/b"], "ROW=FOLDER")
    {'teacher': 'models/a', 'kd': 'models/b'}
    """
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if len(found) < len(pairs):
        name = expected.split("=", maxsplit=1)[0].lower()
        raise RkdError(f"{option}: found {' '.join(pairs)}; expected {expected}, each {name} once")
    return found


def above(bound: float) -> Callable[[str], float]:
    """Return an argument type for finite numbers above a bound.

    >>> above(0)("0.5")
    0.5
    """

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not bound < number < math.inf:
            raise argparse.ArgumentTypeError(f"found {text[:20]!r}; expected a number above {bound:g}")
        return number

    return read


def at_least(lowest: int) -> Callable[[str], int]:
    """Return an argument type for whole numbers from `lowest` on.

    >>> at_least(1)("3")
    3
    """

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if not lowest <= number < 1 << 31:
            raise argparse.ArgumentTypeError(f"found {text[:20]!r}; expected a whole number of at least {lowest}")
        return number

    return read
