"""The content of a metrics file: the scores of one run, and likelihood and calibration of a classifier.

Apart from `rkd.metrics.scores`, on which trainings depend.
"""

from typing import Any

import pandas as pd

from rkd.metrics.probabilistic import probabilistic
from rkd.metrics.scores import from_predictions
from rkd.specs.metrics import MetricsSpec
from rkd.tasks import get


def metrics_file(spec: MetricsSpec, frame: pd.DataFrame) -> dict[str, Any]:
    """Return the content of a metrics file: the run that made the predictions, and their scores.

    Args:
        spec: the run; its fields are part of the file.
        frame: predictions, as for `from_predictions`. If it has columns of logits, likelihood and calibration are
            computed too.

    Raises:
        RkdError: the task is unknown, or `from_predictions` refuses the predictions.
    """
    task = get(spec.task, spec.custom_task)
    found = from_predictions(task, frame)
    names = [f"logit_{column}" for column in range(task.num_labels)]
    if task.regression or task.multi_label or not {*names} <= {*frame.columns}:
        return spec.as_dict() | found
    rows = {split: frame[frame["split"] == split] for split in found["splits"]}
    measured = {split: probabilistic(part[names].to_numpy(), part["label"].to_numpy()) for split, part in rows.items()}
    return spec.as_dict() | found | {"probabilistic": measured}
