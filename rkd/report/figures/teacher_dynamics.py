"""Teacher dynamics: what becomes of a teacher that moves, over training steps."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rkd.errors import RkdError
from rkd.report.captions import seed_count
from rkd.report.figures.style import (
    HOUSE_STYLE,
    WIDTH,
    legend,
    name_panel,
    new_figure,
    note,
    step_axis,
    variant_styles,
)
from rkd.report.names import score_name
from rkd.specs.report import ReportSpec, Variant
from rkd.tasks import Task, get

DISTANCE = "teacher.distance"
QUANTITIES = (DISTANCE, "teacher.primary_score", "teacher.entropy")
_STUDENT: dict[str, Any] = {"linestyle": (0, (1.2, 1.2)), "marker": None, "linewidth": 1.0}
_PANEL_WIDTH = 1.7  # inches, at least


def teacher_dynamics(spec: ReportSpec, histories: pd.DataFrame) -> Figure:
    """Distance, dev score, KL and entropy by training step: one column per task, one line per trainable teacher.

    A line is the mean over seeds at the steps where every seed was evaluated, a band in the row of distances and of
    scores spans the lowest to the highest seed. The student's own score is a thin dotted line of the same colour: a
    teacher that falls to it has nothing left to teach.

    Args:
        spec: what the figure is about.
        histories: what `collect.read_histories` returns for the students; variants without a teacher or with a
            frozen one are left out, runs may be missing.

    Raises:
        RkdError: no history has a trainable teacher, or a run is one that the spec does not name.
    """
    spec.admit(histories)
    moving = _with_trainable_teacher(histories)
    if moving.empty:
        raise RkdError("teacher dynamics: no history has a teacher that moves; expected at least one")
    tasks = [get(name) for name in spec.tasks if name in set(moving["task"])]
    with style.context(HOUSE_STYLE):
        figure = new_figure(max(WIDTH, _PANEL_WIDTH * len(tasks)), 5.6)
        grid = figure.subplots(4, len(tasks), sharex="col", squeeze=False)
        for task, column in zip(tasks, grid.T, strict=True):
            _column(column, task, spec, moving[moving["task"] == task.name])
        names = ("Distance to\nthe student", "Dev score", "KL(T‖S), nats", "Entropy of soft\nlabels, nats")
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name)
        figure.align_ylabels(grid[:, 0])
        grid[1, 0].plot([], [], color="#333333", label="Student's dev score (same colour)", **_STUDENT)
        legend(figure, list(grid.flat))
        note(figure, _remarks(moving, tasks), spec.heading)
    return figure


def _with_trainable_teacher(histories: pd.DataFrame) -> pd.DataFrame:
    """Return the variants with a trainable teacher, as the runs tell: a distance, or scores that change."""
    quantities = [name for name in QUANTITIES if name in histories]
    runs = histories.groupby(["task", "variant", "seed"])[quantities].nunique()
    changing = runs.drop(columns=DISTANCE, errors="ignore").gt(1).any(axis="columns")
    if DISTANCE in quantities:
        changing |= runs[DISTANCE] > 0
    moving = changing[changing].reset_index()["variant"]
    return histories[histories["variant"].isin(moving)]


def _column(column: Any, task: Task, spec: ReportSpec, runs: pd.DataFrame) -> None:
    distance, score, kl, entropy = column
    # Places in the palette among the trainable teachers, so that few lines have the first, most distinct, colours.
    looks = variant_styles([variant.name for variant in _moving(spec, runs)])
    for variant in _moving(spec, runs):
        mine, look = runs[runs["variant"] == variant.name], looks[variant.name]
        labelled = {**look, "label": variant.label}
        _draw(distance, mine, DISTANCE, 1.0, labelled, band=True)
        _draw(score, mine, "teacher.primary_score", 100.0, labelled, band=True)
        _draw(score, mine, "primary_score", 100.0, {**look, **_STUDENT})
        for axes, name in ((kl, "teacher.kl"), (entropy, "teacher.entropy")):
            _draw(axes, mine, name, 1.0, look)
    name_panel(distance, task)
    distance.set_ylim(0, 1.06 * max(1.0, distance.dataLim.y1))
    score.set_title(score_name(task), fontsize=7, fontweight="normal", color="#444444", pad=3)
    kl.set_ylim(bottom=0)
    if task.regression:
        for axes in (kl, entropy):
            axes.text(0.5, 0.5, "regression:\nno soft labels", transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
    # An untrained student may lie far below; differences between teachers would vanish beside it.
    trained = 100 * runs.loc[runs["step"] > 0, ["primary_score", "teacher.primary_score"]].to_numpy(dtype=float)
    if trained.size and np.nanmax(trained) > np.nanmin(trained):
        low, high = np.nanmin(trained), np.nanmax(trained)
        score.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    entropy.set_xlabel("Training step")
    step_axis(entropy, intervals=3)


def _moving(spec: ReportSpec, runs: pd.DataFrame) -> list[Variant]:
    return [variant for variant in spec.variants if variant.name in set(runs["variant"])]


def _draw(axes: Axes, runs: pd.DataFrame, name: str, factor: float, look: dict[str, Any], band: bool = False) -> None:
    """Mean over seeds of a column of the histories, at steps where every seed was evaluated."""
    if name not in runs:
        return
    values = factor * runs.pivot(index="step", columns="seed", values=name).astype(float)  # null is None
    values = values[runs.pivot(index="step", columns="seed", values="epoch").notna().all(axis="columns")]
    if values.isna().all(axis=None):
        return
    axes.plot(values.index, values.mean(axis="columns", skipna=False), markevery=math.ceil(len(values) / 6), **look)
    if band and len(values.columns) > 1:
        low, high = values.min(axis="columns", skipna=False), values.max(axis="columns", skipna=False)
        axes.fill_between(values.index, low, high, color=look["color"], alpha=0.15, lw=0)


def _remarks(moving: pd.DataFrame, tasks: list[Task]) -> str:
    counts = moving.groupby(["task", "variant"])["seed"].nunique()
    means = f"Means of {seed_count(counts)} seeds, bands from lowest to highest."
    seeds = "One seed." if counts.max() == 1 else means
    return (
        f"{seeds} Distance: ‖θ_T − θ_S‖ over mapped parameters, 1 at the start, 0 when the teacher has become the "
        "student. Scores × 100; an untrained student (step 0) may lie below the axis. KL and entropy: on the dev set, "
        "at the distillation temperature."
    )
