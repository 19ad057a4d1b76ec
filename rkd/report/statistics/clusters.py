"""Clusters of related dev examples, and the cluster bootstrap.

MNLI pairs each premise with three hypotheses, QNLI pairs a question with several sentences, and QQP repeats questions
in several pairs. Errors on such examples are correlated, and a bootstrap that draws single examples understates the
variance. The cluster bootstrap draws whole clusters with replacement, as many as there are, each with all of its
examples (Davison and Hinkley, 1997, Bootstrap Methods and their Application, §3.8; Cameron, Gelbach and Miller, 2008,
Review of Economics and Statistics 90).

Cluster ids are an integer array parallel to the labels (`Predictions.clusters`). They are computed from the texts
(`cluster_ids`). With fewer than about 40 clusters, the normal quantile makes intervals too short.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rkd.metrics.weighted import primary_scores
from rkd.tasks import Task

Values = NDArray[np.float64]
Ids = NDArray[np.int64]
_MAX_WEIGHTS = 1 << 19  # weights in memory at a time


def cluster_ids(fields: Sequence[ArrayLike]) -> Ids:
    """Return the cluster of each example: examples that share a value are connected, directly or through others.

    Args:
        fields: arrays of texts or other values, shape (examples,) each. One field groups examples by its values.
            Several fields are interchangeable: equal values connect examples across fields, because a question of QQP
            may be first in one pair and second in another.

    Returns:
        Cluster ids, integers from 0, shape (examples,).

    >>> cluster_ids([["a", "b", "a", "c"]]).tolist()
    [0, 1, 0, 2]
    >>> cluster_ids([["a", "c", "e"], ["b", "a", "f"]]).tolist()
    [0, 0, 1]
    """
    columns = [np.asarray(field) for field in fields]
    size = columns[0].size
    values, codes = np.unique(np.concatenate(columns), return_inverse=True)
    examples = np.tile(np.arange(size), len(columns))
    total = size + values.size  # a graph with a node per example and one per value
    edges = coo_array((np.ones(codes.size, dtype=np.int8), (examples, size + codes)), shape=(total, total))
    _, component = connected_components(edges, directed=False)
    found: Ids = component[:size].astype(np.int64)
    return found


def resampled_by_cluster(
    task: Task, labels: Values, predictions: Values, clusters: Ids, resamples: int, rng: np.random.Generator
) -> Values:
    """Return primary scores under bootstrap samples of whole clusters.

    `rkd.metrics.weighted.resampled_primary_scores` does the same for independent examples.

    Args:
        task: the task, which determines the metrics.
        labels: true class ids or scores, shape (examples,).
        predictions: predicted class ids or scores, shape (runs, examples); all runs share the same resamples.
        clusters: cluster id of each example, shape (examples,).
        resamples: number of bootstrap samples.
        rng: source of randomness.

    Returns:
        Fractions, shape (runs, resamples); NaN where undefined.
    """
    _, places = np.unique(clusters, return_inverse=True)
    if task.regression:
        units = np.arange(labels.size)  # examples rarely agree in all scores
        answers = np.vstack([labels, predictions])
    else:
        answers, units = np.unique(np.vstack([labels, predictions]), axis=1, return_inverse=True)
    composition = coo_array((np.ones(labels.size), (places, units))).tocsr()
    parts = [
        primary_scores(task, answers[0], answers[1:], drawn @ composition)
        for drawn in _draws(composition.shape[0], answers.shape[1], resamples, rng)
    ]
    return np.concatenate(parts, axis=1)


def _draws(clusters: int, units: int, resamples: int, rng: np.random.Generator) -> Iterator[Values]:
    """Yield batches of cluster counts, shape (resamples in the batch, clusters)."""
    most = max(1, _MAX_WEIGHTS // max(clusters, units))
    for start in range(0, resamples, most):
        size = min(most, resamples - start)
        drawn = rng.integers(clusters, size=(size, clusters)) + clusters * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)
