"""The command lines of the workflow's scripts: errors of one line, numbers in a range and values in JSON."""

import argparse
import json
from collections.abc import Callable
from typing import Any, NoReturn

from rkd.errors import RkdError
from rkd.utils.script import text_argument


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


def json_value(kind: type, expected: str) -> Callable[[str], Any]:
    """The type of an argument that holds JSON, or for "-" of one that comes on standard input.

    Args:
        kind: dict or list.
        expected: what errors say was expected.

    >>> json_value(dict, "an object by key")('{"task": "mrpc"}')
    {'task': 'mrpc'}
    """

    def read(text: str) -> Any:
        try:
            value = json.loads(text_argument(text))
        except (ValueError, RecursionError) as error:
            raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
        if not isinstance(value, kind):
            raise argparse.ArgumentTypeError(f"found a JSON {type(value).__name__}; expected {expected}")
        return value

    return read


def at_least(lowest: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number from `lowest` on.

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
