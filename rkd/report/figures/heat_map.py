"""Heat map of a grid: the mean score of every combination of two parameters."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rkd.report.captions import seed_count, split_text
from rkd.report.figures.style import HOUSE_STYLE, fitting, name_panel, note, panels
from rkd.report.names import score_name
from rkd.report.tables.ablation import AblationTable, value_texts
from rkd.report.tables.base import MISSING
from rkd.specs.report import is_number
from rkd.tasks import get

_COLOURS = "viridis"
_DARK = 0.5  # mean of red, green and blue below which a colour needs white letters


def heat_map(table: AblationTable, tasks: Sequence[str]) -> Figure:
    """Draw the mean primary score of each combination of a grid: a panel per task, the numbers in the cells.

    Colours run from the lowest to the highest mean of their panel. The first parameter runs upwards, the second to the
    right; the cell of the variant that the grid changes has a frame.

    Args:
        table: the result of `ablation_table`, of an axis with two parameters.
        tasks: the tasks to show, of each of which there is a run.
    """
    axis = table.axis
    with style.context(HOUSE_STYLE):
        figure, places = panels(len(tasks), axis.parameters[1])
        for task, axes in zip(tasks, places, strict=True):
            _panel(axes, table, task)
        places[0].set_ylabel(axis.parameters[0])
        note(figure, _remarks(table, tasks), table.spec.heading)
    return figure


def _panel(axes: Axes, table: AblationTable, task: str) -> None:
    axis = table.axis
    rows, columns = (_ordered(value[i] for value, _ in axis.values) for i in (0, 1))
    means = np.full((len(rows), len(columns)), math.nan)
    for (row, column), variant in axis.values:
        i, j = rows.index(row), columns.index(column)
        if one := table.scores.get((variant, task)):
            means[i, j] = one.mean
        if variant == axis.base:
            axes.add_patch(Rectangle((j - 0.48, i - 0.48), 0.96, 0.96, fill=False, edgecolor="#D55E00", linewidth=1.6))
    image = axes.imshow(means, cmap=_COLOURS, origin="lower", aspect="auto")
    dark = image.to_rgba(means)[..., :3].mean(axis=-1) < _DARK
    for (i, j), mean in np.ndenumerate(means):
        text = MISSING if math.isnan(mean) else f"{mean:.1f}"
        white = dark[i, j] and not math.isnan(mean)
        axes.text(j, i, text, ha="center", va="center", color="white" if white else "black")
    axes.set_xticks(range(len(columns)), fitting(value_texts(columns)))
    axes.set_yticks(range(len(rows)), fitting(value_texts(rows)))
    axes.grid(visible=False)
    name_panel(axes, get(task))
    axes.set_title(score_name(get(task)), loc="right", fontweight="normal")


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Return the values of one parameter, each once; numbers in their order."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return sorted(found) if all(map(is_number, found)) else found


def _remarks(table: AblationTable, tasks: Sequence[str]) -> str:
    seeds = seed_count(one.n for _, _, task, one in table.cells() if task in tasks)
    plural = "seed" if seeds == "1" else "seeds"
    framed = f" Frame: {table.spec.labels()[table.axis.base]}." if table.axis.base in table.axis.variants else ""
    return f"Mean {split_text(tasks)} primary score × 100 over {seeds} {plural}; the table has the spread.{framed}"
