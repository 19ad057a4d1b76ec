"""Names and numbers in print, shared by tables, figures and the page."""

from pathlib import PurePath

from rkd.metrics.facts import METRICS
from rkd.tasks import Task

AVERAGE = "average"  # the name that stands for the mean over tasks

_TITLES = {
    "main": "Main table",
    "comparisons": "Comparisons",
    "selection": "Choice of the epoch",
    "cost": "Cost of a training step",
    "efficiency": "Size and speed",
    "provenance": "Where the runs come from",
}


def score_name(task: Task) -> str:
    """Return the task's primary score in print.

    >>> score_name(get("mnli")), score_name(get("mrpc"))
    ('Accuracy (matched)', 'Accuracy–F1 mean')
    """
    names = "–".join(METRICS[name].title for name in task.primary_metrics)
    matched = " (matched)" if task.primary_split.endswith("_matched") else ""
    return f"{names} mean" if len(task.primary_metrics) > 1 else f"{names}{matched}"


def model_name(name: str) -> str:
    """Return a model's name in print: the last part of an absolute path, a hub name as it is."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def table_title(stem: str) -> str:
    """Return a table's title from its file name.

    >>> table_title("main"), table_title("ablation_layer-map")
    ('Main table', 'Ablation: layer-map')
    """
    kind, _, axis = stem.partition("_")
    return f"Ablation: {axis}" if kind == "ablation" else _TITLES.get(stem, stem)


def signed(value: float) -> str:
    """Format points with a typographic sign; no sign if they round to 0."""
    return f"{value:+z.1f}".replace("-", "−").replace("+0.0", "0.0")
