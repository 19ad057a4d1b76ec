"""Values of the command's options: KEY=VALUE pairs, lists of labels, ranges of scores."""

import contextlib
import re
from collections.abc import Collection
from typing import Any

import typer

from rkd.errors import RkdError


class AsSnakemake(typer.core.TyperCommand):
    """A command whose `--configfile` and `--config` take several values each, as those of `snakemake` do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each further value: files by their endings, settings by their equals sign."""
        belongs = {
            "--configfile": lambda text: text.endswith((".yaml", ".yml", ".json")),
            "--config": lambda text: "=" in text,
        }
        spread: list[str] = []
        option = ""
        for text in args:
            if text.startswith("-"):
                option = text.partition("=")[0]
            elif option in belongs and spread[-1] != option and belongs[option](text):
                spread.append(option)
            spread.append(text)
        return super().parse_args(ctx, spread)


def pairs(option: str, given: list[str] | None, several: Collection[str] = ()) -> dict[str, Any]:
    """Parse KEY=VALUE texts; values are YAML.

    Args:
        option: the option's name, for errors.
        given: the texts.
        several: keys of which a repetition adds a value, which makes a list; of any other the last value counts.

    >>> pairs("--setting", ["epochs=3", "learning_rate=5e-5"])
    {'epochs': 3, 'learning_rate': 5e-05}
    """
    import yaml

    result: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise RkdError(f"{option}: found '{text}'; expected KEY=VALUE")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RkdError(f"{option}: found '{text}'; expected a number, a word or a list after {key}=") from None
        if isinstance(read, str):
            with contextlib.suppress(ValueError):  # YAML 1.1 reads 5e-5 as text
                read = float(value)
        if key in several and key in result:
            result[key] = [*(result[key] if isinstance(result[key], list) else [result[key]]), read]
        else:
            result[key] = read
    return result


# A label in quotes, in which a quote is written twice, or one without; then a comma or the end.
_LABEL = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s,"][^,]*|))\s*(,|\Z)')


def labels_of(text: str | None) -> list[str] | None:
    """Split a list of labels at its commas; a label that contains a comma is in double quotes.

    >>> labels_of('good, bad, "yes, but"')
    ['good', 'bad', 'yes, but']
    """
    if text is None:
        return None
    labels, at = [], 0
    while found := _LABEL.match(text, at):
        quoted, plain, end = found.groups()
        labels.append(plain.strip() if quoted is None else quoted.replace('""', '"'))
        if not end:
            return labels
        at = found.end()
    raise RkdError(
        f"--labels: found '{text}'; expected labels separated by commas, those that contain a comma in double quotes"
    )


def score_range(text: str | None) -> Any:
    """Parse LOW,HIGH as a pair of numbers; return None and "any" unchanged."""
    if text in (None, "any"):
        return text
    try:
        low, high = map(float, str(text).split(","))
    except ValueError:
        raise RkdError(f"--scores: found '{text}'; expected LOW,HIGH or any") from None
    return (low, high)
