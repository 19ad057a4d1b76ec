"""The table of comparisons, paired by seed and example.

Every variant is compared with `kd` and `finetune`. A variant that changes a setting of a method, called a control, is
also compared with the variant of that method.
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rkd.errors import RkdError
from rkd.report.captions import data_text, model_text, selection_text
from rkd.report.names import AVERAGE, signed
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.statistics.comparison import RESAMPLES, Comparison, average, compare
from rkd.report.statistics.over_tasks import Improvement, over_tasks, probability_of_improvement
from rkd.report.statistics.power import MOST_SEEDS, POWER, seeds_needed
from rkd.report.statistics.predictions import Predictions
from rkd.report.statistics.verdicts import MARGIN, Verdict, verdicts
from rkd.report.tables.base import MISSING
from rkd.runs.paths import run_of
from rkd.specs.report import ReportSpec
from rkd.tasks import averaged, get

BASELINES = ("kd", "finetune")
_TRACED = (
    *("row", "baseline", "task", "difference", "low", "high", "p", "p_holm", "p_equivalent", "verdict"),
    *("detectable", "sampling_error", "new_low", "new_high"),
)
_HEADS = (
    "Task",
    "Difference",
    "95 % interval",
    "p",
    "Verdict",
    "P(better)",
    "Detectable",
    "Sampling error",
    "Seeds",
    "Needed",
)
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of a report, independent of the format. Numbers in files are points.

    Attributes:
        planned: (variant, baseline, task) in the order of the table.
        found: comparisons that could be made, by (variant, baseline, task).
        improvements: by the same, the probability that a run of the variant is better than a run of the baseline.
        margin: the equivalence margin, a fraction.
        missing: number of planned runs without predictions.
        runs: number of planned runs.
        resamples: number of bootstrap samples of the dev examples.
        clustered: the tasks whose related examples are resampled in groups.
    """

    spec: ReportSpec
    planned: tuple[Key, ...]
    found: dict[Key, Comparison]
    improvements: dict[Key, Improvement]
    margin: float
    missing: int
    runs: int
    resamples: int
    clustered: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """Return one comparison per row, differences in points and variances in squared points.

        p_holm, p_equivalent and the verdict are corrected within their family: the averages, or the single tasks.
        """
        judged = self.verdicts()
        lines = []
        for key, one in self.found.items():
            low, high = one.interval()
            variances, verdict, improvement = one.variances, judged[key], self.improvements[key]
            numbers = {
                "difference": one.difference,
                "low": low,
                "high": high,
                "detectable": one.detectable if _bounded(one) else math.nan,
                "sampling_error": one.sampling_error,
                **self._new_task(key),
            }
            lines.append(
                dict(zip(("row", "baseline", "task"), key, strict=True))
                | {name: 100 * value for name, value in numbers.items()}
                | {"p": one.p, "p_holm": verdict.p_different, "p_equivalent": verdict.p_equivalent}
                | {"verdict": verdict.text, "better": improvement.probability}
                | {"better_low": improvement.low, "better_high": improvement.high}
                | {"seeds_needed": self._seeds_needed(one), "seeds": len(one.seeds), "examples": one.examples}
                | {"seed_variance": 1e4 * variances.seeds, "example_variance": 1e4 * variances.examples}
            )
        names = ["row", "baseline", "task", "difference", "low", "high", "p", "p_holm", "p_equivalent", "verdict"]
        names += ["detectable", "seeds_needed", "better", "better_low", "better_high", "new_low", "new_high"]
        names += ["sampling_error", "seeds", "examples", "seed_variance", "example_variance"]
        return pd.DataFrame(lines, columns=names)

    def verdicts(self) -> dict[Key, Verdict]:
        """Return the verdict on each comparison: the averages are one family of tests, the single tasks another."""
        judged: dict[Key, Verdict] = {}
        for of_averages in (True, False):
            family = [key for key in self.found if (key[2] == AVERAGE) == of_averages]
            found = verdicts([self.found[key] for key in family], self.margin)
            judged.update(zip(family, found, strict=True))
        return judged

    def _new_task(self, key: Key) -> dict[str, float]:
        """Return the interval of the true difference on a new task, of an average over at least three tasks."""
        parts = [self.found[key[0], key[1], task] for task in averaged(self.spec.tasks)] if key[2] == AVERAGE else []
        found = over_tasks(parts) if parts else None
        return {"new_low": found.new_low if found else math.nan, "new_high": found.new_high if found else math.nan}

    def _seeds_needed(self, one: Comparison) -> float:
        """Return the seeds that the margin needs: NaN where the variance is unknown, infinity for too many."""
        if not _bounded(one) or math.isnan(one.difference):
            return math.nan
        return seeds_needed(one.variances, self.margin) or math.inf

    def sidecar(self) -> dict[str, object]:
        """Return the predictions files behind each comparison."""
        cells = [
            {
                **{name: line[name] for name in _TRACED},
                "seeds": list(one.seeds),
                "differences": [100 * value for value in one.differences],
                "files": list(one.files),
            }
            for line, one in zip(self.frame().to_dict("records"), self.found.values(), strict=True)
        ]
        return {"caption": self._caption(), "unit": "points", "resamples": self.resamples, "cells": cells}

    def grid(self) -> Grid:
        """Return the printed table: a section per baseline, a line per variant and task."""
        lines = {(x["row"], x["baseline"], x["task"]): x for x in self.frame().to_dict("records")}
        labels = self.spec.labels()
        baselines = dict.fromkeys(baseline for _, baseline, _ in self.planned)
        sections = tuple(
            Section(
                f"Against {labels[baseline]}",
                tuple(
                    (Cell(f"{labels[key[0]]} − {labels[baseline]}"), *cells)
                    for key in self.planned
                    if key[1] == baseline
                    for cells in _lines(key[2], lines.get(key))
                ),
            )
            for baseline in baselines
        )
        return Grid((("", _HEADS),), sections, self._caption(), tuple(map(Note, self._remarks())))

    def _caption(self) -> str:
        what = "Differences of GLUE {split} primary scores (×100) between variants, paired by seed and example,"
        return f"{data_text(self.spec, what)} {model_text(self.spec)} {selection_text(self.spec)}"

    def _remarks(self) -> Iterator[str]:
        if self.missing:
            yield f"{self.missing} of {self.runs} runs are missing; a comparison without a common seed is {MISSING}."
        yield (
            "Interval and p: variance over seeds plus the covariance that all seeds share through the examples "
            f"({self.resamples} resamples); see docs/statistics.md."
        )
        margin = f"±{100 * self.margin:g}"
        yield (
            "Verdict: better or worse if the difference is significant at 5 %, equivalent if it lies within "
            f"{margin} points by two one-sided tests at 5 %, else open: neither is shown. Both are corrected for "
            "multiple tests (Holm), the averages and the single tasks each as one family."
        )
        yield (
            f"Detectable: the true difference that an experiment of this size finds with {100 * POWER:.0f} % power. "
            f"Needed: the seeds that find a difference of {100 * self.margin:g} points, and show equal variants "
            "equivalent within it, with that power. Both are from the variances estimated here, rough with few seeds."
        )
        yield "P(better): the probability that a run of the first variant scores above one of the second (ties: half)."
        yield (
            "Sampling error: standard error of one run's score due to the sampling of examples. A difference below "
            "twice this value, seen in one run, is not evidence."
        )
        if self.clustered:
            titles = ", ".join(get(task).title for task in self.clustered)
            yield f"Related examples are resampled in groups on {titles}."
        if any(one.examples_only for one in self.found.values()):
            yield "With one seed, interval and p reflect the examples only; the variance over seeds is unknown."
        if any(one.task == AVERAGE for one in self.found.values()):
            yield (
                "Average: mean over tasks of the primary score, without WNLI and without custom tasks beside GLUE's; "
                "its interval is about these tasks."
            )
        if any(not math.isnan(one) for one in self.frame()["new_low"]):
            yield "New task: the interval of the true difference on another, similar task."


def comparisons(
    spec: ReportSpec,
    predictions: Iterable[str],
    baselines: Sequence[str] = BASELINES,
    resamples: int = RESAMPLES,
    margin: float = MARGIN,
    clusters: Mapping[str, str] | None = None,
) -> Comparisons:
    """Compare every variant with every baseline, and controls with what they modify, by task and on average.

    A pair of baselines is compared once. A variant is a control of the variant that has the name of its method. The
    average exists if the two variants have the same common seeds on every task.

    Args:
        spec: variants and tasks of the table.
        predictions: students' predictions.parquet files; runs may be missing.
        baselines: variants to compare with; those that are not in the spec are skipped.
        resamples: number of bootstrap samples of the dev examples.
        margin: the equivalence margin, a fraction.
        clusters: files with groups of related dev examples by task (`rkd.runs.clusters`), which are resampled together.

    Raises:
        RkdError: the spec has none of the baselines, does not name the run of a file, or two files cannot be paired.
    """
    files = [str(file) for file in predictions]
    places = pd.DataFrame([{**run_of(file).columns(), "file": file} for file in files])
    if files:
        spec.admit(places)
    names = [variant.name for variant in spec.variants]
    chosen = [name for name in baselines if name in names]
    if not chosen:
        raise RkdError(f"comparisons: none of the variants {', '.join(baselines)} exists; found {', '.join(names)}")
    over = averaged(spec.tasks)
    tasks = [*spec.tasks, *([AVERAGE] if len(over) > 1 else [])]
    pairs = [(name, baseline) for place, baseline in enumerate(chosen) for name in names if name not in chosen[place:]]
    controlled = [one for one in names if one not in chosen]
    pairs += [(one.name, row) for row in controlled for one in spec.variants if one.method == row != one.name]
    planned = tuple((name, baseline, task) for name, baseline in pairs for task in tasks)
    runs = (
        {key: Predictions.read(group["file"], clusters) for key, group in places.groupby(["task", "variant"])}
        if files
        else {}
    )
    found: dict[Key, Comparison] = {}
    improvements: dict[Key, Improvement] = {}
    for name, baseline, task in planned:
        if task == AVERAGE:
            one = _average([found.get((name, baseline, each)) for each in over])
        else:
            one = _compared(runs.get((task, name)), runs.get((task, baseline)), resamples)
        if one:
            found[name, baseline, task] = one
            on = over if task == AVERAGE else [task]
            ours, theirs = ([runs[each, row].scores for each in on] for row in (name, baseline))
            improvements[name, baseline, task] = probability_of_improvement(ours, theirs)
    count = len(spec.tasks) * len(names) * len(spec.seeds)
    grouped = tuple(task for task in spec.tasks if task in (clusters or {}))
    return Comparisons(spec, planned, found, improvements, margin, count - len(files), count, resamples, grouped)


def _bounded(one: Comparison) -> bool:
    """Return whether the runs tell the variance of the difference: not with one seed, nor with equal predictions."""
    return one.error > 0 and not one.examples_only


def _compared(variant: Predictions | None, baseline: Predictions | None, resamples: int) -> Comparison | None:
    if variant is None or baseline is None or not set(variant.seeds) & set(baseline.seeds):
        return None
    return compare(variant, baseline, resamples)


def _average(parts: Sequence[Comparison | None]) -> Comparison | None:
    known = [part for part in parts if part]
    return average(known) if len(known) == len(parts) and len({part.seeds for part in known}) == 1 else None


def _lines(task: str, line: Mapping[Hashable, Any] | None) -> Iterator[list[Cell]]:
    """Yield the line of a comparison, and one for a new task below an average."""
    yield list(_cells(task, line))
    if line is not None and not math.isnan(line["new_low"]):
        interval = Cell(f"{signed(line['new_low'])} to {signed(line['new_high'])}")
        yield [Cell("New task"), Cell(MISSING), interval, *[Cell(MISSING)] * (len(_HEADS) - 3)]


def _cells(task: str, line: Mapping[Hashable, Any] | None) -> Iterator[Cell]:
    yield Cell(AVERAGE.capitalize() if task == AVERAGE else get(task).title)
    if line is None or math.isnan(line["difference"]):
        yield from [Cell(MISSING)] * (len(_HEADS) - 1)
        return
    yield Cell(signed(line["difference"]))
    tested = not math.isnan(line["p"])
    yield Cell(f"{signed(line['low'])} to {signed(line['high'])}" if tested else MISSING)
    yield Cell(_p(line["p"]))
    yield Cell(line["verdict"] if tested else MISSING)
    yield Cell(MISSING if math.isnan(line["better"]) else f"{line['better']:.2f}")
    yield Cell(_points(line["detectable"]))
    yield Cell(_points(line["sampling_error"]))
    yield Cell(str(line["seeds"]))
    needed = line["seeds_needed"]
    yield Cell(MISSING if math.isnan(needed) else f">{MOST_SEEDS}" if math.isinf(needed) else f"{needed:.0f}")


def _points(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.1f}"


def _p(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
