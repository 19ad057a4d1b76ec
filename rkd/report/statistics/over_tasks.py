"""Inference beyond the tasks at hand: the mean over tasks, a new task, and the probability of improvement.

The average over tasks with its interval (`comparison.average`) holds for exactly these tasks: it generalizes to other
seeds and other dev sets. Whether a method helps on *similar tasks* is a wider question, and tasks are few. Let D̂_t be
the difference on task t = 1 … K and v_t its variance, with true differences D_t ~ N(μ, τ²):

* **Mean over similar tasks.** Unweighted Student's t over the K differences. Its centre is the average that the table
  prints. At the 5 % level it is valid however much the v_t differ (Ibragimov and Müller, 2010, Journal of Business &
  Economic Statistics 28). Weights 1/(v_t + τ̂²) with the Hartung-Knapp correction, and τ² by Paule and Mandel or REML,
  give shorter intervals. In simulations they are too short, because v_t itself is estimated from few seeds.
* **A new task.** A prediction interval needs τ, which 4 to 9 tasks hardly determine. With a point estimate, usually 0,
  nominal 95 % intervals covered 83 to 93 %. The interval here uses the whole confidence distribution of τ² instead. For
  each quantile q of χ² with K − 1 degrees of freedom, it takes the τ² at which the generalized Q statistic equals q (0
  if there is none). Given τ², D_new ~ N(μ̂, 1/Σw + τ²) with weights w = 1/(v_t + τ²). The interval is that of the
  mixture. It is the interval of Nagashima, Noma and Furukawa (2019, Statistical Methods in Medical Research 28), with a
  normal distribution for μ̂ instead of theirs and without random draws. It covered 95 to 100 %.

The probability of improvement (Agarwal et al., 2021, NeurIPS 34) is the probability that a run of one variant scores
higher than a run of the other on the same dev set; ties count half. It is a mean over tasks of Mann-Whitney statistics.
Bootstrap intervals are too short with five seeds or fewer (coverage 91 % with three seeds and eight tasks, 78 % with
one task). They have zero width if all runs of one variant win. The interval here inverts the score test with the
variance of Hanley and McNeil (method 5 of Newcombe, 2006, Statistics in Medicine 25), which is known for every
candidate value.

Simulated coverage: docs/statistics.md and tests/unit/report/statistics/test_over_tasks.py.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, ndtri

from rkd.report.statistics.comparison import Comparison
from rkd.report.statistics.intervals import LEVEL, seed_interval

Values = NDArray[np.float64]
_QUANTILES = 200  # number of quantiles of the confidence distribution of τ²


class OverTasks(NamedTuple):
    """Intervals of a difference over a population of tasks. Fractions.

    Attributes:
        tasks: number of tasks.
        mean: unweighted mean over tasks, as in the table.
        low, high: interval of the mean over similar tasks; NaN for one task.
        tau: standard deviation of the true differences between tasks; median of its confidence distribution.
        new_low, new_high: interval of the true difference on a new task. Like tau, NaN for fewer than three tasks.
    """

    tasks: int
    mean: float
    low: float
    high: float
    tau: float
    new_low: float
    new_high: float


def over_tasks(comparisons: Sequence[Comparison], level: float = LEVEL) -> OverTasks:
    """Return intervals for tasks similar to those compared; see the module's docstring.

    Args:
        comparisons: one per task, all of the same two variants. Comparisons without a standard error (identical
            predictions) count in the mean and its interval, but not in the interval for a new task.
        level: confidence level of both intervals.
    """
    mean = seed_interval([one.difference for one in comparisons], level)
    known = [one for one in comparisons if one.error > 0 and not math.isnan(one.difference)]
    new = (math.nan, math.nan, math.nan)
    if len(known) >= 3:
        new = new_task([one.difference for one in known], [one.error**2 for one in known], level)
    return OverTasks(len(comparisons), mean.mean, mean.low, mean.high, *new)


def new_task(differences: ArrayLike, variances: ArrayLike, level: float = LEVEL) -> tuple[float, float, float]:
    """Return the median of τ, and the bounds of the interval of the true difference on a new task.

    Args:
        differences: estimated differences, shape (tasks,); at least three tasks.
        variances: squared standard errors of the differences, above 0, shape (tasks,).
        level: probability that the interval contains the true difference on the new task.

    >>> [round(x, 2) for x in new_task([1.0, 2.0, 3.0, 2.0], [1e-6] * 4)]
    [0.92, -0.9, 4.9]
    """
    d, v = np.asarray(differences, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    quantiles = chdtri(d.size - 1, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    top = float(np.sum((d - d.mean()) ** 2)) / quantiles.min()  # Q(τ²) < Σ(d − d̄)²/τ²
    tau2 = np.array([_tau2(d, v, q, top) for q in quantiles])
    weights = 1 / (v + tau2[:, None])
    total = weights.sum(axis=1)
    centres, widths = weights @ d / total, np.sqrt(1 / total + tau2)

    def quantile(p: float) -> float:
        span = 10 * (np.ptp(d) + widths.max())
        return float(brentq(lambda x: float(ndtr((x - centres) / widths).mean()) - p, d.min() - span, d.max() + span))

    return math.sqrt(float(np.median(tau2))), quantile((1 - level) / 2), quantile((1 + level) / 2)


class Improvement(NamedTuple):
    """The probability that a run of the variant beats a run of the baseline, over tasks, with its interval."""

    probability: float
    low: float
    high: float


def probability_of_improvement(
    variants: Sequence[ArrayLike], baselines: Sequence[ArrayLike], level: float = LEVEL
) -> Improvement:
    """Return the mean over tasks of P(variant > baseline) + ½ P(variant = baseline), for independent runs.

    The interval generalizes to other seeds, but holds for these tasks and dev sets only.

    Args:
        variants, baselines: scores by seed, one array per task; the numbers of seeds may differ.
        level: confidence level of the interval.

    Returns:
        Probability and bounds; all are NaN if any score is NaN.

    >>> [round(x, 2) for x in probability_of_improvement([[0.7, 0.8, 0.9]], [[0.4, 0.5, 0.6]])]
    [1.0, 0.5, 1.0]
    """
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(variants, baselines, strict=True)]
    if any(np.isnan(side).any() for pair in pairs for side in pair):
        return Improvement(math.nan, math.nan, math.nan)
    wins = [np.sign(a[:, None] - b).mean() / 2 + 0.5 for a, b in pairs]
    found, z, count = float(np.mean(wins)), float(ndtri((1 + level) / 2)), len(pairs)

    def excess(p: float) -> float:
        variance = sum(_mann_whitney_variance(p, a.size, b.size) for a, b in pairs) / count**2
        return (found - p) ** 2 - z * z * variance

    edge = 1e-9  # excludes the spurious roots at 0 and 1, where the variance is 0
    low = 0.0 if found <= edge else brentq(excess, 0.0, min(found, 1 - edge))
    high = 1.0 if found >= 1 - edge else brentq(excess, max(found, edge), 1.0)
    return Improvement(found, float(low), float(high))


def _mann_whitney_variance(p: float, m: int, n: int) -> float:
    """Return the variance of a Mann-Whitney statistic with mean `p`, for m and n runs (Newcombe's method 5)."""
    more = (m + n) / 2 - 1
    return p * (1 - p) * (1 + more * ((1 - p) / (2 - p) + p / (1 + p))) / (m * n)


def _tau2(d: Values, v: Values, q: float, top: float) -> float:
    """Return the τ² at which the generalized Q statistic, which decreases with τ², equals `q`; 0 if none does."""

    def excess(tau2: float) -> float:
        weights = 1 / (v + tau2)
        return float(np.sum(weights * (d - weights @ d / weights.sum()) ** 2)) - q

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, top))
