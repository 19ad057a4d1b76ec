"""Learning curves: dev score by training step."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rkd.errors import RkdError
from rkd.report.captions import seed_count
from rkd.report.figures.style import (
    HOUSE_STYLE,
    TEACHER_LABEL,
    TEACHER_LINE,
    legend,
    name_panel,
    note,
    panels,
    step_axis,
    variant_styles,
)
from rkd.report.inputs import PRIMARY
from rkd.report.names import score_name
from rkd.specs.jobs import TEACHER
from rkd.specs.report import ReportSpec
from rkd.tasks import Task, get


def learning_curves(spec: ReportSpec, histories: pd.DataFrame, teachers: pd.DataFrame) -> Figure:
    """Draw the dev primary score by training step: one panel per task, one line per variant.

    A line is the mean over seeds, and its band spans the lowest to the highest seed. Steps at which some seed of the
    variant was not evaluated are skipped; otherwise the mean would jump with the number of seeds. Undefined scores
    leave a gap. The score axis covers all curves after step 0. The untrained start may lie below the axis, because
    differences between methods would be invisible beside it; the note then says so. A teacher that is further from the
    curves than they are high is a number at the edge of its panel, for the same reason.

    Args:
        spec: variants and tasks of the figure.
        histories: the students' histories, from `rkd.report.inputs.read_histories`; runs may be missing.
        teachers: the teachers' metrics, from `rkd.report.inputs.read_metrics`, drawn as a dashed line; may be empty.

    Raises:
        RkdError: there is no history, or the spec does not name a run.
    """
    spec.admit(histories)
    spec.admit(teachers)
    if histories.empty:
        raise RkdError("learning curves: no history files; expected at least one")
    tasks = [get(name) for name in spec.tasks if name in set(histories["task"])]
    with style.context(HOUSE_STYLE):
        figure, places = panels(len(tasks), "Training step")
        for task, axes in zip(tasks, places, strict=True):
            level = _teacher_level(teachers[teachers["task"] == task.name])
            _panel(axes, task, spec, histories[histories["task"] == task.name], level)
        legend(figure, places)
        note(figure, _remarks(histories, places), spec.heading)
    return figure


def _panel(axes: Axes, task: Task, spec: ReportSpec, runs: pd.DataFrame, teacher: float) -> None:
    styles = variant_styles([variant.name for variant in spec.variants])
    curves = {variant: _curve(runs[runs["variant"] == variant.name]) for variant in spec.variants}
    for variant, curve in curves.items():
        if not curve.empty:
            look = styles[variant.name]
            axes.plot(curve.index, curve["mean"], label=variant.label, markevery=math.ceil(len(curve) / 10), **look)
            axes.fill_between(curve.index, curve["min"], curve["max"], color=look["color"], alpha=0.15, lw=0)
    drawn = pd.concat(curves.values())
    seen = drawn[drawn.index > 0] if (drawn.index > 0).any() else drawn
    low, high = seen["min"].min(), seen["max"].max()
    if math.isfinite(teacher):
        away = max(low - teacher, teacher - high)
        if 0 < high - low < away:
            edge, arrow = (0.99, "↑") if teacher > high else (0.01, "↓")
            text, va = f"Teacher {teacher:.1f} {arrow}", "top" if teacher > high else "bottom"
            axes.text(0.99, edge, text, transform=axes.transAxes, ha="right", va=va, color=TEACHER_LINE["color"])
        else:
            axes.axhline(teacher, label=TEACHER_LABEL, zorder=1, **TEACHER_LINE)
            low, high = min(low, teacher), max(high, teacher)
    if low < high:
        axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    name_panel(axes, task)
    axes.set_ylabel(score_name(task))
    step_axis(axes)


def _curve(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean, min and max over seeds in points, by step, at the steps where every seed was evaluated."""
    scores = runs.pivot(index="step", columns="seed", values="primary_score") * 100
    complete = runs.pivot(index="step", columns="seed", values="epoch").notna().all(axis="columns")
    scores = scores[complete]
    return pd.DataFrame(
        {
            "mean": scores.mean(axis="columns", skipna=False),
            "min": scores.min(axis="columns", skipna=False),
            "max": scores.max(axis="columns", skipna=False),
        }
    )


def _teacher_level(teachers: pd.DataFrame) -> float:
    scores = teachers[(teachers["variant"] == TEACHER) & (teachers["metric"] == PRIMARY)]["value"]
    return float(scores.mean(skipna=False)) * 100


def _remarks(histories: pd.DataFrame, places: Sequence[Axes]) -> str:
    seeds = histories.groupby(["task", "variant"])["seed"].nunique()
    spread = f"mean of {seed_count(seeds)} seeds, band from lowest to highest" if seeds.max() > 1 else "one seed"
    hidden = any(axes.dataLim.y0 < axes.get_ylim()[0] for axes in places)
    start = " The score before training (step 0) lies below the axis." if hidden else ""
    return f"Dev primary score × 100: {spread}.{start}"
