"""Rows of the benchmark, and the report as JSON and Markdown."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.timing import Spread
from rkd.utils.files import atomic_write_text, write_json

COMPARISONS = {"≥": operator.ge, "≤": operator.le, ">": operator.gt}


@dataclass(frozen=True)
class Goal:
    """A bound on a value, in the unit of the row.

    >>> str(Goal("≥", 4.5))
    '≥ 4.5'
    """

    relation: str
    value: float

    def met(self, value: float) -> bool:
        return bool(COMPARISONS[self.relation](value, self.value))

    def __str__(self) -> str:
        return f"{self.relation} {self.value:.3g}"


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        name: the quantity measured.
        value: the number that is compared with the goal, with its quartiles; None if not measured.
        unit: unit of the value: "×" for a ratio, "%" for a fraction, "s".
        goal: None if the value is only reported.
        medians: median by side; for a ratio, the numerator first.
        medians_unit: "s" or "MiB".
        rounds: number of rounds behind each median.
        note: a remark for readers, such as why nothing was measured.
    """

    name: str
    value: Spread | None
    unit: str = "×"
    goal: Goal | None = None
    medians: Mapping[str, float] = field(default_factory=dict)
    medians_unit: str = "s"
    rounds: int = 1
    note: str = ""

    @property
    def met(self) -> bool | None:
        """True if the goal is met; None without a goal or a value."""
        return None if self.goal is None or self.value is None else self.goal.met(self.value.median)

    def as_dict(self) -> dict[str, Any]:
        """Return the row for the JSON file."""
        value = self.value._asdict() if self.value else None
        goal = str(self.goal) if self.goal else None
        return {**asdict(self), "medians": dict(self.medians), "value": value, "goal": goal, "met": self.met}


def not_measured(name: str, why: str, goal: Goal | None = None, unit: str = "×") -> Row:
    """Return a row without a value that gives the reason."""
    return Row(name, None, unit, goal, note=f"not measured: {why}")


def markdown(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """Format the report as Markdown: a table of facts about the run, then the rows."""
    lines = ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in facts.items()), ""]
    lines += ["| what | medians | value [quartiles] | goal | met |", "|---|---|---:|---:|---|"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def write(folder: Path, name: str, rows: Sequence[Row], facts: Mapping[str, str], record: Mapping[str, Any]) -> None:
    """Write NAME.json, including `record`, and NAME.md to `folder`."""
    write_json(folder / f"{name}.json", {**record, "facts": dict(facts), "rows": [row.as_dict() for row in rows]})
    atomic_write_text(folder / f"{name}.md", markdown(rows, facts))


def _cells(row: Row) -> list[str]:
    medians = ", ".join(f"{side} {_number(value)} {row.medians_unit}" for side, value in row.medians.items())
    if medians and row.rounds > 1:
        medians += f" ({row.rounds} rounds)"
    if row.value is None:
        value = "–"
    else:
        median, low, high = (_number(100 * part if row.unit == "%" else part) for part in row.value)
        value = f"{median} {row.unit}" if low == high else f"{median} {row.unit} [{low}, {high}]"
    goal = "–" if row.goal is None else f"{_goal(row)} {row.unit}"
    met = {None: "–", True: "yes", False: "**no**"}[row.met]
    name = f"{row.name} ({row.note})" if row.note else row.name
    return [name, medians or "–", value, goal, met]


def _goal(row: Row) -> str:
    assert row.goal is not None
    return str(Goal(row.goal.relation, 100 * row.goal.value) if row.unit == "%" else row.goal)


def _number(value: float) -> str:
    """Format a number with three significant digits, without an exponent.

    >>> _number(1234.5), _number(0.0123456)
    ('1235', '0.0123')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
