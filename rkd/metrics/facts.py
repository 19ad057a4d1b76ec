"""Facts about the metrics: their printed names, and the tasks that they suit. Standard library only.

`rkd.metrics.scores` computes them, `rkd.metrics.weighted` computes them for weighted examples. Training runs depend on
the former only, so a changed printed name retrains nothing.
"""

from typing import NamedTuple


class MetricFacts(NamedTuple):
    """Facts about a metric, apart from its computation."""

    title: str  # in captions and axes
    header: str  # column header in tables
    of_scores: bool = False  # for regression; else for classification
    classes: int | None = None  # required number of classes, if the metric has one
    of_sets: bool | None = False  # for texts with several labels: True only for them, None for them, too

    def suits(self, classes: int | None, *, multi_label: bool = False) -> bool:
        """Return True if the metric is defined for this number of classes; 0 is regression, None is unknown."""
        if self.of_sets is not None and self.of_sets != multi_label:
            return False
        return self.of_scores == (classes == 0) and (classes is None or self.classes in (None, classes))


METRICS = {
    "accuracy": MetricFacts("Accuracy", "Acc", of_sets=None),
    "f1": MetricFacts("F1", "F1", classes=2),
    "macro_f1": MetricFacts("Macro-F1", "Macro-F1", of_sets=None),
    "micro_f1": MetricFacts("Micro-F1", "Micro-F1", of_sets=True),
    "balanced_accuracy": MetricFacts("Balanced accuracy", "Bal. acc"),
    "matthews_correlation": MetricFacts("MCC", "MCC"),
    "pearson": MetricFacts("Pearson", "Pear", of_scores=True),
    "spearmanr": MetricFacts("Spearman", "Spear", of_scores=True),
}
# Measures of likelihood and calibration in metrics files: nats, and two fractions.
PROBABILISTIC = ("nll", "calibration_error", "calibration_noise")
# Tables list the scores of single classes up to this number.
MOST_CLASSES = 20
# Metrics of custom tasks that do not set any.
DEFAULT_OF_LABELS, DEFAULT_OF_SCORES, DEFAULT_OF_SETS = ("accuracy",), ("pearson", "spearmanr"), ("micro_f1",)
