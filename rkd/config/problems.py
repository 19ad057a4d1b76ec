"""Problems of a config: their places, their wording, and the errors that carry them."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rkd.errors import RkdError
from rkd.utils.escape import one_line

KeyPath = tuple[Any, ...]

_PLAIN_KEY = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Problem:
    """One problem: the key (`variants.kd.temperature`), what was found, what is allowed and what to do."""

    path: str
    found: str
    expected: str
    suggestion: str = ""

    def __str__(self) -> str:
        line = f"{self.path}: found {self.found}; expected {self.expected}"
        return one_line(f"{line}; {self.suggestion}" if self.suggestion else line)


@dataclass(frozen=True)
class Renamed(Problem):
    """A key of an earlier version, for which `expected` names today's.

    >>> str(Renamed("own_tasks", "renamed", "custom_tasks"))
    'own_tasks: renamed; expected custom_tasks'
    """

    def __str__(self) -> str:
        return one_line(f"{self.path}: {self.found}; expected {self.expected}")


# A problem and the path of the value that has it.
Located = tuple[KeyPath, Problem]


class ConfigError(RkdError):
    """A config with problems; the message lists all of them, one a line, and `problems` holds them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "The config has 1 problem:" if count == 1 else f"The config has {count} problems:"
        super().__init__("\n".join([head, *(f"- {problem}" for problem in self.problems)]))


class SectionError(RkdError):
    """A part of a config with problems; the message has them on one line, and `problems` holds them by path."""

    def __init__(self, problems: Mapping[KeyPath, Problem]) -> None:
        self.problems = {path: problems[path] for path in sorted(problems, key=path_order)}
        super().__init__("; ".join(map(str, self.problems.values())))


def refuse_section(problems: Mapping[KeyPath, Problem]) -> None:
    """Raise a `SectionError` with all of the problems, if there are any."""
    if problems:
        raise SectionError(problems)


def located(path: KeyPath, value: Any, expected: str, suggestion: str = "") -> Located:
    """Return the problem of a value, at its path."""
    return path, Problem(path_text(path), shown(value), expected, suggestion)


def moved(problem: Problem, path: KeyPath) -> Located:
    """Return the problem at another path."""
    return path, type(problem)(path_text(path), problem.found, problem.expected, problem.suggestion)


def path_text(path: KeyPath) -> str:
    """Return a path as errors write it.

    >>> path_text(("variants", "My kd", "layer_map", 0))
    "variants.'My kd'.layer_map[0]"
    """
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        else:
            key = part if isinstance(part, str) and _PLAIN_KEY.fullmatch(part) else short(repr(part))
            text += f".{key}" if text else key
    return text or "config"


def path_order(path: KeyPath) -> tuple[tuple[int, str], ...]:
    """Return the sort key of a path: list items sort by number, all else as text."""
    return tuple((part, "") if isinstance(part, int) else (0, str(part)) for part in path)


def shown(value: Any) -> str:
    """Return the value as YAML writes it, on one line and shortened.

    >>> shown(None), shown(True), shown("a"), shown([1])
    ('nothing (null)', 'true (a truth value)', "'a' (text)", '[1]')
    """
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a truth value)"
    if isinstance(value, str):
        return f"{short(repr(value))} (text)"
    return short(repr(value))


def short(text: str, limit: int = 120) -> str:
    """Return the text, truncated to a number of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def as_list(value: Any) -> str:
    """Return a list of one value as YAML writes it.

    >>> as_list("cola"), as_list("a b")
    ('[cola]', "['a b']")
    """
    return f"[{value if _PLAIN_KEY.fullmatch(str(value)) else short(repr(value))}]"


def closest(word: Any, choices: Iterable[str]) -> str:
    """Return a suggestion of the choice with the closest spelling; empty if none is close.

    >>> closest("reptil", ["kd", "reptile"])
    'did you mean reptile?'
    """
    close = difflib.get_close_matches(str(word)[:64].lower(), list(choices), n=1)
    return f"did you mean {close[0]}?" if close else ""
