"""GLUE's metrics as an `evaluate.Metric`, for code that uses this interface.

`evaluate.load("glue", …)` contacts the hub even if the metric is installed; this class needs no network.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from rkd.metrics.scores import compute
from rkd.tasks import get


class GlueMetric(evaluate.Metric):
    """The metrics of one GLUE task; the same numbers as `rkd.metrics.compute`.

    Args:
        task: the task's name; an unknown one raises `RkdError`.
        options: passed to `evaluate.Metric`, e.g. `experiment_id`. Examples are kept in memory unless
            `keep_in_memory=False` is given.

    >>> GlueMetric("rte").compute(predictions=[0, 1, 1, 1], references=[0, 1, 0, 1])
    {'accuracy': 0.75}
    """

    def __init__(self, task: str, **options: Any) -> None:
        self.task = get(task)  # before the parent's constructor, which calls _info
        super().__init__(config_name=task, **{"keep_in_memory": True, **options})

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value("float64" if self.task.regression else "int64")
        return evaluate.MetricInfo(
            description=f"{', '.join(self.task.metrics)} on GLUE {self.task.title}, as fractions.",
            citation="Wang et al., GLUE: A Multi-Task Benchmark and Analysis Platform, ICLR 2019.",
            inputs_description="predictions, references: class ids, or scores for STS-B; one per example.",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return compute(self.task, predictions, references)
