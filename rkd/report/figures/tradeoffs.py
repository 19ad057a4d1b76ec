"""Trade-off figures: score against training time, and against latency."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rkd.errors import RkdError
from rkd.report.captions import split_text
from rkd.report.figures.style import (
    HOUSE_STYLE,
    bars,
    bars_text,
    frame_scores,
    legend,
    name_panel,
    note,
    panels,
    variant_styles,
)
from rkd.report.inputs import PRIMARY
from rkd.report.names import score_name
from rkd.report.statistics.intervals import Interval, seed_interval
from rkd.runs.paths import run_of
from rkd.runs.record import read_record
from rkd.specs.jobs import TEACHER
from rkd.specs.report import ReportSpec
from rkd.tasks import get

STUDENT = "student"  # the row of the efficiency table that applies to all students
_LATENCY_NOTE = "Latency: median of one example at a time; points of models of the same size are drawn side by side."
Horizontal = Callable[[str, str], float]  # (variant, task) → place on the horizontal axis, NaN where unknown


def read_seconds(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read the wall-clock seconds of training runs from their run.json.

    Returns:
        A frame with the columns task, variant, seed, seconds, processor and file.

    Raises:
        RkdError: a file is missing, broken, not in a run's folder, or has no seconds.
    """
    lines = []
    for file in map(str, paths):
        record = read_record(file, "seconds")
        seconds = record["seconds"]
        if not seconds > 0:
            raise RkdError(f"{file}: seconds: found {seconds!r}; expected a number above 0")
        device = record.get("gpu") or record.get("processor") or "unknown"
        lines.append({**run_of(file).columns(), "seconds": float(seconds), "processor": device, "file": file})
    return pd.DataFrame(lines, columns=["task", "variant", "seed", "seconds", "processor", "file"])


def read_efficiency(path: str | Path) -> pd.DataFrame:
    """Read the CSV of the efficiency table, which has at least the columns row, task and latency_ms.

    Raises:
        RkdError: the file is missing or broken, lacks a column, or has latencies that are not numbers.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise RkdError(f"{path}: cannot be read as CSV: {' '.join(str(error).split())}") from None
    if missing := [name for name in ("row", "task", "latency_ms") if name not in table.columns]:
        raise RkdError(f"{path}: no column '{missing[0]}'; found {', '.join(table.columns)}")
    if not pd.api.types.is_numeric_dtype(table["latency_ms"]):
        raise RkdError(f"{path}: column 'latency_ms': found {table['latency_ms'].dtype}; expected numbers")
    return table


def cost_figure(spec: ReportSpec, metrics: pd.DataFrame, seconds: pd.DataFrame) -> Figure:
    """Draw the score against the student's training time: a panel per task, a point per variant.

    Args:
        spec: variants and tasks of the figure.
        metrics: the result of `rkd.report.inputs.read_metrics`; runs may be missing.
        seconds: the result of `read_seconds`; runs may be missing.

    Raises:
        RkdError: no variant has both a score and a time, or the spec does not name a run.
    """
    spec.admit(metrics)
    spec.admit(seconds)
    means = seconds.groupby(["variant", "task"])["seconds"].mean()
    students = metrics[metrics["variant"] != TEACHER]
    processors = sorted(set(seconds["processor"]))
    remark = (
        "Seconds of a whole student run, with dev evaluations, without the teacher's fine-tuning; mean over seeds. "
        f"Measured on {', '.join(processors)}{'; machines differ: not comparable' if len(processors) > 1 else ''}."
    )
    place: Horizontal = lambda variant, task: float(means.get((variant, task), math.nan))  # noqa: E731
    return _scatter(spec, students, place, "Training time, s", remark)


def latency_figure(spec: ReportSpec, metrics: pd.DataFrame, efficiency: pd.DataFrame) -> Figure:
    """Draw the score against latency at batch size 1: a panel per task, points for the variants and the teacher.

    Args:
        spec: variants and tasks of the figure.
        metrics: the result of `rkd.report.inputs.read_metrics`; runs may be missing.
        efficiency: the result of `read_efficiency`. A variant uses the row with its name, or else the row "student".

    Raises:
        RkdError: no variant has both a score and a latency, or the spec does not name a run.
    """
    spec.admit(metrics)
    known = efficiency.set_index(["row", "task"])["latency_ms"]

    def place(variant: str, task: str) -> float:
        own = known.get((variant, task))
        shared = None if variant == TEACHER else known.get((STUDENT, task))
        return float(own if own is not None else math.nan if shared is None else shared)

    return _scatter(spec, metrics, place, "Latency at batch size 1, ms", _LATENCY_NOTE)


def _scatter(spec: ReportSpec, metrics: pd.DataFrame, place: Horizontal, xlabel: str, remark: str) -> Figure:
    primary = metrics[metrics["metric"] == PRIMARY]
    points = [
        (
            str(task),
            str(variant),
            place(str(variant), str(task)),
            seed_interval(100 * runs["value"].to_numpy(dtype=float)),
        )
        for (task, variant), runs in primary.groupby(["task", "variant"])
    ]
    points = [point for point in points if math.isfinite(point[2]) and math.isfinite(point[3].mean)]
    if not points:
        raise RkdError(f"{xlabel}: no variant has both a score and a value on this axis; expected at least one")
    tasks = [task for task in spec.tasks if task in {point[0] for point in points}]
    looks = variant_styles([variant.name for variant in spec.variants])
    looks[TEACHER] = {"color": "#333333", "marker": "*"}
    with style.context(HOUSE_STYLE):
        figure, places = panels(len(tasks), xlabel)
        clipped = False
        for task, axes in zip(tasks, places, strict=True):
            mine = {variant: (x, score) for found, variant, x, score in points if found == task}
            spread_out = _spread({name: mine[name] for name in spec.labels() if name in mine})
            for name, (x, score) in spread_out.items():
                look: dict[str, Any] = {key: looks[name][key] for key in ("color", "marker")}
                look |= {"ms": 8 if name == TEACHER else 5.5, "label": spec.labels()[name]}
                bars(axes, [x], [score], ls="none", **look)
            places_of, scores = zip(*spread_out.values(), strict=True)
            clipped |= frame_scores(axes, places_of, scores, [looks[name]["color"] for name in spread_out])
            _frame(axes, task)
        legend(figure, places, handlelength=1.2)
        spread = bars_text([point[3] for point in points], clipped)
        what = f"{split_text(tasks).capitalize()} primary score × 100."
        note(figure, f"{what} {spread} {remark} Better is higher and further left.", spec.heading)
    return figure


def _spread(points: dict[str, tuple[float, Interval]]) -> dict[str, tuple[float, Interval]]:
    """Set points with the same x side by side around it, in steps of 2.5 % of the axis."""
    step = 0.025 * max(x for x, _ in points.values())
    result = {}
    for name, (x, score) in points.items():
        together = [other for other, (place, _) in points.items() if place == x]
        result[name] = x + step * (together.index(name) - (len(together) - 1) / 2), score
    return result


def _frame(axes: Axes, task: str) -> None:
    """Start the horizontal axis at zero, so that distances are proportional to cost."""
    axes.set_xlim(left=0, right=1.12 * axes.dataLim.x1)
    name_panel(axes, get(task))
    axes.set_ylabel(score_name(get(task)))
