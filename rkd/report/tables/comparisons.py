"""The table of comparisons, paired by seed and dev example.

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
from rkd.report.statistics.predictions import Predictions
from rkd.report.statistics.verdicts import holm
from rkd.report.tables.base import MISSING
from rkd.runs.paths import run_of
from rkd.specs.report import ReportSpec
from rkd.tasks import averaged, get

BASELINES = ("kd", "finetune")
_TRACED = ("row", "baseline", "task", "difference", "low", "high", "p", "p_holm", "sampling_error")


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of a report, independent of the format. Numbers in files are points.

    Attributes:
        planned: (variant, baseline, task) in the order of the table.
        found: comparisons that could be made, by (variant, baseline, task).
        missing: number of planned runs without predictions.
        runs: number of planned runs.
        resamples: number of bootstrap samples of the dev examples.
    """

    spec: ReportSpec
    planned: tuple[tuple[str, str, str], ...]
    found: dict[tuple[str, str, str], Comparison]
    missing: int
    runs: int
    resamples: int

    def frame(self) -> pd.DataFrame:
        """Return one comparison per row; p_holm is p corrected for all tests of the table."""
        names = ["row", "baseline", "task", "difference", "low", "high", "p", "p_holm"]
        names += ["sampling_error", "seeds", "examples"]
        lines = []
        for key, one in self.found.items():
            low, high = one.interval()
            points = [100 * value for value in (one.difference, low, high)]
            lines.append([*key, *points, one.p, math.nan, 100 * one.sampling_error, len(one.seeds), one.examples])
        frame = pd.DataFrame(lines, columns=names)
        return frame.assign(p_holm=holm(frame["p"].to_numpy(dtype=float)))

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
                    (Cell(f"{labels[key[0]]} − {labels[baseline]}"), *_cells(key[2], lines.get(key)))
                    for key in self.planned
                    if key[1] == baseline
                ),
            )
            for baseline in baselines
        )
        heads = ("Task", "Difference", "95 % interval", "p", "p (Holm)", "Dev error", "Seeds")
        return Grid((("", heads),), sections, self._caption(), tuple(map(Note, self._remarks())))

    def _caption(self) -> str:
        what = "Differences of GLUE dev primary scores (×100) between variants, paired by seed and dev example,"
        return f"{data_text(self.spec, what)} {model_text(self.spec)} {selection_text(self.spec)}"

    def _remarks(self) -> Iterator[str]:
        if self.missing:
            yield f"{self.missing} of {self.runs} runs are missing; a comparison without a common seed is {MISSING}."
        tests = sum(not math.isnan(one.p) for one in self.found.values())
        yield (
            "Interval and p: variance over seeds plus the covariance that all seeds share through the dev examples "
            f"({self.resamples} resamples); see docs/statistics.md. p (Holm): corrected for the table's {tests} tests."
        )
        yield (
            "Dev error: standard error of one run's score due to the sampling of dev examples. A difference below "
            "twice this value, seen in one run, is not evidence."
        )
        if any(one.examples_only for one in self.found.values()):
            yield "With one seed, interval and p reflect the dev examples only; the variance over seeds is unknown."
        if any(one.task == AVERAGE for one in self.found.values()):
            yield "Average: mean over tasks of the primary score, without WNLI and without custom tasks beside GLUE's."


def comparisons(
    spec: ReportSpec,
    predictions: Iterable[str],
    baselines: Sequence[str] = BASELINES,
    resamples: int = RESAMPLES,
) -> Comparisons:
    """Compare every variant with every baseline, and controls with what they modify, by task and on average.

    A pair of baselines is compared once. A variant is a control of the variant that has the name of its method. The
    average exists if the two variants have the same common seeds on every task.

    Args:
        spec: variants and tasks of the table.
        predictions: students' predictions.parquet files; runs may be missing.
        baselines: variants to compare with; those that are not in the spec are skipped.
        resamples: number of bootstrap samples of the dev examples.

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
    runs = {key: Predictions.read(group["file"]) for key, group in places.groupby(["task", "variant"])} if files else {}
    found: dict[tuple[str, str, str], Comparison] = {}
    for name, baseline, task in planned:
        if task == AVERAGE:
            one = _average([found.get((name, baseline, each)) for each in over])
        else:
            one = _compared(runs.get((task, name)), runs.get((task, baseline)), resamples)
        if one:
            found[name, baseline, task] = one
    count = len(spec.tasks) * len(names) * len(spec.seeds)
    return Comparisons(spec, planned, found, count - len(files), count, resamples)


def _compared(variant: Predictions | None, baseline: Predictions | None, resamples: int) -> Comparison | None:
    if variant is None or baseline is None or not set(variant.seeds) & set(baseline.seeds):
        return None
    return compare(variant, baseline, resamples)


def _average(parts: Sequence[Comparison | None]) -> Comparison | None:
    known = [part for part in parts if part]
    return average(known) if len(known) == len(parts) and len({part.seeds for part in known}) == 1 else None


def _cells(task: str, line: Mapping[Hashable, Any] | None) -> Iterator[Cell]:
    yield Cell(AVERAGE.capitalize() if task == AVERAGE else get(task).title)
    if line is None or math.isnan(line["difference"]):
        yield from [Cell(MISSING)] * 6
        return
    yield Cell(signed(line["difference"]))
    tested = not math.isnan(line["p"])
    yield Cell(f"{signed(line['low'])} to {signed(line['high'])}" if tested else MISSING)
    yield Cell(_p(line["p"]))
    yield Cell(_p(line["p_holm"]))
    yield Cell(MISSING if math.isnan(line["sampling_error"]) else f"{line['sampling_error']:.1f}")
    yield Cell(str(line["seeds"]))


def _p(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
