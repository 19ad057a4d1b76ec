"""Forest plot: differences between two variants by task with intervals, their average, and the margin as a band."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from rkd.errors import RkdError
from rkd.report.captions import split_text
from rkd.report.figures.style import COLOURS, HOUSE_STYLE, WIDTH, legend, new_figure, note
from rkd.report.names import AVERAGE
from rkd.report.tables.comparisons import BASELINES
from rkd.specs.report import ReportSpec
from rkd.tasks import get
from rkd.utils.escape import one_line

NEW_TASK = "new task"
_COLUMNS = ("variant", "baseline", "task", "difference", "low", "high")
_Line = Mapping[Any, Any]
_LOOKS: dict[Any, dict[str, Any]] = {  # markers differ as well as colours, for black-and-white prints
    "better": {"color": COLOURS[0], "marker": ">"},
    "worse": {"color": COLOURS[1], "marker": "<"},
    "equivalent": {"color": COLOURS[2], "marker": "s"},
    "open": {"color": "#777777", "marker": "o"},
}
_PLAIN: dict[str, Any] = {"color": COLOURS[0], "marker": "o"}
_NEW: dict[str, Any] = {"color": "#333333", "linewidth": 3.0}
_BAND = "#E9E9E9"
_LINE_HEIGHT = 0.19  # inches per task


def read_comparisons(path: str | Path) -> pd.DataFrame:
    """Read comparisons.csv as the differences that `forest` draws.

    Of the pairs, those with the second baseline are left to the table where there are others. The interval for a new
    task becomes a line of its own.

    Raises:
        RkdError: the file is missing or broken, or lacks a column.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        raise RkdError(f"{path}: cannot be read as CSV: {one_line(str(error))}") from None
    needed = ("row", *_COLUMNS[1:], "verdict", "new_low", "new_high")
    if missing := [name for name in needed if name not in table]:
        raise RkdError(f"{path}: no column '{missing[0]}'; found {', '.join(table.columns)}")
    table = table.rename(columns={"row": "variant"})
    others = table[table["baseline"] != BASELINES[1]]
    table = others if len(others) else table
    new = table.dropna(subset=["new_low"]).assign(task=NEW_TASK, difference=math.nan, verdict=None)
    new = new.assign(low=new["new_low"], high=new["new_high"])
    drawn = pd.concat([table, new], ignore_index=True) if len(new) else table
    # "equivalent, slightly better" is drawn as equivalent.
    return drawn.assign(verdict=drawn["verdict"].str.split(",").str[0])[[*_COLUMNS, "verdict"]]


def forest(spec: ReportSpec, differences: pd.DataFrame, margin: float) -> Figure:
    """Draw differences by task with intervals: a panel per pair of variants, all on the same scale.

    Tasks are in the order of the spec. The average is below them, as a diamond that spans its interval. A dotted line
    extends the average upwards through the tasks. The interval for a new task is a bar without a point. An interval
    that is much longer than the others is clipped at the frame and ends in an arrow.

    Args:
        spec: variants and tasks of the figure.
        differences: one row per comparison. Columns: variant and baseline (names of variants), task (a task's name,
            `AVERAGE` or `NEW_TASK`), difference, low and high in points, and optionally verdict (better, worse,
            equivalent or open), which determines colour and marker. Rows without an interval (NaN) are drawn as
            points. Rows with neither difference nor interval are skipped.
        margin: equivalence margin, in points.

    Raises:
        RkdError: there are no differences, a column is missing, a comparison occurs twice, or the spec has no such
            variant or task.
    """
    if missing := [name for name in _COLUMNS if name not in differences]:
        raise RkdError(f"forest plot: no column '{missing[0]}'; found {', '.join(map(str, differences.columns))}")
    drawn = differences.dropna(subset=["difference", "low"], how="all")
    if drawn.empty:
        raise RkdError("forest plot: no differences; expected at least one")
    _admit(spec, drawn)
    tasks = [name for name in (*spec.tasks, AVERAGE, NEW_TASK) if name in set(drawn["task"])]
    pairs = list(drawn.groupby(["variant", "baseline"], sort=False))
    verdicts = [name for name in _LOOKS if "verdict" in drawn and name in set(drawn["verdict"])]
    limit = _limit(drawn, margin)
    with style.context(HOUSE_STYLE):
        figure, places = _panels(len(pairs), len(tasks))
        for axes, ((variant, baseline), lines) in zip(places, pairs, strict=True):
            _panel(axes, tasks, {str(line["task"]): line for line in lines.to_dict("records")}, margin, limit)
            axes.set_title(" − ".join(spec.labels()[str(name)] for name in (variant, baseline)))
        for name in verdicts:  # fixed order in the legend
            places[0].plot([], [], linestyle="none", markersize=5.5, label=name.capitalize(), **_LOOKS[name])
        legend(figure, places, handlelength=1.5)
        note(figure, _remarks(drawn, margin, limit, split_text(spec.tasks)), spec.heading)
    return figure


def _admit(spec: ReportSpec, drawn: pd.DataFrame) -> None:
    allowed: dict[str, Sequence[str]] = {"variant": tuple(spec.labels()), "baseline": tuple(spec.labels())}
    allowed["task"] = (*spec.tasks, AVERAGE, NEW_TASK)
    if "verdict" in drawn:
        allowed["verdict"] = tuple(_LOOKS)
    for column, values in allowed.items():
        if unknown := [value for value in drawn[column].dropna() if value not in values]:
            raise RkdError(f"forest plot: {column} is '{unknown[0]}'; expected one of {', '.join(values)}")
    if drawn.duplicated(["variant", "baseline", "task"]).any():
        raise RkdError("forest plot: a comparison occurs twice; expected one line per variant, baseline and task")


def _limit(drawn: pd.DataFrame, margin: float) -> float:
    """Return the half-width of the axis: it fits all differences, the margin, and all but very long intervals."""
    # Intervals up to twice the median distance of their ends from 0 fit into the frame.
    reach = drawn[["low", "high"]].abs().max(axis="columns").dropna()
    ends = min(reach.max(), 2 * reach.median()) if len(reach) else 0.0
    return 1.08 * max(drawn["difference"].abs().max(), 2 * margin, ends)


def _panels(count: int, lines: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = new_figure(WIDTH, rows * (_LINE_HEIGHT * max(lines, 2) + 0.45) + 0.25)
    places = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for place, axes in enumerate(places[:count]):
        if place + columns >= count:
            axes.set_xlabel("Difference, points")
            axes.tick_params(labelbottom=True)
    for axes in places[count:]:
        axes.remove()
    return figure, places[:count]


def _panel(axes: Axes, tasks: Sequence[str], lines: Mapping[str, _Line], margin: float, limit: float) -> None:
    axes.set_xlim(-limit, limit)
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.axvspan(-margin, margin, color=_BAND, lw=0, zorder=0, label=f"Margin ±{margin:g}")
    axes.axvline(0, color="#333333", linewidth=0.8, zorder=1)
    if AVERAGE in lines and math.isfinite(mean := lines[AVERAGE]["difference"]):
        axes.axvline(mean, color="#333333", linewidth=0.9, linestyle=(0, (1.2, 1.2)), zorder=1, label="Average")
    pooled = [place for place, task in enumerate(tasks) if task in (AVERAGE, NEW_TASK)]
    if pooled and pooled[0] > 0:
        axes.axhline(pooled[0] - 0.5, color="#999999", linewidth=0.6)
    for place, task in enumerate(tasks):
        if task in lines:
            _line(axes, place, lines[task], limit)
    axes.set_yticks(range(len(tasks)), [_name(task) for task in tasks])
    axes.tick_params(axis="y", length=0)


def _line(axes: Axes, place: int, line: _Line, limit: float) -> None:
    task, low, high, difference = line["task"], line["low"], line["high"], line["difference"]
    look = _NEW if task == NEW_TASK else _LOOKS.get(line.get("verdict"), _PLAIN)
    colour = look["color"]
    if task == AVERAGE and -limit < low < high < limit:
        corners = [(low, place), (difference, place - 0.3), (high, place), (difference, place + 0.3)]
        axes.fill(*zip(*corners, strict=True), color=colour, lw=0, zorder=3)
        return
    if math.isfinite(low):
        width = look.get("linewidth", 1.2)
        axes.plot([max(low, -limit), min(high, limit)], [place, place], color=colour, lw=width, solid_capstyle="butt")
        for end, arrow in ((low, "<"), (high, ">")):
            if abs(end) > limit:
                at_edge = blended_transform_factory(axes.transAxes, axes.transData)
                x = 0.0 if end < 0 else 1.0
                axes.plot([x], [place], arrow, color=colour, transform=at_edge, clip_on=False, markersize=5, zorder=4)
    if math.isfinite(difference) and task != NEW_TASK:
        axes.plot([difference], [place], linestyle="none", markersize=5.5, zorder=3, **look)


def _name(task: str) -> str:
    if task in (AVERAGE, NEW_TASK):
        return task.capitalize()
    title = get(task).title
    return title if len(title) <= 22 else f"{title[:21]}…"


def _remarks(drawn: pd.DataFrame, margin: float, limit: float, split: str) -> str:
    text = f"Difference of {split} primary scores × 100; bars and diamonds: 95 % intervals; band: ±{margin:g} points."
    if (drawn[["low", "high"]].abs() > limit).any(axis=None):
        text += " Arrows: the interval extends beyond the frame."
    if (drawn["task"] == NEW_TASK).any():
        text += " New task: interval of the true difference on another, similar task."
    return text
