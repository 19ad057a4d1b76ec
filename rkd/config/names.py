"""Names of variants, axes and tasks, as a config spells them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from rkd.config.problems import KeyPath, Located, Problem, path_text, shown
from rkd.config.variants import NAME, NAME_LENGTH

_A_NAME = (
    "a name of lower-case letters, digits and . _ - that begins with a letter or digit, "
    f"{NAME_LENGTH} characters at most"
)


def name_problems(path: KeyPath, reserved: Mapping[str, str]) -> Iterator[Located]:
    """Yield the problems of a path's last key as a name.

    Args:
        path: the path.
        reserved: names that stand for something else in the results, and for what.
    """
    for at, problem in value_problems(path, path[-1], reserved):
        yield at, replace(problem, found=f"the name {problem.found}")


def value_problems(path: KeyPath, name: object, reserved: Mapping[str, str]) -> Iterator[Located]:
    """Yield the problems of a value as a name; arguments as for `name_problems`."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        hint = "" if isinstance(name, str) else "put the name in quotes"
        yield path, Problem(path_text(path), shown(name), _A_NAME, hint)
    elif name in reserved:
        expected = f"another name: in the results this is {reserved[name]}"
        yield path, Problem(path_text(path), shown(name), expected)
