"""The mean over seeds and its interval."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

LEVEL = 0.95


class Interval(NamedTuple):
    """Scores over seeds: mean, sample standard deviation, number of seeds, and bounds of the confidence interval."""

    mean: float
    sd: float
    n: int
    low: float
    high: float


def seed_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Return Student's t interval of the mean over seeds.

    Student's t fits: seeds are independent draws, there are few of them, and scores over seeds are close to normal. The
    interval is for the mean over infinitely many seeds *on this dev set*. `rkd.report.statistics.comparison.compare`
    also accounts for the sampling of the dev set.

    Args:
        values: one score per seed.
        level: confidence level.

    Returns:
        sd, low and high are NaN for fewer than two values. All numbers but n are NaN if any value is NaN.

    >>> [round(float(number), 2) for number in seed_interval([70.0, 72.0, 74.0])]
    [72.0, 2.0, 3.0, 67.03, 76.97]
    """
    scores = np.asarray(values, dtype=np.float64)
    n, mean = scores.size, float(scores.mean()) if scores.size else math.nan
    if n < 2:
        return Interval(mean, math.nan, n, math.nan, math.nan)
    sd = float(scores.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Interval(mean, sd, n, mean - half, mean + half)
