"""The main table: measured rows and, in a separate section, rows from the literature.

Numbers are points (fractions × 100). No number is bold, because the highest mean of a few seeds is not a tested
difference.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from rkd.metrics.facts import METRICS
from rkd.report.captions import data_text, model_text, selection_text
from rkd.report.inputs import PRIMARY
from rkd.report.names import AVERAGE, model_name
from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.statistics.intervals import seed_interval
from rkd.report.tables import literature
from rkd.report.tables.base import MISSING, count_range
from rkd.specs.report import ReportSpec
from rkd.tasks import Task, get
from rkd.tasks import averaged as averaged_names

_SPLIT_HEADERS = {"matched": "m", "mismatched": "mm"}
_MARKS = {literature.PAIR_MEAN: "†", literature.UNSTATED: "‡"}
_MARK_NOTES = {
    "†": "one number for the task: the mean of its columns, as published",
    "‡": "one number for the task: the source does not say which metric it is",
}
_NAN = float("nan")


class Column(NamedTuple):
    """A column of scores: a metric on a split of a task."""

    task: Task
    split: str
    metric: str

    @property
    def part(self) -> str:
        """The suffix that distinguishes the task's splits: "matched", "mismatched" or ""."""
        return self.split.removeprefix("validation").removeprefix("test").strip("_")

    @property
    def name(self) -> str:
        """The metric's name in CSV and JSON, unique within the task: "f1", "accuracy_mismatched"."""
        return f"{self.metric}_{self.part}" if self.part else self.metric

    @property
    def header(self) -> str:
        """The column header that papers use, such as "F1" or "mm"."""
        return _SPLIT_HEADERS.get(self.part, self.part) or METRICS[self.metric].header


@dataclass(frozen=True)
class Score:
    """One score in points; `mean` is NaN if the score of any seed is undefined, `std` is NaN if unknown."""

    row: str
    kind: str  # "measured" or "literature"
    task: str
    metric: str  # a column's name, "primary_score", `PAIR_MEAN` or `UNSTATED`
    mean: float
    std: float = _NAN  # sample standard deviation (n - 1) over seeds
    low: float = _NAN  # 95 % interval of the mean over seeds (Student's t)
    high: float = _NAN
    n: int | None = None  # number of seeds; None for literature
    source: str = ""
    files: tuple[str, ...] = ()  # metrics files behind a measured score
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the table: its scores by (task, metric)."""

    name: str
    label: str
    kind: str
    seeds: str
    scores: dict[tuple[str, str], Score]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """The content of the table, independent of the format."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    remarks: tuple[str, ...]

    def of_kind(self, kind: str) -> list[Row]:
        """Return the rows of one kind, "measured" or "literature"."""
        return [row for row in self.rows if row.kind == kind]

    def frame(self) -> pd.DataFrame:
        """Return one score per row at full precision: row, kind, task, metric, mean, std, low, high, n, source."""
        names = ["row", "kind", "task", "metric", "mean", "std", "low", "high", "n", "source"]
        scores = [asdict(score) for row in self.rows for score in row.scores.values()]
        return pd.DataFrame(scores, columns=names).astype({"n": "Int64"})

    def sidecar(self) -> dict[str, object]:
        """Return the metrics files behind each measured mean."""
        keys = ("row", "task", "metric", "mean", "std", "low", "high", "n", "files")
        scores = [asdict(score) for row in self.of_kind("measured") for score in row.scores.values()]
        return {
            "caption": self.caption,
            "unit": "points",
            "cells": [{key: score[key] for key in keys} for score in scores],
        }

    def grid(self) -> Grid:
        """Return the printed table."""
        footnotes = list(dict.fromkeys(row.note for row in self.rows if row.note))
        groups = tuple((task.title, tuple(c.header for c in group)) for task, group in by_task(self.columns))
        ends = ("Avg.", "Seeds") if len(averaged(self.columns)) > 1 else ("Seeds",)
        sections = tuple(
            Section(kind.capitalize(), tuple(tuple(self._line(row, footnotes)) for row in rows))
            for kind in ("measured", "literature")
            if (rows := self.of_kind(kind))
        )
        used = {cell.mark for section in sections for line in section.lines for cell in line}
        notes = [Note(text) for text in self.remarks]
        notes += [Note(text, mark) for mark, text in _MARK_NOTES.items() if mark in used]
        notes += [Note(text, str(number)) for number, text in enumerate(footnotes, 1)]
        return Grid((*groups, ("", ends)), sections, self.caption, tuple(notes))

    def _line(self, row: Row, footnotes: list[str]) -> Iterator[Cell]:
        yield Cell(row.label, mark=str(footnotes.index(row.note) + 1) if row.note else "")
        for task, group in by_task(self.columns):
            scores = [row.scores.get((task.name, column.name)) for column in group]
            whole = next((row.scores[task.name, what] for what in _MARKS if (task.name, what) in row.scores), None)
            if whole and not any(scores):
                yield _cell(whole)._replace(span=len(group))
            else:
                yield from map(_cell, scores)
        if len(averaged(self.columns)) > 1:
            yield _cell(row.scores.get((AVERAGE, PRIMARY)))
        yield Cell(row.seeds)


def main_table(spec: ReportSpec, metrics: pd.DataFrame) -> Table:
    """Build the table of teacher and variants and, for real data, rows from the literature.

    A mean over seeds is NaN, shown as "–", if the score of any seed is undefined: a method would look better than it is
    if collapsed runs were skipped. The average is over the primary scores of all tasks but WNLI, because its
    dev set contradicts its training set. It exists if every task has the same seeds.

    Args:
        spec: variants and tasks of the table.
        metrics: the result of `rkd.report.inputs.read_metrics`; runs may be missing.

    Raises:
        RkdError: `metrics` has runs that the spec does not name.
    """
    spec.admit(metrics)
    shown = columns(spec.tasks)
    rows = [_measured_row(name, label, metrics, shown) for name, label in spec.labels().items()]
    if not spec.synthetic:
        rows += [row for entry in literature.ENTRIES if (row := _literature_row(entry, shown)).scores]
    return Table(shown, tuple(rows), _caption(spec), tuple(_remarks(spec, metrics, rows)))


def columns(tasks: Iterable[str]) -> tuple[Column, ...]:
    """Return the score columns of some tasks, with F1 before accuracy, as in papers.

    >>> [column.header for column in columns(["mrpc", "mnli"])]
    ['F1', 'Acc', 'm', 'mm']
    """
    return tuple(
        Column(task, split, metric)
        for task in map(get, tasks)
        for split in task.compared_splits
        for metric in sorted(task.metrics, key=lambda name: name != "f1")
    )


def by_task(shown: Sequence[Column]) -> list[tuple[Task, list[Column]]]:
    """Return the columns grouped by task, in order."""
    tasks = dict.fromkeys(column.task for column in shown)
    return [(task, [column for column in shown if column.task is task]) for task in tasks]


def averaged(shown: Sequence[Column]) -> list[Task]:
    """Return the tasks of the average, see `rkd.tasks.averaged`; it is printed if there are at least two."""
    tasks = [task for task, _ in by_task(shown)]
    names = averaged_names(task.name for task in tasks)
    return [task for task in tasks if task.name in names]


def _measured_row(name: str, label: str, metrics: pd.DataFrame, shown: Sequence[Column]) -> Row:
    runs = metrics[metrics["variant"] == name].sort_values("seed")
    scores: dict[tuple[str, str], Score] = {}
    for task, group in by_task(shown):
        for column in (*group, Column(task, task.primary_split, PRIMARY)):
            place = (runs["task"] == task.name) & (runs["split"] == column.split)
            chosen = runs[place & (runs["metric"] == column.metric)]
            key = PRIMARY if column.metric == PRIMARY else column.name
            if not chosen.empty:
                scores[task.name, key] = _measured_score(name, task.name, key, chosen["value"], chosen["file"])
    over = [task.name for task in averaged(shown)]
    primary = runs[(runs["metric"] == PRIMARY) & runs["task"].isin(over)]
    by_seed = primary.pivot(index="seed", columns="task", values="value")
    if len(by_seed.columns) == len(over) > 1 and by_seed.size == len(primary):
        means = by_seed.mean(axis="columns", skipna=False)
        scores[AVERAGE, PRIMARY] = _measured_score(name, AVERAGE, PRIMARY, means, primary["file"])
    counts = sorted({score.n for score in scores.values() if score.n})
    return Row(name, label, "measured", count_range(counts), scores)


def _measured_score(row: str, task: str, metric: str, fractions: pd.Series, files: pd.Series) -> Score:
    mean, std, n, low, high = seed_interval(fractions.to_numpy(dtype=float) * 100)
    source = "metrics files listed in the sidecar JSON"
    return Score(row, "measured", task, metric, mean, std, low, high, n, source, tuple(files))


def _literature_row(entry: literature.Entry, shown: Sequence[Column]) -> Row:
    scores: dict[tuple[str, str], Score] = {}

    def add(task: str, metric: str, value: float, source: str, mark: str = "") -> None:
        scores[task, metric] = Score(entry.label, "literature", task, metric, float(value), source=source, mark=mark)

    for task, group in by_task(shown):
        names = {(column.split, column.metric): column.name for column in group}
        for score in literature.scores(entry, task):
            name = names.get((score.split, score.metric), score.metric)
            add(task.name, name, score.value, score.source, _MARKS.get(score.metric, ""))
        # The primary score by this project's definition, or else the mean of the pair that the source gives.
        of_split = [scores.get((task.name, c.name)) for c in group if c.split == task.primary_split]
        values = [one.mean for one in of_split if one]
        pair = scores.get((task.name, literature.PAIR_MEAN))
        if len(values) == len(of_split):
            add(task.name, PRIMARY, float(np.mean(values)), "computed from the numbers of this row")
        elif pair:
            add(task.name, PRIMARY, pair.mean, pair.source, pair.mark)
    primary = [scores.get((task.name, PRIMARY)) for task in averaged(shown)]
    known = [score for score in primary if score]
    if len(known) == len(primary) > 1:
        mark = "†" if any(score.mark for score in known) else ""
        mean = float(np.mean([score.mean for score in known]))
        add(AVERAGE, PRIMARY, mean, "computed from the numbers of this row", mark)
    return Row(entry.label, entry.label, "literature", entry.runs, scores, entry.note)


def _cell(cell: Score | None) -> Cell:
    if cell is None or np.isnan(cell.mean):
        return Cell(MISSING)
    return Cell(f"{cell.mean:z.1f}", "" if np.isnan(cell.std) else f"{cell.std:.1f}", cell.mark)


def _caption(spec: ReportSpec) -> str:
    seeds = ", ".join(map(str, spec.seeds))
    spread = (
        f"Measured rows: mean ± sample standard deviation over the seeds {seeds} (95 % intervals in the CSV)."
        if len(spec.seeds) > 1
        else f"Measured rows: one seed ({seeds}), so no deviation."
    )
    return f"{data_text(spec)} {model_text(spec)} {spread} {selection_text(spec)}"


def _remarks(spec: ReportSpec, metrics: pd.DataFrame, rows: Sequence[Row]) -> Iterator[str]:
    shown = columns(spec.tasks)
    found = len(metrics.drop_duplicates(["task", "variant", "seed"]))
    planned = len(by_task(shown)) * len(spec.labels()) * len(spec.seeds)
    if found < planned:
        yield f"{planned - found} of {planned} runs are missing; a cell without any run is {MISSING}."
    if metrics["value"].isna().any():
        yield f"{MISSING} also marks means with an undefined score of a seed (constant predictions)."
    if len(averaged(shown)) > 1:
        out = ["WNLI"] * any(column.task.name == "wnli" for column in shown)
        out += ["custom tasks"] * (any(c.task.own for c in shown) and not averaged(shown)[0].own)
        beside = f", without {' and '.join(out)}" if out else ""
        yield (f"Avg.: mean over tasks of the primary score (MNLI: matched; two metrics: their mean){beside}.")
    yield "No score is marked as best: the table of comparisons tests the differences between variants."
    if any(row.kind == "literature" for row in rows):
        yield (
            "Rows from the literature are context, not a comparison: BERT-base teachers with 6-layer students of 66M "
            "parameters, other code and other seeds (– where not stated). The rows above have "
            f"{model_name(spec.teacher_model)} → {model_name(spec.student_model)}."
        )
