"""Ablation figure: score by value of one axis, with intervals over seeds."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rkd.errors import RkdError
from rkd.report.captions import seed_count, split_text
from rkd.report.figures.heat_map import heat_map
from rkd.report.figures.style import (
    COLOURS,
    HOUSE_STYLE,
    bars,
    bars_text,
    fitting,
    frame_scores,
    legend,
    name_panel,
    note,
    panels,
)
from rkd.report.names import score_name
from rkd.report.tables.ablation import AblationTable, value_texts
from rkd.tasks import get

REFERENCES = ("kd", "finetune")
_REFERENCE_DASHES = ((0, (7, 4)), (0, (1.2, 1.2)))


def ablation_figure(table: AblationTable, references: Sequence[str] = REFERENCES) -> Figure:
    """Draw the primary score by value: a panel per task, points with 95 % intervals over seeds.

    Numeric values have a linear scale, or a logarithmic one if they span a factor of 10 or more, and are joined by a
    line. Other values are points in the order of the config. A grid of two parameters is a heat map.

    Args:
        table: the result of `ablation_table`.
        references: variants with a horizontal line at their mean, unless they are on the axis.

    Raises:
        RkdError: there is no run of the axis.
    """
    axis, spec = table.axis, table.spec
    tasks = [task for task in axis.tasks if any((variant, task) in table.scores for _, variant in axis.values)]
    if not tasks:
        raise RkdError(f"ablation of {axis.name}: no metrics of its variants; expected at least one run")
    if axis.parameters:
        return heat_map(table, tasks)
    levels = [name for name in references if name not in {variant for _, variant in axis.values}]
    with style.context(HOUSE_STYLE):
        figure, places = panels(len(tasks), axis.name)
        clipped = [_panel(axes, table, task, levels) for task, axes in zip(tasks, places, strict=True)]
        legend(figure, places)
        note(figure, _figure_remarks(table, tasks, any(clipped)), spec.heading)
    return figure


def _panel(axes: Axes, table: AblationTable, task: str, levels: Sequence[str]) -> bool:
    """Draw one task; return whether the frame clips an interval."""
    axis = table.axis
    positions = [value for value, _ in axis.values] if axis.numeric else range(len(axis.values))
    found = [(x, table.scores.get((variant, task))) for x, (_, variant) in zip(positions, axis.values, strict=True)]
    drawn = [(x, one) for x, one in found if one and not math.isnan(one.mean)]
    scores = [one for _, one in drawn]
    line: dict[str, Any] = {"linestyle": "solid" if axis.numeric else "none", "color": COLOURS[0], "marker": "o"}
    bars(axes, [x for x, _ in drawn], scores, label="Mean over seeds", **line)
    means = [level.mean for name in levels if (level := table.scores.get((name, task)))]
    clipped = frame_scores(axes, [x for x, _ in drawn], scores, [COLOURS[0]] * len(drawn), means)
    for name, dashes in zip(levels, _REFERENCE_DASHES, strict=False):
        if level := table.scores.get((name, task)):
            label = f"{table.spec.labels()[name]} (mean)"
            axes.axhline(level.mean, color="#333333", linewidth=0.9, linestyle=dashes, zorder=1, label=label)
    if axis.logarithmic:
        axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    texts = fitting(value_texts([value for value, _ in axis.values]))
    crowded = len(texts) > 4 or max(map(len, texts)) > 8
    rotated: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(list(positions), texts, **rotated)
    if not axis.numeric:
        axes.set_xlim(-0.5, len(texts) - 0.5)
    name_panel(axes, get(task))
    axes.set_ylabel(score_name(get(task)))
    return clipped


def _figure_remarks(table: AblationTable, tasks: Sequence[str], clipped: bool) -> str:
    shown = [one for _, _, task, one in table.cells() if task in tasks]
    seeds = seed_count(one.n for one in shown)
    scale = " Logarithmic scale." if table.axis.logarithmic else ""
    plural = "seed" if seeds == "1" else "seeds"
    return f"{split_text(tasks).capitalize()} primary score × 100, {seeds} {plural}. {bars_text(shown, clipped)}{scale}"
