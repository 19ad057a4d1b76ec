"""Fraction of the gap between a student trained alone and its teacher that distillation closes, with an interval.

    fraction = N / M,   N = score(variant) − score(baseline),   M = score(teacher) − score(baseline)

N and M share the baseline's scores and the dev examples, and M may be as uncertain as N. Fieller's interval contains
all values ρ for which N − ρM does not differ significantly from 0. The variance of N − ρM has the two components of
`rkd.report.statistics.comparison`, so the same half-width applies, with t over seeds and z over examples in quadrature:

    (N − ρM)² ≤ t² σ²(ρ)/S + z² c(ρ)

Both sides are quadratic in ρ. The set is an interval exactly if M itself differs significantly from 0
(M² > t² σ²_M/S + z² c_M). Otherwise the gap is noise: the set is the whole line, or the line without an interval, and
the fraction is undefined. It is also undefined if the teacher is worse than the baseline. A percentile bootstrap always
returns an interval, which is wrong in these cases.

The average over tasks is the ratio of the averages, not the average of ratios. A task with a small gap would dominate
an average of ratios, and a task without a significant gap would leave it undefined.

Reference: Fieller (1954), Journal of the Royal Statistical Society B 16(2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from rkd.errors import RkdError
from rkd.report.names import AVERAGE
from rkd.report.statistics.comparison import RESAMPLES, resampled
from rkd.report.statistics.intervals import LEVEL
from rkd.report.statistics.predictions import Predictions, pair

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """The gap on one task, or on the average of tasks, and the closed fraction of it. Scores are fractions.

    Attributes:
        gains: score of the variant minus score of the baseline, one per seed.
        gaps: score of the teacher minus score of the baseline, one per seed.
        covariance: covariance of (gain, gap) between two different seeds over resampled dev examples, shape (2, 2).
            With one seed, the covariance within that seed.
    """

    variant: str
    baseline: str
    task: str
    seeds: tuple[int, ...]
    gains: tuple[float, ...]
    gaps: tuple[float, ...]
    covariance: tuple[tuple[float, float], tuple[float, float]]

    @property
    def closed(self) -> float:
        """Closed fraction N / M; NaN if the gap is not significantly above 0."""
        return float(np.mean(self.gains) / np.mean(self.gaps)) if self.defined() else math.nan

    def defined(self, level: float = LEVEL) -> bool:
        """Return whether the teacher is better than the baseline, judged by the interval of their difference."""
        gap = float(np.mean(self.gaps))
        return gap > 0 and gap**2 > self._squared_half_widths(level)[1, 1]

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return Fieller's interval of the fraction; NaN if `defined` is false."""
        if not self.defined(level):
            return math.nan, math.nan
        gain, gap = float(np.mean(self.gains)), float(np.mean(self.gaps))
        q = self._squared_half_widths(level)
        a, b, c = gap**2 - q[1, 1], gain * gap - q[0, 1], gain**2 - q[0, 0]
        root = math.sqrt(max(b * b - a * c, 0.0))  # negative only by rounding
        return float((b - root) / a), float((b + root) / a)

    def _squared_half_widths(self, level: float) -> Values:
        """Return the quadratic form t² Σ/S + z² C, shape (2, 2)."""
        p, count = (1 - level) / 2, len(self.seeds)
        found: Values = float(ndtri(p)) ** 2 * _nearest_covariance(np.array(self.covariance))
        if count > 1:
            found = found + float(stdtrit(count - 1, p)) ** 2 * np.cov(self.gains, self.gaps) / count
        return found


def gap_closed(
    variant: Predictions, baseline: Predictions, teacher: Predictions, resamples: int = RESAMPLES, seed: int = 0
) -> Gap:
    """Return the gap between baseline and teacher and the variant's gain, on the seeds that all three have.

    Args:
        variant, baseline, teacher: what `Predictions.read` returns.
        resamples, seed: as in `rkd.report.statistics.comparison.compare`.

    Raises:
        RkdError: for the same reasons as `pair`.
    """
    variant, baseline = pair(variant, baseline)
    variant, teacher = pair(variant, teacher)
    baseline = baseline.of(variant.seeds)
    models = (variant, baseline, teacher)
    boot, n = resampled(variant, np.vstack([runs.predictions for runs in models]), resamples, seed)
    defined = boot[:, ~np.isnan(boot).any(axis=0)]
    covariance = np.full((2, 2), math.nan)
    if defined.shape[1] > resamples / 2 and n > 1:
        scores = defined.reshape(3, len(variant.seeds), -1)
        covariance = n / (n - 1) * _shared(scores[0] - scores[1], scores[2] - scores[1])
    (gain, both), (_, gap) = covariance.tolist()
    return Gap(
        variant.variant,
        baseline.variant,
        variant.task.name,
        variant.seeds,
        tuple((variant.scores - baseline.scores).tolist()),
        tuple((teacher.scores - baseline.scores).tolist()),
        ((gain, both), (both, gap)),
    )


def average_gap(gaps: Sequence[Gap]) -> Gap:
    """Return the gap of the mean over tasks.

    Gains and gaps are averaged seed by seed. The tasks' dev examples are assumed to be independent.

    Args:
        gaps: one per task, all of the same variants and the same seeds.

    Raises:
        RkdError: the variants or seeds differ.
    """
    if len({(found.variant, found.baseline, found.seeds) for found in gaps}) != 1:
        raise RkdError("average of gaps: different variants or seeds; expected the same for every task")
    first = gaps[0]
    (gain, both), (_, gap) = (np.sum([found.covariance for found in gaps], axis=0) / len(gaps) ** 2).tolist()
    return Gap(
        first.variant,
        first.baseline,
        AVERAGE,
        first.seeds,
        tuple(np.mean([found.gains for found in gaps], axis=0).tolist()),
        tuple(np.mean([found.gaps for found in gaps], axis=0).tolist()),
        ((gain, both), (both, gap)),
    )


def _shared(gains: Values, gaps: Values) -> Values:
    """Return the mean covariance of (gain, gap) between two different seeds over resamples, shape (2, 2).

    Args:
        gains, gaps: shape (seeds, resamples).
    """
    count = len(gains)
    table = np.cov(np.vstack([gains, gaps])).reshape(2, count, 2, count)
    same = np.trace(table, axis1=1, axis2=3)
    if count == 1:
        return same
    found: Values = (table.sum(axis=(1, 3)) - same) / (count * (count - 1))
    return found


def _nearest_covariance(matrix: Values) -> Values:
    """Return the nearest positive semidefinite matrix: negative eigenvalues are set to 0."""
    if np.isnan(matrix).any():
        return matrix
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    found: Values = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return found
