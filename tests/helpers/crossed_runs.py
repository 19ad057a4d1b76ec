"""Simulated answers of two variants to the same dev examples under several seeds, with a known true difference."""

import math

import numpy as np
from scipy.special import ndtr, ndtri

from rkd.report.statistics.predictions import Predictions
from rkd.tasks import get

_MEAN, _COMMON, _OWN, _NOISE = 0.8, 1.0, 0.5, 0.7


def runs(task, labels, predictions, variant="kd", seeds=None, clusters=None):
    """`Predictions` without files."""
    predictions = np.atleast_2d(np.asarray(predictions, dtype=float))
    seeds = tuple(seeds or range(1, len(predictions) + 1))
    labels = np.asarray(labels, dtype=float)
    files = ("f",) * len(seeds)
    return Predictions(get(task), variant, seeds, np.arange(labels.size), labels, predictions, files, clusters)


def answers(task, n, count, rng):
    """Labels and predictions with ties, and a share of right answers."""
    if task.regression:
        labels = rng.integers(0, 26, n) / 5
        return labels, np.round(labels + rng.normal(0, 1, (count, n)), 1)
    labels = rng.integers(0, task.num_labels, n).astype(float)
    return labels, np.where(rng.random((count, n)) < 0.6, labels, rng.integers(0, task.num_labels, (count, n)))


def crossed(rng, seeds, examples, seed_sd, shifts=(0.0, 0.0), clusters=None):
    """Right answers, (variants, seeds, examples), one variant per shift: easy and hard examples, not the same for all.

    Examples of one cluster share half of the variance of their difficulty.
    """
    variants = len(shifts)
    difficulty = _normal(rng, _COMMON, (1, examples), clusters) + _normal(rng, _OWN, (variants, examples), clusters)
    ability = rng.normal(0, seed_sd, (variants, seeds, 1)) + np.array(shifts)[:, None, None]
    noise = rng.normal(0, _NOISE, (variants, seeds, examples))
    return (_MEAN + difficulty[:, None] + ability + noise > 0).astype(float)


def crossed_runs(rng, seeds, examples, seed_sd, shifts=(0.0, 0.0), clusters=None):
    """`crossed` as the `Predictions` of its variants on RTE."""
    right = crossed(rng, seeds, examples, seed_sd, shifts, clusters)
    labels = np.ones(examples)
    return [runs("rte", labels, one, f"variant-{place}", clusters=clusters) for place, one in enumerate(right)]


def shift_for(difference, seed_sd):
    """The shift of `crossed` at which the variants' true accuracies differ by `difference`."""
    spread = math.sqrt(_COMMON**2 + _OWN**2 + _NOISE**2 + seed_sd**2)
    return float(spread * ndtri(ndtr(_MEAN / spread) + difference) - _MEAN)


def _normal(rng, deviation, shape, clusters):
    own = rng.normal(0, deviation, shape)
    if clusters is None:
        return own
    shared = rng.normal(0, deviation, (shape[0], clusters.max() + 1))[:, clusters]
    return math.sqrt(0.5) * (own + shared)
