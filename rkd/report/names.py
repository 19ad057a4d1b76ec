"""Printed names and numbers, shared by tables, figures and the page."""

from pathlib import PurePath

from rkd.metrics.facts import METRICS
from rkd.tasks import Task

AVERAGE = "average"  # stands in place of a task's name for the mean over tasks

_TITLES = {
    "main": "Main table",
    "comparisons": "Comparisons",
    "behaviour": "Beside the score",
    "classes": "Each class",
    "selection": "Epoch selection",
    "cost": "Cost of a training step",
    "efficiency": "Size and speed",
    "tune": "Tuning of the students",
    "tune_teacher": "Tuning of the teacher",
    "provenance": "Where the runs come from",
}


def score_name(task: Task) -> str:
    """Return the printed name of the task's primary score.

    >>> from rkd.tasks import get
    >>> score_name(get("mnli")), score_name(get("mrpc"))
    ('Accuracy (matched)', 'Accuracy–F1 mean')
    """
    names = "–".join(METRICS[name].title for name in task.primary_metrics)
    matched = " (matched)" if task.primary_split.endswith("_matched") else ""
    return f"{names} mean" if len(task.primary_metrics) > 1 else f"{names}{matched}"


def model_name(name: str) -> str:
    """Return the printed name of a model: the last part of an absolute path, or the unchanged hub name."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def table_title(stem: str) -> str:
    """Return the title of a table, given its file name without suffix.

    >>> table_title("main"), table_title("ablation_layer-map")
    ('Main table', 'Ablation: layer-map')
    """
    kind, _, axis = stem.partition("_")
    return f"Ablation: {axis}" if kind == "ablation" else _TITLES.get(stem, stem)


def signed(value: float) -> str:
    """Format a number of points with a typographic sign; values that round to 0 have no sign."""
    return f"{value:+z.1f}".replace("-", "−").replace("+0.0", "0.0")
