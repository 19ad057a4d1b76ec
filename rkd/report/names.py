"""Names and numbers in print, shared by tables, figures and the page."""

from pathlib import PurePath

from rkd.tasks import Task

AVERAGE = "average"  # the name that stands for the mean over tasks

_METRIC_NAMES = {"matthews_correlation": "MCC", "accuracy": "Accuracy", "f1": "F1"}
_METRIC_NAMES |= {"pearson": "Pearson", "spearmanr": "Spearman"}
_METRIC_NAMES |= {"macro_f1": "Macro-F1", "balanced_accuracy": "Balanced accuracy"}
_HEADERS = {
    "matthews_correlation": "MCC",
    "accuracy": "Acc",
    "f1": "F1",
    "pearson": "Pear",
    "spearmanr": "Spear",
    "macro_f1": "Macro-F1",
    "balanced_accuracy": "Bal. acc",
}
_TITLES = {
    "main": "Main table",
    "comparisons": "Comparisons",
    "selection": "Choice of the epoch",
    "cost": "Cost of a training step",
    "efficiency": "Size and speed",
    "provenance": "Where the runs come from",
}


def score_name(task: Task) -> str:
    """The task's primary score in print.

    >>> score_name(get("mnli")), score_name(get("mrpc"))
    ('Accuracy (matched)', 'Accuracy–F1 mean')
    """
    names = "–".join(_METRIC_NAMES.get(name, name) for name in task.primary_metrics)
    matched = " (matched)" if task.primary_split.endswith("_matched") else ""
    return f"{names} mean" if len(task.primary_metrics) > 1 else f"{names}{matched}"


def metric_header(metric: str) -> str:
    """A metric's name as the head of a column.

    >>> metric_header("matthews_correlation")
    'MCC'
    """
    return _HEADERS.get(metric, metric)


def model_name(name: str) -> str:
    """A model's name in print: the last part of an absolute path, a hub name as it is."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def table_title(stem: str) -> str:
    """The title of a table, from its file name.

    >>> table_title("main"), table_title("ablation_layer-map")
    ('Main table', 'Ablation: layer-map')
    """
    kind, _, axis = stem.partition("_")
    return f"Ablation: {axis}" if kind == "ablation" else _TITLES.get(stem, stem)


def signed(value: float) -> str:
    """A number of points with its sign in typographic form, none for what rounds to 0."""
    return f"{value:+z.1f}".replace("-", "−").replace("+0.0", "0.0")
