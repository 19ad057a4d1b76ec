"""Bootstrap of primary scores over dev examples, with the same resamples for every run, in plain NumPy.

A bootstrap sample is one weight per example: the number of times it was drawn. Every GLUE metric is a function of
weighted counts or weighted moments, so none is computed example by example:

* Accuracy, F1 and Matthews correlation depend only on labels and predicted classes. Examples with the same label and
  the same predictions of all runs form a pattern. A multinomial draw over patterns has the same distribution as drawing
  examples, and there are far fewer patterns than examples.
* Pearson depends on weighted moments. Spearman is Pearson on the mid-ranks of the resample, which follow from the
  cumulative weights in the order of the values.

Degenerate resamples get the same scores as in `rkd.metrics`: 0 for F1 and Matthews, NaN for the correlations.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from rkd.tasks import Task

Values = NDArray[np.float64]
_CELLS = 1 << 19  # maximum number of weights in memory


def resampled_primary_scores(
    task: Task, labels: Values, predictions: Values, resamples: int, rng: np.random.Generator
) -> Values:
    """Compute the primary score of each run under each of `resamples` bootstrap samples of the examples.

    Args:
        task: determines the metrics.
        labels: true class ids or scores, shape (examples,).
        predictions: predicted ones, shape (runs, examples); every run sees the same resamples.
        resamples: number of bootstrap samples.
        rng: source of randomness.

    Returns:
        Fractions, shape (runs, resamples); NaN where a correlation is undefined.

    >>> from rkd.tasks import get
    >>> labels, predictions = np.array([0.0, 1, 1, 0]), np.array([[0.0, 1, 0, 0]])
    >>> resampled_primary_scores(get("rte"), labels, predictions, 1000, np.random.default_rng(0)).mean().round(1)
    np.float64(0.8)
    """
    draw = _continuous if task.regression else _patterns
    parts = [primary_scores(task, y, p, weights) for y, p, weights in draw(labels, predictions, resamples, rng)]
    return np.concatenate(parts, axis=1)


def primary_scores(task: Task, labels: Values, predictions: Values, weights: Values) -> Values:
    """Compute the primary scores of weighted examples, shape (runs, resamples).

    Args:
        task: determines the metrics.
        labels: shape (examples,).
        predictions: shape (runs, examples).
        weights: weight of each example, shape (resamples, examples); all rows have the same sum.
    """
    known = _OF_SETS if task.multi_label else _METRICS
    scores = [known[name](labels, predictions, weights) for name in task.primary_metrics]
    return np.mean(scores, axis=0).T


def _patterns(
    labels: Values, predictions: Values, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Values, Values, Values]]:
    """Yield (labels, predictions, weights) of the distinct patterns, for some resamples at a time."""
    patterns, counts = np.unique(np.vstack([labels, predictions]), axis=1, return_counts=True)
    chances = counts / counts.sum()
    for size in _portions(resamples, counts.size):
        weights = rng.multinomial(labels.size, chances, size=size).astype(np.float64)
        yield patterns[0], patterns[1:], weights


def _continuous(
    labels: Values, predictions: Values, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[Values, Values, Values]]:
    """Yield (labels, predictions, weights) of the examples themselves, for some resamples at a time."""
    n = labels.size
    for size in _portions(resamples, n):
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        yield (
            labels,
            predictions,
            np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64),
        )


def _portions(resamples: int, width: int) -> Iterator[int]:
    most = max(1, _CELLS // width)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)


def _accuracy(labels: Values, predictions: Values, weights: Values) -> Values:
    return weights @ (predictions == labels).T.astype(np.float64) / weights.sum(axis=1, keepdims=True)


def _f1(labels: Values, predictions: Values, weights: Values) -> Values:
    predicted, true = predictions == 1, labels == 1
    hits = weights @ (predicted & true).T.astype(np.float64)
    either = weights @ (predicted.astype(np.float64) + true).T
    return np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)


def _macro_f1(labels: Values, predictions: Values, weights: Values) -> Values:
    total, classes = np.zeros((len(weights), len(predictions))), np.zeros((len(weights), len(predictions)))
    for kind in np.union1d(labels, predictions):
        predicted, true = predictions == kind, labels == kind
        hits = weights @ (predicted & true).T.astype(np.float64)
        either = weights @ (predicted.astype(np.float64) + true).T
        total += np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
        classes += either > 0
    return total / classes


def _balanced_accuracy(labels: Values, predictions: Values, weights: Values) -> Values:
    total, classes = np.zeros((len(weights), len(predictions))), np.zeros((len(weights), 1))
    for kind in np.unique(labels):
        true = labels == kind
        hits, all_of_it = weights @ ((predictions == kind) & true).T.astype(np.float64), weights @ true[:, None]
        total += np.divide(hits, all_of_it, out=np.zeros_like(hits), where=all_of_it > 0)
        classes += all_of_it > 0
    return total / classes


def _set_counts(labels: Values, predictions: Values, weights: Values) -> Iterator[tuple[Values, Values]]:
    """Yield 2·TP and 2·TP + FP + FN of each label, shape (resamples, runs); see `rkd.metrics.scores`."""
    sets = labels.astype(np.int64), predictions.astype(np.int64)
    for label in range(int(max(each.max() for each in sets)).bit_length()):
        true, predicted = (each >> label & 1 for each in sets)
        hits = weights @ (predicted & true).T.astype(np.float64)
        yield 2 * hits, weights @ (predicted + true).T.astype(np.float64)


def _micro_f1_of_sets(labels: Values, predictions: Values, weights: Values) -> Values:
    hits, either = np.zeros((2, len(weights), len(predictions)))
    for more_hits, more in _set_counts(labels, predictions, weights):
        hits, either = hits + more_hits, either + more
    return np.divide(hits, either, out=np.zeros_like(hits), where=either > 0)


def _macro_f1_of_sets(labels: Values, predictions: Values, weights: Values) -> Values:
    total, counted = np.zeros((2, len(weights), len(predictions)))
    for hits, either in _set_counts(labels, predictions, weights):
        total = total + np.divide(hits, either, out=np.zeros_like(hits), where=either > 0)
        counted = counted + (either > 0)
    return np.divide(total, counted, out=np.zeros_like(total), where=counted > 0)


def _matthews_correlation(labels: Values, predictions: Values, weights: Values) -> Values:
    """Compute R_K of Gorodkin (2004), as in `rkd.metrics`."""
    n = weights.sum(axis=1, keepdims=True)
    covariance = n * (weights @ (predictions == labels).T.astype(np.float64))
    spread_p, spread_t = n * n, n * n
    for kind in np.union1d(labels, predictions):
        p = weights @ (predictions == kind).T.astype(np.float64)
        t = weights @ (labels == kind).astype(np.float64)[:, None]
        covariance, spread_p, spread_t = covariance - p * t, spread_p - p * p, spread_t - t * t
    product = spread_p * spread_t
    return np.divide(covariance, np.sqrt(product), out=np.zeros_like(covariance), where=product > 0)


def _pearson(labels: Values, predictions: Values, weights: Values) -> Values:
    n = weights.sum(axis=1, keepdims=True)
    y, x = (
        labels - labels.mean(),
        predictions - predictions.mean(axis=1, keepdims=True),
    )  # smaller rounding errors
    mean_y, mean_x = weights @ y[:, None] / n, weights @ x.T / n
    covariance = weights @ (x * y).T / n - mean_x * mean_y
    var_y = weights @ (y * y)[:, None] / n - mean_y**2
    var_x = weights @ (x * x).T / n - mean_x**2
    # A constant sample's variance differs from 0 only by rounding.
    known = (var_y > 1e-12 * np.mean(y * y)) & (var_x > 1e-12 * np.mean(x * x, axis=1))
    spread = np.sqrt(np.where(known, var_x * var_y, 1.0))
    return np.where(known, covariance / spread, np.nan)


def _spearmanr(labels: Values, predictions: Values, weights: Values) -> Values:
    drawn = np.ascontiguousarray(weights.T)  # examples first: operations on whole rows are several times faster
    y = _centred_mid_ranks(labels, drawn)
    drawn_y = drawn * y
    var_y = np.einsum("ib,ib->b", drawn_y, y)
    result = np.full((len(weights), len(predictions)), np.nan)
    for column, prediction in enumerate(predictions):
        x = _centred_mid_ranks(prediction, drawn)
        covariance = np.einsum("ib,ib->b", x, drawn_y)
        product = np.einsum("ib,ib,ib->b", drawn, x, x) * var_y
        known = product > 0  # ranks are exact, so the variance of a constant sample is exactly 0
        result[known, column] = covariance[known] / np.sqrt(product[known])
    return result


def _centred_mid_ranks(values: Values, drawn: Values) -> Values:
    """Compute the mid-rank of each value in each resample, minus the mean rank.

    Args:
        values: shape (examples,).
        drawn: weights, shape (examples, resamples), also the shape of the result.
    """
    distinct, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    sizes = drawn[np.argsort(values, kind="stable")]
    if distinct.size < values.size:
        sizes = np.add.reduceat(sizes, np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    below = np.zeros_like(sizes)  # draws of smaller values; np.cumsum along this axis is ten times as slow
    for line in range(1, len(sizes)):
        np.add(below[line - 1], sizes[line - 1], out=below[line])
    ranks = below + (sizes + 1) / 2 - (drawn.sum(axis=0) + 1) / 2
    result: Values = ranks[group]
    return result


_METRICS: dict[str, Callable[[Values, Values, Values], Values]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "balanced_accuracy": _balanced_accuracy,
    "matthews_correlation": _matthews_correlation,
    "pearson": _pearson,
    "spearmanr": _spearmanr,
}
_OF_SETS: dict[str, Callable[[Values, Values, Values], Values]] = {
    "accuracy": _accuracy,
    "micro_f1": _micro_f1_of_sets,
    "macro_f1": _macro_f1_of_sets,
}
