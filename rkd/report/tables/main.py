"""The main dev table: measured rows and, apart from them, published ones; CSV, Markdown, LaTeX, sidecar JSON.

Numbers are points (fractions × 100). Nothing is set in bold: the best of a few seeds' means is not a tested
difference.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from rkd.report.inputs import ReportSpec
from rkd.report.provenance import with_outputs
from rkd.report.rendering.grid import Grid, Note, Part, Section
from rkd.report.rendering.html import table_page, table_title
from rkd.report.statistics.intervals import Interval, seed_interval
from rkd.report.tables import literature
from rkd.tasks import Task, get
from rkd.tasks import averaged as averaged_names
from rkd.utils.files import atomic_path, atomic_write_text, write_json

AVERAGE = "average"
PRIMARY = "primary_score"
MISSING = "–"

_HEADERS = {
    "matthews_correlation": "MCC",
    "accuracy": "Acc",
    "f1": "F1",
    "pearson": "Pear",
    "spearmanr": "Spear",
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Bal. acc",
}
_SPLIT_HEADERS = {"matched": "m", "mismatched": "mm"}
_SELECTION = {"best": "best epoch on dev", "held-out": "best epoch on held-out training data", "last": "last epoch"}
_MARKS = {literature.PAIR_MEAN: "†", literature.UNSTATED: "‡"}
_MARK_NOTES = {
    "†": "one number for the task: the mean of its columns, as published",
    "‡": "one number for the task: the source does not say which metric it is",
}
_NAN = float("nan")


class Column(NamedTuple):
    """A column of scores: a metric on a dev split of a task."""

    task: Task
    split: str
    metric: str

    @property
    def part(self) -> str:
        """What distinguishes the split from the task's other dev splits: "matched", "mismatched" or ""."""
        return self.split.removeprefix("validation").strip("_")

    @property
    def name(self) -> str:
        """The metric's name in CSV and JSON, unique within the task: "f1", "accuracy_mismatched"."""
        return f"{self.metric}_{self.part}" if self.part else self.metric

    @property
    def header(self) -> str:
        """As papers head it: "F1", "mm"."""
        return _SPLIT_HEADERS.get(self.part, self.part) or _HEADERS.get(self.metric, self.metric)


@dataclass(frozen=True)
class Cell:
    """One number, in points; `mean` is NaN where a seed's score is undefined, `std` where it is unknown."""

    row: str
    kind: str  # "measured" or "published"
    task: str
    metric: str  # a column's name, "primary_score", or what a published number says of itself
    mean: float
    std: float = _NAN  # sample standard deviation (n - 1) over seeds
    low: float = _NAN  # 95 % interval of the mean over seeds (Student's t)
    high: float = _NAN
    n: int | None = None  # seeds; None where published
    source: str = ""
    files: tuple[str, ...] = ()  # metrics files behind a measured number
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table: its numbers by (task, metric)."""

    name: str
    label: str
    kind: str
    seeds: str
    cells: dict[tuple[str, str], Cell]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Everything the table says, before any format."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    remarks: tuple[str, ...]

    def of_kind(self, kind: str) -> list[Row]:
        """The rows that were measured, or the published ones."""
        return [row for row in self.rows if row.kind == kind]

    def frame(self) -> pd.DataFrame:
        """All numbers at full precision, one per line: row, kind, task, metric, mean, std, low, high, n, source."""
        names = ["row", "kind", "task", "metric", "mean", "std", "low", "high", "n", "source"]
        cells = [asdict(cell) for row in self.rows for cell in row.cells.values()]
        return pd.DataFrame(cells, columns=names).astype({"n": "Int64"})

    def sidecar(self) -> dict[str, object]:
        """Where each measured number comes from: the metrics files it is the mean of."""
        keys = ("row", "task", "metric", "mean", "std", "low", "high", "n", "files")
        cells = [asdict(cell) for row in self.of_kind("measured") for cell in row.cells.values()]
        return {
            "caption": self.caption,
            "unit": "points",
            "cells": [{key: cell[key] for key in keys} for cell in cells],
        }

    def grid(self) -> Grid:
        """The table as it is printed."""
        footnotes = list(dict.fromkeys(row.note for row in self.rows if row.note))
        groups = tuple((task.title, tuple(c.header for c in group)) for task, group in by_task(self.columns))
        ends = ("Avg.", "Seeds") if len(averaged(self.columns)) > 1 else ("Seeds",)
        sections = tuple(
            Section(kind.capitalize(), tuple(tuple(self._line(row, footnotes)) for row in rows))
            for kind in ("measured", "published")
            if (rows := self.of_kind(kind))
        )
        used = {part.mark for section in sections for line in section.lines for part in line}
        notes = [Note(text) for text in self.remarks]
        notes += [Note(text, mark) for mark, text in _MARK_NOTES.items() if mark in used]
        notes += [Note(text, str(number)) for number, text in enumerate(footnotes, 1)]
        return Grid((*groups, ("", ends)), sections, self.caption, tuple(notes))

    def _line(self, row: Row, footnotes: list[str]) -> Iterator[Part]:
        yield Part(row.label, mark=str(footnotes.index(row.note) + 1) if row.note else "")
        for task, group in by_task(self.columns):
            cells = [row.cells.get((task.name, column.name)) for column in group]
            whole = next((row.cells[task.name, what] for what in _MARKS if (task.name, what) in row.cells), None)
            if whole and not any(cells):
                yield _part(whole)._replace(span=len(group))
            else:
                yield from map(_part, cells)
        if len(averaged(self.columns)) > 1:
            yield _part(row.cells.get((AVERAGE, PRIMARY)))
        yield Part(row.seeds)


def main_table(spec: ReportSpec, metrics: pd.DataFrame) -> Table:
    """Teacher, variants and, for real data, published rows; by task and metric.

    A mean over seeds is NaN, shown as "–", if one seed's score is undefined: without its collapsed runs
    a method would look better than it is. The average is over the primary scores of all tasks but WNLI (its
    dev set contradicts its training set) and exists where every task has the same seeds.

    Args:
        spec: what the table is about.
        metrics: what `collect.read_metrics` returns. Runs may be missing.

    Raises:
        RkdError: `metrics` holds runs that the spec does not name.
    """
    spec.admit(metrics)
    shown = columns(spec.tasks)
    rows = [_measured_row(name, label, metrics, shown) for name, label in spec.labels().items()]
    if not spec.synthetic:
        rows += [row for chosen in literature.ROWS if (row := _published_row(chosen, shown)).cells]
    return Table(shown, tuple(rows), _caption(spec), tuple(_remarks(spec, metrics, rows)))


class Printable(Protocol):
    """Anything that can be written as a table."""

    def frame(self) -> pd.DataFrame:
        """All numbers at full precision."""

    def sidecar(self) -> dict[str, object]:
        """Where each number comes from."""

    def grid(self) -> Grid:
        """The table as it is printed."""


def write(
    table: Printable, folder: str | Path, stem: str = "main", origin: Mapping[str, object] | None = None
) -> list[Path]:
    """Write {stem}.csv, .md, .tex, .html and .json into `folder`, each replaced as a whole; returns the paths.

    The JSON is the sidecar: where each number comes from, under "printed" the table as it is printed, and `origin`,
    what `rkd.report.provenance.origin` tells, with the SHA-256 of the other files.
    """
    ends = ("csv", "md", "tex", "html", "json")
    csv, markdown, latex, html, sidecar = paths = [Path(folder) / f"{stem}.{end}" for end in ends]
    grid = table.grid()
    with atomic_path(csv) as temporary:
        table.frame().to_csv(temporary, index=False, lineterminator="\n")
    atomic_write_text(markdown, grid.markdown())
    atomic_write_text(latex, grid.latex(label=f"tab:{stem}"))
    atomic_write_text(html, table_page(grid, table_title(stem)))
    made = {"origin": with_outputs(origin, (csv, markdown, latex, html))} if origin else {}
    write_json(sidecar, {**table.sidecar(), "printed": asdict(grid), **made})
    return paths


def columns(tasks: Iterable[str]) -> tuple[Column, ...]:
    """The score columns of some tasks; F1 before accuracy, as papers print the pair.

    >>> [column.header for column in columns(["mrpc", "mnli"])]
    ['F1', 'Acc', 'm', 'mm']
    """
    return tuple(
        Column(task, split, metric)
        for task in map(get, tasks)
        for split in task.dev_splits
        for metric in sorted(task.metrics, key=lambda name: name != "f1")
    )


def by_task(shown: Sequence[Column]) -> list[tuple[Task, list[Column]]]:
    """Columns grouped by task, in order."""
    tasks = dict.fromkeys(column.task for column in shown)
    return [(task, [column for column in shown if column.task is task]) for task in tasks]


def averaged(shown: Sequence[Column]) -> list[Task]:
    """The tasks that the average is over, see `rkd.tasks.averaged`; printed if there are at least two."""
    tasks = [task for task, _ in by_task(shown)]
    names = averaged_names(task.name for task in tasks)
    return [task for task in tasks if task.name in names]


def _measured_row(name: str, label: str, metrics: pd.DataFrame, shown: Sequence[Column]) -> Row:
    runs = metrics[metrics["variant"] == name].sort_values("seed")
    cells: dict[tuple[str, str], Cell] = {}
    for task, group in by_task(shown):
        for column in (*group, Column(task, task.primary_split, PRIMARY)):
            place = (runs["task"] == task.name) & (runs["split"] == column.split)
            chosen = runs[place & (runs["metric"] == column.metric)]
            key = PRIMARY if column.metric == PRIMARY else column.name
            if not chosen.empty:
                cells[task.name, key] = _measured(name, task.name, key, chosen["value"], chosen["file"])
    over = [task.name for task in averaged(shown)]
    heads = runs[(runs["metric"] == PRIMARY) & runs["task"].isin(over)]
    by_seed = heads.pivot(index="seed", columns="task", values="value")
    if len(by_seed.columns) == len(over) > 1 and by_seed.size == len(heads):
        means = by_seed.mean(axis="columns", skipna=False)
        cells[AVERAGE, PRIMARY] = _measured(name, AVERAGE, PRIMARY, means, heads["file"])
    counts = sorted({cell.n for cell in cells.values() if cell.n})
    return Row(name, label, "measured", count_range(counts), cells)


def _measured(row: str, task: str, metric: str, fractions: pd.Series, files: pd.Series) -> Cell:
    mean, std, n, low, high = seed_interval(fractions.to_numpy(dtype=float) * 100)
    source = "metrics files listed in the sidecar JSON"
    return Cell(row, "measured", task, metric, mean, std, low, high, n, source, tuple(files))


def _published_row(chosen: literature.Published, shown: Sequence[Column]) -> Row:
    cells: dict[tuple[str, str], Cell] = {}

    def add(task: str, metric: str, value: float, source: str, mark: str = "") -> None:
        cells[task, metric] = Cell(chosen.label, "published", task, metric, float(value), source=source, mark=mark)

    for task, group in by_task(shown):
        names = {(column.split, column.metric): column.name for column in group}
        for score in literature.scores(chosen, task):
            name = names.get((score.split, score.metric), score.metric)
            add(task.name, name, score.value, score.source, _MARKS.get(score.metric, ""))
        # The primary score by our definition, else the mean of the pair that the source gives instead.
        parts = [cells.get((task.name, c.name)) for c in group if c.split == task.primary_split]
        values = [part.mean for part in parts if part]
        pair = cells.get((task.name, literature.PAIR_MEAN))
        if len(values) == len(parts):
            add(task.name, PRIMARY, float(np.mean(values)), "computed from the numbers of this row")
        elif pair:
            add(task.name, PRIMARY, pair.mean, pair.source, pair.mark)
    heads = [cells.get((task.name, PRIMARY)) for task in averaged(shown)]
    known = [head for head in heads if head]
    if len(known) == len(heads) > 1:
        mark = "†" if any(head.mark for head in known) else ""
        mean = float(np.mean([head.mean for head in known]))
        add(AVERAGE, PRIMARY, mean, "computed from the numbers of this row", mark)
    return Row(chosen.label, chosen.label, "published", chosen.runs, cells, chosen.note)


def _part(cell: Cell | None) -> Part:
    if cell is None or np.isnan(cell.mean):
        return Part(MISSING)
    return Part(f"{cell.mean:z.1f}", "" if np.isnan(cell.std) else f"{cell.std:.1f}", cell.mark)


def data_text(spec: ReportSpec, what: str = "GLUE dev scores (×100)") -> str:
    """A caption's sentence on the data, which tells synthetic ones and a user's own plainly."""
    glue = ", ".join(get(task).title for task in spec.tasks if not get(task).own)
    own = ", ".join(get(task).title for task in spec.tasks if get(task).own)
    if not (own or spec.synthetic):
        return f"{what} on {glue}."
    bare = what.replace("GLUE ", "")
    bare = f"{bare[0].upper()}{bare[1:]}"
    own = f"{own} (data of one's own, not GLUE)" if own else ""
    if not glue:
        return f"{bare} on {own}."
    own = f" and on {own}" if own else ""
    if not spec.synthetic:
        return f"{bare} on GLUE's {glue}{own}."
    return (
        f"{bare} on SYNTHETIC stand-ins for {glue}: generated text, not GLUE{own and ','}{own}. "
        f"{'These' if not own else 'The synthetic'} "
        "numbers say nothing about GLUE and are not comparable with published ones, which are left out."
    )


def score_part(score: Interval | None) -> Part:
    """Mean ± standard deviation in points, a dash where there is none."""
    if score is None or np.isnan(score.mean):
        return Part(MISSING)
    return Part(f"{score.mean:z.1f}", f"{score.sd:.1f}" if score.n > 1 else "")


def model_text(spec: ReportSpec) -> str:
    """A caption's sentence on the models."""
    return f"Teacher: {model_name(spec.teacher_model)}; student: {model_name(spec.student_model)}."


def _caption(spec: ReportSpec) -> str:
    seeds = ", ".join(map(str, spec.seeds))
    spread = (
        f"Measured rows: mean ± sample standard deviation over the seeds {seeds} (95 % intervals in the CSV)."
        if len(spec.seeds) > 1
        else f"Measured rows: one seed ({seeds}), so no deviation."
    )
    return f"{data_text(spec)} {model_text(spec)} {spread} {selection_text(spec)}"


def selection_text(spec: ReportSpec) -> str:
    """A caption's sentence on which epoch's model is scored."""
    teacher, student = (
        _SELECTION.get(rule, f"epoch by the rule '{rule}'") for rule in (spec.teacher_selection, spec.student_selection)
    )
    chosen = f"{student} for teacher and students" if teacher == student else f"{student} (teacher: {teacher})"
    optimistic = "; choosing on dev makes dev scores optimistic" if spec.student_selection == "best" else ""
    return f"Model scored: {chosen}{optimistic}."


def _remarks(spec: ReportSpec, metrics: pd.DataFrame, rows: Sequence[Row]) -> Iterator[str]:
    shown = columns(spec.tasks)
    found = len(metrics.drop_duplicates(["task", "variant", "seed"]))
    planned = len(by_task(shown)) * len(spec.labels()) * len(spec.seeds)
    if found < planned:
        yield f"{planned - found} of {planned} runs are missing; a cell without any run is {MISSING}."
    if metrics["value"].isna().any():
        yield f"{MISSING} also stands where a seed's score is undefined (constant predictions)."
    if len(averaged(shown)) > 1:
        out = ["WNLI"] * any(column.task.name == "wnli" for column in shown)
        out += ["own tasks"] * (any(c.task.own for c in shown) and not averaged(shown)[0].own)
        beside = f", {' and '.join(out)} left out" if out else ""
        yield (f"Avg.: mean over tasks of the primary score (MNLI: matched; two metrics: their mean){beside}.")
    yield "No score is marked as best: the table of comparisons tests the differences between rows."
    if any(row.kind == "published" for row in rows):
        yield (
            "Published rows are context, not a comparison: BERT-base teachers with 6-layer students of 66M "
            "parameters, others' code and seeds (– where not stated), while the rows above have "
            f"{model_name(spec.teacher_model)} → {model_name(spec.student_model)}."
        )


def model_name(name: str) -> str:
    """A model's name in print: the last part of a folder's absolute path, a hub name as it is."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def count_range(counts: Sequence[int]) -> str:
    """The least and the largest of ascending counts: "5", "1–3"."""
    if not counts:
        return MISSING
    return str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]}–{counts[-1]}"
