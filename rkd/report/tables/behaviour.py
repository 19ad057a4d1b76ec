"""The table of behaviour: what a classifier does beside its score.

For every task and row the share of the gap to the teacher that it closes, its agreement with the teacher, its negative
log-likelihood and its calibration error, on dev.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rkd.metrics.facts import PROBABILISTIC
from rkd.report.captions import data_text, model_text, selection_text
from rkd.report.inputs import read_metrics
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.statistics.comparison import RESAMPLES
from rkd.report.statistics.gap import Gap, gap_closed
from rkd.report.statistics.intervals import Interval, seed_interval
from rkd.report.statistics.predictions import Predictions
from rkd.report.tables.base import MISSING, count_range
from rkd.runs.paths import run_of
from rkd.specs.jobs import TEACHER
from rkd.specs.report import ReportSpec
from rkd.tasks import get

BASELINE = "finetune"
MEASURES = ("agreement", *PROBABILISTIC)
_HEADS = ("Gap closed, %", "95 % interval", "Agreement, %", "NLL", "ECE, %", "of which noise", "Seeds")
_SCALES = {"agreement": 100.0, "nll": 1.0, "calibration_error": 100.0, "calibration_noise": 100.0}
Key = tuple[str, str]


@dataclass(frozen=True)
class Behaviour:
    """Measures by (row, task) over seeds, gaps likewise, and the predictions files behind them.

    Attributes:
        measures: by row and task the interval of each of MEASURES; agreement and calibration in percent.
        gaps: those of the rows between BASELINE and the teacher.
    """

    spec: ReportSpec
    measures: Mapping[Key, Mapping[str, Interval]]
    gaps: Mapping[Key, Gap]
    files: Mapping[Key, tuple[str, ...]]

    def frame(self) -> pd.DataFrame:
        """Return one row and task per line; shares in percent, the likelihood in nats."""
        lines = []
        for (row, task), found in self.measures.items():
            gap = self.gaps.get((row, task))
            closed = [math.nan] * 3 if gap is None else [100 * value for value in (gap.closed, *gap.interval())]
            line = dict(zip(("gap_closed", "gap_low", "gap_high"), closed, strict=True))
            for name in MEASURES:
                line |= {name: found[name].mean, f"{name}_std": found[name].sd}
            lines.append({"row": row, "task": task} | line | {"seeds": len(self.files[row, task])})
        names = [f"{name}{end}" for name in MEASURES for end in ("", "_std")]
        columns = ["row", "task", "gap_closed", "gap_low", "gap_high", *names, "seeds"]
        return pd.DataFrame(lines, columns=columns)

    def sidecar(self) -> dict[str, object]:
        """Return the predictions files behind each line."""
        cells = [
            {**line, "files": list(self.files[line["row"], line["task"]])} for line in self.frame().to_dict("records")
        ]
        return {"caption": self._caption(), "unit": "percent; nats", "cells": cells}

    def grid(self) -> Grid:
        """Return the printed table: a section per task, a line per row."""
        sections = [
            Section(get(task).title, tuple((Cell(label), *self._line(row, task)) for row, label in self._labels()))
            for task in self.spec.tasks
        ]
        return Grid((("", _HEADS),), tuple(sections), self._caption(), tuple(self._notes()))

    def _labels(self) -> Iterable[tuple[str, str]]:
        return self.spec.labels().items()

    def _line(self, row: str, task: str) -> Iterator[Cell]:
        found, gap = self.measures.get((row, task)), self.gaps.get((row, task))
        if gap is None:
            yield from (Cell(MISSING), Cell(MISSING))
        elif math.isnan(gap.closed):
            yield from (Cell("undefined"), Cell(MISSING))
        else:
            low, high = (100 * end for end in gap.interval())
            yield from (Cell(f"{100 * gap.closed:z.0f}"), Cell(f"{low:z.0f} to {high:z.0f}".replace("-", "−")))
        for name in MEASURES:
            one = None if found is None else found[name]
            digits = 3 if name == "nll" else 1
            if one is None or math.isnan(one.mean):
                yield Cell(MISSING)
            elif name == "calibration_noise":
                yield Cell(f"{one.mean:.{digits}f}")
            else:
                yield Cell(f"{one.mean:.{digits}f}", f"{one.sd:.{digits}f}" if one.n > 1 else "")
        yield Cell(count_range([len(self.files[row, task])] if found else []))

    def _caption(self) -> str:
        what = "Behaviour on GLUE {split} beside the score,"
        return f"{data_text(self.spec, what)} {model_text(self.spec)} {selection_text(self.spec)}"

    def _notes(self) -> Iterator[Note]:
        names = self.spec.labels()
        if BASELINE in names:
            yield Note(
                f"Gap closed: (score − {names[BASELINE]}) / (teacher − {names[BASELINE]}), with Fieller's interval; "
                "undefined where the teacher is not significantly better: the gap may be noise."
            )
        yield Note("Agreement: examples on which the student predicts what the teacher of the same seed does.")
        yield Note(
            "NLL: negative log-likelihood of the label, in nats. ECE: expected calibration error in 15 bins of equal "
            "size; a perfectly calibrated model with the same confidences has the value in the next column."
        )
        if any(get(task).regression for task in self.spec.tasks):
            yield Note(f"Not defined for regression: {MISSING}.")
        if any(get(task).multi_label for task in self.spec.tasks):
            yield Note(f"NLL and ECE are those of one label per text; {MISSING} where a text may have several.")


def behaviour(
    spec: ReportSpec,
    predictions: Iterable[str],
    metrics: Iterable[str],
    resamples: int = RESAMPLES,
    clusters: Mapping[str, str] | None = None,
) -> Behaviour:
    """Measure the behaviour of every row on every task.

    Args:
        spec: variants and tasks of the table.
        predictions: predictions.parquet files of teachers and students; runs may be missing.
        metrics: their metrics files, which have likelihood and calibration.
        resamples: number of bootstrap samples of the dev examples, for the gaps.
        clusters: files with groups of related dev examples by task, which are resampled together.

    Raises:
        RkdError: a file is of a run that the spec does not name, or files cannot be paired.
    """
    files = [str(file) for file in predictions]
    places = pd.DataFrame([{**run_of(file).columns(), "file": file} for file in files])
    if files:
        spec.admit(places)
    runs = (
        {key: Predictions.read(group["file"], clusters) for key, group in places.groupby(["variant", "task"])}
        if files
        else {}
    )
    scored = read_metrics(metrics)
    spec.admit(scored)
    measures: dict[Key, dict[str, Interval]] = {}
    gaps: dict[Key, Gap] = {}
    for task in spec.tasks:
        teacher, baseline = runs.get((TEACHER, task)), runs.get((BASELINE, task))
        for row in spec.labels():
            if (own := runs.get((row, task))) is None:
                continue
            measures[row, task] = _measures(own, None if row == TEACHER else teacher, scored)
            if row in (TEACHER, BASELINE) or baseline is None or teacher is None:
                continue
            if {*own.seeds} & {*baseline.seeds} & {*teacher.seeds}:
                gaps[row, task] = gap_closed(own, baseline, teacher, resamples)
    return Behaviour(spec, measures, gaps, {key: runs[key].files for key in measures})


def _measures(own: Predictions, teacher: Predictions | None, scored: pd.DataFrame) -> dict[str, Interval]:
    found: dict[str, Sequence[float]] = {name: [math.nan] for name in MEASURES}
    runs = scored[(scored["task"] == own.task.name) & (scored["variant"] == own.variant)]
    for name in PROBABILISTIC:
        if values := runs[runs["metric"] == name].sort_values("seed")["value"].to_list():
            found[name] = values
    shared = [] if teacher is None else [seed for seed in own.seeds if seed in teacher.seeds]
    if teacher is not None and shared and not own.task.regression:
        same = own.of(shared).predictions == teacher.of(shared).predictions
        found["agreement"] = same.mean(axis=1).tolist()
    return {name: seed_interval(_SCALES[name] * np.asarray(values)) for name, values in found.items()}
