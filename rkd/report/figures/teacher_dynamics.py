"""Teacher dynamics: how a trainable teacher changes over training steps."""

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
    """Draw distance, dev score, KL and entropy by training step: a column per task, a line per trainable teacher.

    A line is the mean over seeds, at the steps where every seed was evaluated. In the panels of distances and scores, a
    band spans the lowest to the highest seed. The student's score is a thin dotted line of the same colour: a teacher
    that falls to it has nothing left to teach.

    Args:
        spec: variants and tasks of the figure.
        histories: the students' histories, from `rkd.report.inputs.read_histories`; runs may be missing. Variants
            without a teacher, or with a frozen one, are skipped.

    Raises:
        RkdError: no history has a trainable teacher, or the spec does not name a run.
    """
    spec.admit(histories)
    runs = _with_trainable_teacher(histories)
    if runs.empty:
        raise RkdError("teacher dynamics: no history has a trainable teacher; expected at least one")
    tasks = [get(name) for name in spec.tasks if name in set(runs["task"])]
    with style.context(HOUSE_STYLE):
        figure = new_figure(max(WIDTH, _PANEL_WIDTH * len(tasks)), 5.6)
        grid = figure.subplots(4, len(tasks), sharex="col", squeeze=False)
        for task, column in zip(tasks, grid.T, strict=True):
            _column(column, task, spec, runs[runs["task"] == task.name])
        names = ("Distance to\nthe student", "Dev score", "KL(T‖S), nats", "Entropy of soft\nlabels, nats")
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name)
        figure.align_ylabels(grid[:, 0])
        grid[1, 0].plot([], [], color="#333333", label="Student's dev score (same colour)", **_STUDENT)
        legend(figure, list(grid.flat))
        note(figure, _remarks(runs, tasks), spec.heading)
    return figure


def _with_trainable_teacher(histories: pd.DataFrame) -> pd.DataFrame:
    """Return the histories of variants with a trainable teacher: its distance is above 0, or its quantities change."""
    quantities = [name for name in QUANTITIES if name in histories]
    runs = histories.groupby(["task", "variant", "seed"])[quantities].nunique()
    changing = runs.drop(columns=DISTANCE, errors="ignore").gt(1).any(axis="columns")
    if DISTANCE in quantities:
        changing |= runs[DISTANCE] > 0
    trainable = changing[changing].reset_index()["variant"]
    return histories[histories["variant"].isin(trainable)]


def _column(column: Any, task: Task, spec: ReportSpec, runs: pd.DataFrame) -> None:
    distance, score, kl, entropy = column
    # Only variants with a trainable teacher count, so that few lines get the first, most distinct colours.
    variants = _variants(spec, runs)
    looks = variant_styles([variant.name for variant in variants])
    for variant in variants:
        mine, look = runs[runs["variant"] == variant.name], looks[variant.name]
        labelled = {**look, "label": variant.label}
        _draw(distance, mine, DISTANCE, 1.0, labelled, band=True)
        _draw(score, mine, "teacher.primary_score", 100.0, labelled, band=True)
        _draw(score, mine, "primary_score", 100.0, {**look, **_STUDENT})
        for axes, name in ((kl, "teacher.kl"), (entropy, "teacher.entropy")):
            _draw(axes, mine, name, 1.0, look)
    name_panel(distance, task)
    distance.set_ylim(0, 1.06 * max(1.0, distance.dataLim.y1))
    score.set_title(score_name(task), fontweight="normal", color="#555555", pad=3)
    kl.set_ylim(bottom=0)
    if task.regression:
        for axes in (kl, entropy):
            axes.text(0.5, 0.5, "regression:\nno soft labels", transform=axes.transAxes, ha="center", va="center")
            axes.set_yticks([])
    # Leave out untrained students, which may be far lower: differences between teachers would be invisible.
    trained = 100 * runs.loc[runs["step"] > 0, ["primary_score", "teacher.primary_score"]].to_numpy(dtype=float)
    if trained.size and np.nanmax(trained) > np.nanmin(trained):
        low, high = np.nanmin(trained), np.nanmax(trained)
        score.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    entropy.set_xlabel("Training step")
    step_axis(entropy, intervals=3)


def _variants(spec: ReportSpec, runs: pd.DataFrame) -> list[Variant]:
    return [variant for variant in spec.variants if variant.name in set(runs["variant"])]


def _draw(axes: Axes, runs: pd.DataFrame, name: str, factor: float, look: dict[str, Any], band: bool = False) -> None:
    """Draw the mean over seeds of a column of the histories, at the steps where every seed was evaluated."""
    if name not in runs:
        return
    values = factor * runs.pivot(index="step", columns="seed", values=name).astype(float)  # null is read as None
    values = values[runs.pivot(index="step", columns="seed", values="epoch").notna().all(axis="columns")]
    if values.isna().all(axis=None):
        return
    axes.plot(values.index, values.mean(axis="columns", skipna=False), markevery=math.ceil(len(values) / 6), **look)
    if band and len(values.columns) > 1:
        low, high = values.min(axis="columns", skipna=False), values.max(axis="columns", skipna=False)
        axes.fill_between(values.index, low, high, color=look["color"], alpha=0.15, lw=0)


def _remarks(runs: pd.DataFrame, tasks: list[Task]) -> str:
    counts = runs.groupby(["task", "variant"])["seed"].nunique()
    means = f"Means of {seed_count(counts)} seeds, bands from lowest to highest."
    seeds = "One seed." if counts.max() == 1 else means
    return (
        f"{seeds} Distance: ‖θ_T − θ_S‖ over mapped parameters, 1 at the start, 0 when the teacher equals the "
        "student. Scores × 100; an untrained student (step 0) may lie below the axis. KL and entropy: on the dev set, "
        "at the distillation temperature."
    )
