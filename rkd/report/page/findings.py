"""Sentences on what the differences between variants show, written from the table of comparisons."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rkd.errors import RkdError
from rkd.report.names import AVERAGE, signed
from rkd.tasks import get

LEVEL = 0.05
_NUMBERS = ("difference", "low", "high", "p", "p_holm")


class Difference(NamedTuple):
    """One row of comparisons.csv. Differences and bounds are in points; undefined numbers are NaN."""

    variant: str
    baseline: str
    task: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: str = ""  # in words; empty in tables of earlier versions

    @property
    def place(self) -> str:
        """The printed name of the task."""
        return "on average" if self.task == AVERAGE else f"on {get(self.task).title}"


def read_differences(path: str | Path) -> list[Difference]:
    """Read comparisons.csv.

    Raises:
        RkdError: the file is missing, lacks a column, or has text in place of a number.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        return [
            Difference(
                line["row"],
                line["baseline"],
                line["task"],
                **{name: _number(line[name]) for name in _NUMBERS},
                verdict=line.get("verdict") or "",
            )
            for line in lines
        ]
    except (OSError, KeyError, ValueError) as error:
        raise RkdError(f"{path}: not the table of comparisons: {error}") from None


def verdict(differences: Sequence[Difference], labels: Mapping[str, str] | None = None) -> str:
    """Return a sentence on how many differences are significant, and how many variants are shown to be equivalent.

    Args:
        differences: rows of the table.
        labels: printed names of variants; by default their names.

    >>> verdict([Difference("reptile", "kd", "cola", 1.0, -2.0, 4.0, 0.4, 0.4)])
    'None of the 1 tested differences is significant at 5 % after the correction for multiple tests.'
    """
    tested = [one for one in differences if not math.isnan(one.p_holm)]
    if not tested:
        return "No difference between variants could be tested."
    significant = [one for one in tested if one.p_holm < LEVEL]
    count = f"the {len(tested)} tested differences"
    alike = sum(one.verdict.startswith("equivalent") for one in tested)
    equivalent = f" {alike} {'is' if alike == 1 else 'are'} shown to be smaller than the margin." if alike else ""
    if not significant:
        return f"None of {count} is significant at 5 % after the correction for multiple tests.{equivalent}"
    known = labels or {}
    names = "; ".join(
        f"{known.get(one.variant, one.variant)} against {known.get(one.baseline, one.baseline)} {one.place} "
        f"({signed(one.difference)})"
        for one in significant
    )
    verb = "is" if len(significant) == 1 else "are"
    return (
        f"{len(significant)} of {count} {verb} significant at 5 % after the correction for multiple tests: {names}."
        f"{equivalent}"
    )


def sentence(one: Difference, labels: Mapping[str, str]) -> str:
    """Describe a difference in words: its size, its interval, its verdict, and whether it is significant."""
    names = labels.get(one.variant, one.variant), labels.get(one.baseline, one.baseline)
    if math.isnan(one.difference):
        return f"{names[0]} against {names[1]} {one.place}: no score to compare."
    if signed(one.difference) == "0.0":
        size = f"{names[0]} equals {names[1]} {one.place} to a tenth of a point"
    else:
        direction = "above" if one.difference > 0 else "below"
        size = f"{names[0]} is {abs(one.difference):.1f} points {direction} {names[1]} {one.place}"
    if math.isnan(one.p):
        return f"{size}; not tested."
    interval = f"95 % interval {signed(one.low)} to {signed(one.high)}"
    if one.verdict:
        return f"{size} ({interval}): {one.verdict} (corrected p {_p(one.p_holm)})."
    if one.p_holm < LEVEL:
        return f"{size} ({interval}): significant after the correction (p {_p(one.p_holm)})."
    if one.p < LEVEL:
        return f"{size} ({interval}): significant alone (p {_p(one.p)}), but not after the correction."
    return f"{size} ({interval}): not significant (p {_p(one.p)})."


def summary(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences on average, or those on each task if there is no average."""
    return [one for one in differences if one.task == AVERAGE] or list(differences)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _number(text: str) -> float:
    return float(text) if text else math.nan
