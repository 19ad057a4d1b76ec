"""Facts about the metrics: their names in print, and the tasks that they are for. Standard library only.

How each is computed stands in `rkd.metrics.scores`, its form for weighted examples in `rkd.metrics.weighted`: trainings
depend on the first alone, so that a name in print retrains nothing.
"""

from typing import NamedTuple


class MetricFacts(NamedTuple):
    """Facts about a metric, apart from its computation."""

    title: str  # in captions and axes
    header: str  # at the head of a column
    of_scores: bool = False  # for regression; else for classification
    classes: int | None = None  # the one number of classes that it is defined for

    def suits(self, classes: int | None) -> bool:
        """Return True if the metric is defined for a task with so many classes; 0 is regression, None not known yet."""
        return self.of_scores == (classes == 0) and (classes is None or self.classes in (None, classes))


METRICS = {
    "accuracy": MetricFacts("Accuracy", "Acc"),
    "f1": MetricFacts("F1", "F1", classes=2),
    "macro_f1": MetricFacts("Macro-F1", "Macro-F1"),
    "balanced_accuracy": MetricFacts("Balanced accuracy", "Bal. acc"),
    "matthews_correlation": MetricFacts("MCC", "MCC"),
    "pearson": MetricFacts("Pearson", "Pear", of_scores=True),
    "spearmanr": MetricFacts("Spearman", "Spear", of_scores=True),
}
# What a task of one's own is scored by if it names no metrics.
DEFAULT_OF_LABELS, DEFAULT_OF_SCORES = ("accuracy",), ("pearson", "spearmanr")
