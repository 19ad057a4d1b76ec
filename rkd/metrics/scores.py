"""GLUE's metrics and two more, computed from predictions and labels, with every degenerate case defined.

They use NumPy, and SciPy for the correlations of STS-B. scikit-learn gives the same results, as the tests show, but
its import would cost every evaluation job seconds.

Undefined or extreme cases:

* Matthews correlation is 0.0 when all predictions or all labels are of one class, as in scikit-learn.
* F1 (of class 1) is 0.0 when no prediction or no label is of class 1.
* Macro-F1 is the mean of F1 over the classes that are predicted or labelled at all, balanced accuracy the mean of
  recall over the classes that are labelled, as in scikit-learn.
* With several labels per text (numbers of sets, see `rkd.label_sets`), accuracy is the share of texts with exactly the
  right set, micro-F1 is that of all yes-or-no answers, and macro-F1 the mean over the labels that are predicted or
  labelled at all; both F1 are 0.0 when there are none.
* Pearson and Spearman are NaN, "undefined", when either side is constant (as one example is). Files hold
  null, tables show "–", and model selection ranks NaN below every number.
* No examples, different lengths, NaN or infinite values, unlabelled examples and class ids outside the task's
  labels raise an error.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rkd.errors import RkdError
from rkd.tasks import Task, get, primary_score

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compute", "from_predictions"]

Values = NDArray[np.float64]


def compute(task: str | Task, predictions: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Compute the task's metrics, in the order of `Task.metrics`.

    Args:
        task: a task's name, or a `Task`.
        predictions: class ids, scores for regression, or numbers of sets of labels; shape (n,).
        labels: the true ones; shape (n,).

    Returns:
        Fractions between -1 and 1 by metric name; NaN where undefined (see the module's docstring).

    Raises:
        RkdError: no examples, lengths that differ, or values that are not finite or not class ids of the task.

    >>> compute("mrpc", predictions=[1, 1, 0, 1], labels=[1, 1, 0, 0])
    {'accuracy': 0.75, 'f1': 0.8}
    """
    task = get(task) if isinstance(task, str) else task
    predicted, true = _checked(task, "predictions", predictions), _checked(task, "labels", labels)
    if predicted.size != true.size:
        raise RkdError(f"{task.name}: {predicted.size} predictions but {true.size} labels; expected equal lengths")
    known = _OF_SETS if task.multi_label else _METRICS
    return {name: known[name](predicted, true) for name in task.metrics}


def from_predictions(task: str | Task, frame: "pd.DataFrame") -> dict[str, Any]:
    """Compute the scores of one run for its metrics file.

    Args:
        task: a task's name, or a `Task`.
        frame: predictions with the columns split, idx, label and prediction, one row per example. Splits
            other than the task's dev splits are ignored.

    Returns:
        `{"splits": {split: {metric: fraction, …, "rows": n}}, "primary_score": fraction}`, NaN where undefined. A test
        split is included if all its examples have labels (never GLUE's).

    Raises:
        RkdError: a column or dev split is missing, an example occurs twice, or `compute` refuses the values.
    """
    task = get(task) if isinstance(task, str) else task
    missing = [column for column in ("split", "idx", "label", "prediction") if column not in frame.columns]
    if missing:
        raise RkdError(f"predictions of {task.name}: no column '{missing[0]}'; found {', '.join(frame.columns)}")
    splits: dict[str, dict[str, float]] = {}
    for split in dict.fromkeys((*task.dev_splits, *task.compared_splits, *_labelled_tests(task, frame))):
        rows = frame[frame["split"] == split]
        if rows.empty:
            found = ", ".join(map(str, frame["split"].unique())) or "no rows"
            raise RkdError(f"predictions of {task.name}: no split '{split}'; found {found}")
        if repeated := int(rows["idx"].duplicated().sum()):
            raise RkdError(f"predictions of {task.name}, {split}: {repeated} examples occur more than once")
        try:
            scores = compute(task, rows["prediction"].to_numpy(), rows["label"].to_numpy())
        except RkdError as error:
            raise RkdError(f"predictions of {split}: {error}") from None
        splits[split] = {**scores, "rows": len(rows)}
    return {"splits": splits, "primary_score": primary_score(task, splits[task.primary_split])}


def _labelled_tests(task: Task, frame: "pd.DataFrame") -> list[str]:
    """Return the test splits of a custom task in which every example has a label."""
    labels = {split: frame.loc[frame["split"] == split, "label"] for split in (task.test_splits if task.own else ())}
    return [split for split, found in labels.items() if not found.empty and found.notna().all()]


def _checked(task: Task, what: str, values: ArrayLike) -> Values:
    """Return `values` as a float vector; raise an error that counts invalid values."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise RkdError(f"{task.name}: {what} have shape {array.shape}; expected one value per example")
    if not array.size:
        raise RkdError(f"{task.name}: no {what}; expected at least one example")
    if not_finite := int(np.count_nonzero(~np.isfinite(array))):
        raise RkdError(f"{task.name}: {not_finite} of {array.size} {what} are NaN or infinite")
    if task.multi_label:
        if (wrong := array[(array < 0) | (array >= 2**task.num_labels) | (array % 1 != 0)]).size:
            raise RkdError(
                f"{task.name}: {wrong.size} of {array.size} {what} are no sets of labels, the first is {wrong[0]:g}; "
                f"expected whole numbers from 0 to {2**task.num_labels - 1}"
            )
    elif not task.regression:
        wrong = array[~np.isin(array, np.arange(task.num_labels))]
        if wrong.size:
            raise RkdError(
                f"{task.name}: {wrong.size} of {array.size} {what} are not class ids, "
                f"the first is {wrong[0]:g}; expected 0 to {task.num_labels - 1}"
            )
    return array


def _accuracy(predicted: Values, true: Values) -> float:
    return float(np.mean(predicted == true))


def _f1(predicted: Values, true: Values) -> float:
    """Compute 2·TP / (2·TP + FP + FN) of class 1, the positive class of MRPC and QQP."""
    if max(predicted.max(), true.max()) > 1:
        raise RkdError("f1 is defined for two classes only; use accuracy")
    hits = np.count_nonzero((predicted == 1) & (true == 1))
    either = np.count_nonzero(predicted == 1) + np.count_nonzero(true == 1)
    return float(2 * hits / either) if either else 0.0


def _macro_f1(predicted: Values, true: Values) -> float:
    """Compute the mean over classes of 2·TP / (2·TP + FP + FN)."""
    kinds = np.union1d(predicted, true)
    hits = [2 * np.count_nonzero((predicted == kind) & (true == kind)) for kind in kinds]
    either = [np.count_nonzero(predicted == kind) + np.count_nonzero(true == kind) for kind in kinds]
    return float(np.mean(np.divide(hits, either)))


def _balanced_accuracy(predicted: Values, true: Values) -> float:
    """Compute the mean over classes of TP / (TP + FN)."""
    return float(np.mean([np.mean(predicted[true == kind] == kind) for kind in np.unique(true)]))


def _matthews_correlation(predicted: Values, true: Values) -> float:
    """Compute R_K of Gorodkin (2004), which for two classes is Matthews' coefficient."""
    counts_p, counts_t = np.bincount(predicted.astype(int)), np.bincount(true.astype(int))
    shared = min(counts_p.size, counts_t.size)
    n = float(true.size)
    covariance = np.count_nonzero(predicted == true) * n - float(counts_p[:shared] @ counts_t[:shared])
    spread_p = n * n - float(counts_p @ counts_p)
    spread_t = n * n - float(counts_t @ counts_t)
    return float(covariance / math.sqrt(spread_p * spread_t)) if spread_p and spread_t else 0.0


def _set_counts(predicted: Values, true: Values) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return 2·TP and 2·TP + FP + FN of every label that is predicted or labelled at all."""
    p, t = predicted.astype(np.int64), true.astype(np.int64)
    bits = 1 << np.arange(max(1, int(max(p.max(), t.max())).bit_length()))
    hits = 2 * np.count_nonzero((p & t)[:, None] & bits, axis=0)
    either = np.count_nonzero(p[:, None] & bits, axis=0) + np.count_nonzero(t[:, None] & bits, axis=0)
    return hits[either > 0], either[either > 0]


def _micro_f1_of_sets(predicted: Values, true: Values) -> float:
    hits, either = _set_counts(predicted, true)
    return float(hits.sum() / either.sum()) if either.size else 0.0


def _macro_f1_of_sets(predicted: Values, true: Values) -> float:
    hits, either = _set_counts(predicted, true)
    return float(np.mean(hits / either)) if either.size else 0.0


def _correlation(name: str) -> Callable[[Values, Values], float]:
    def correlation(predicted: Values, true: Values) -> float:
        if np.ptp(predicted) == 0 or np.ptp(true) == 0:
            return math.nan
        from scipy import stats

        return float(getattr(stats, name)(predicted, true).statistic)

    return correlation


_METRICS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
    "matthews_correlation": _matthews_correlation,
    "pearson": _correlation("pearsonr"),
    "spearmanr": _correlation("spearmanr"),
}
_OF_SETS: dict[str, Callable[[Values, Values], float]] = {
    "accuracy": _accuracy,
    "micro_f1": _micro_f1_of_sets,
    "macro_f1": _macro_f1_of_sets,
}
