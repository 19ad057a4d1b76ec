"""Differences that the comparisons of a plan will be able to show, from the variances of finished runs."""

import csv
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rkd.errors import RkdError
from rkd.report.names import AVERAGE
from rkd.report.statistics.power import Variances, minimum_detectable_effect, seeds_needed
from rkd.workflow.plan import Plan


@dataclass(frozen=True)
class Precision:
    """The differences that comparisons of two variants will be able to show. Points.

    Attributes:
        source: the comparisons.csv with the variances.
        what: `AVERAGE` for the average over tasks, or the name of a task.
        comparisons: the number of comparisons whose variances are pooled.
        seeds: the planned seeds.
        detectable: the true difference that is found with 80 % power.
        margin: the equivalence margin.
        needed: the seeds that the margin needs; None if more than 1000.
    """

    source: str
    what: str
    comparisons: int
    seeds: int
    detectable: float
    margin: float
    needed: int | None

    def __str__(self) -> str:
        where = "on average over tasks" if self.what == AVERAGE else f"on {self.what}"
        needed = "more than 1000 seeds" if self.needed is None else f"{self.needed} seeds"
        found = f"a difference of {self.detectable:.1f} points is found with 80 % power"
        return f"  {where}: {found}; ±{self.margin:g} points need {needed}"


def precision(plan: Plan, source: Path) -> list[Precision]:
    """Return what the plan's comparisons will be able to show, by the variances in a comparisons.csv.

    Nothing is known from runs with one seed.

    Variances of the pairs of variants are pooled: those of a single pair with few seeds are too rough to plan with.

    Raises:
        RkdError: the file is missing or lacks a column.
    """
    parts: dict[str, list[Variances]] = defaultdict(list)
    try:
        with source.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                numbers = (float(line[name] or "nan") / 1e4 for name in ("seed_variance", "example_variance"))
                found = Variances(*numbers)
                if math.isfinite(found.seeds) and found.seeds + found.examples > 0:  # not of equal predictions
                    parts[line["task"]].append(found)
    except (OSError, KeyError, ValueError) as error:
        raise RkdError(f"{source}: {error!r}; expected the comparisons.csv of an experiment") from None
    margin, seeds = plan.config["equivalence_margin"], len(plan.seeds)
    result = []
    for what in (AVERAGE, *plan.tasks):
        if known := parts.get(what):
            pooled = Variances.pooled(known)
            detectable = 100 * minimum_detectable_effect(pooled, seeds)
            needed = seeds_needed(pooled, margin / 100)
            result.append(Precision(str(source), what, len(known), seeds, detectable, margin, needed))
    return result


def format_precision(found: Sequence[Precision]) -> str:
    """Summarise what comparisons will be able to show."""
    if not found:
        return ""
    seeds = f"{found[0].seeds} seed{'s' * (found[0].seeds != 1)}"
    return "\n".join([f"with {seeds}, by the variances in {found[0].source}:", *map(str, found)])
