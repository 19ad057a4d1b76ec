"""Power, minimum detectable effect, and the number of seeds that a margin needs.

All follow from the two variance components of a comparison (`rkd.report.statistics.comparison`): σ², the variance of
the difference over seeds, and c, the covariance that all seeds share because of the dev examples. With S seeds,

    D̂  ~ N(D, σ²/S + c),   σ̂² ~ σ² χ²/(S − 1) with S − 1 degrees of freedom, independent of D̂
    H  = √( t² σ̂²/S + z² c ),   the half-width of the interval, random only through σ̂²
    difference detected:  |D̂| > H                (t and z of the 95 % interval)
    equivalence shown:    |D̂| < m − H            (t and z of the 90 % interval, margin m)

Power is therefore one integral over χ². It is integrated numerically, not simulated. With c = 0 it is the power of
Student's t-test (non-central t). With σ = 0 the minimum detectable effect is the 2.80 standard errors of a normal test.

The components are treated as known. An estimate of σ from three seeds may be half or twice the true value: pool several
variants or tasks (`Variances.pooled`). Power is that of the next experiment of this size, given a difference that
matters. Power at the observed difference only restates p (Hoenig and Heisey, 2001, The American Statistician 55).

This module imports neither torch nor pandas, so that planning can import it cheaply.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from rkd.report.statistics.intervals import LEVEL

POWER = 0.8
MOST_SEEDS = 1000
_GRID = 2000  # quantiles of equal probability in the integral over χ²; gives three digits of power


@dataclass(frozen=True)
class Variances:
    """Variance components of a difference between two variants. Squared fractions.

    Attributes:
        seeds: σ², the variance over seeds of the difference at one seed.
        examples: c, the variance over dev sets that all seeds share.
    """

    seeds: float
    examples: float

    @classmethod
    def pooled(cls, parts: "Sequence[Variances]") -> "Variances":
        """Return mean components of similar comparisons: variants on the same task with equal numbers of seeds."""
        return cls(_mean([part.seeds for part in parts]), _mean([part.examples for part in parts]))

    @classmethod
    def average(cls, parts: "Sequence[Variances]") -> "Variances":
        """Return the components of the difference on the average of tasks, assuming independent tasks."""
        return cls(*(_mean(found) / len(parts) for found in zip(*((p.seeds, p.examples) for p in parts), strict=True)))

    def error(self, seeds: int) -> float:
        """Return the standard error of the difference with this number of seeds."""
        return math.sqrt(self.seeds / seeds + self.examples)


def examples_variance(examples: int, differing: float) -> float:
    """Return c for the accuracy of two equal variants, for plans without any finished run.

    This is an upper bound: `differing` counts all disagreements between two runs, c only those that all seeds share.

    Args:
        examples: number of dev examples.
        differing: fraction of examples that exactly one of the two variants predicts correctly.

    >>> error = math.sqrt(examples_variance(277, 0.05))
    >>> round(100 * minimum_detectable_effect(Variances(0.0, error**2), seeds=1), 1)
    3.8
    """
    return differing / examples


def difference_power(variances: Variances, seeds: int, difference: float, level: float = LEVEL) -> float:
    """Return the probability that the interval excludes 0, given the true difference.

    Args:
        variances: variance components of the comparison.
        seeds: number of seeds. With one seed, only the component of the examples counts, as in `compare`.
        difference: true difference, a fraction.
        level: confidence level of the interval.
    """
    error, half = _error(variances, seeds), _half_widths(variances, seeds, 1 - level)
    if error == 0:
        return float(difference != 0)
    return _mean(ndtr((difference - half) / error) + ndtr((-difference - half) / error))


def equivalence_power(
    variances: Variances, seeds: int, margin: float, difference: float = 0.0, level: float = LEVEL
) -> float:
    """Return the probability that the variants are found equivalent within ±margin, given the true difference.

    Args:
        variances, seeds: as in `difference_power`.
        margin: equivalence margin, a fraction.
        difference: true difference, a fraction.
        level: 1 − the significance level of each of the two one-sided tests.
    """
    error, half = _error(variances, seeds), _half_widths(variances, seeds, 2 * (1 - level))
    if error == 0:
        return float(abs(difference) < margin)
    inside = ndtr((margin - half - difference) / error) - ndtr((half - margin - difference) / error)
    return _mean(np.maximum(inside, 0.0))


def minimum_detectable_effect(variances: Variances, seeds: int, power: float = POWER, level: float = LEVEL) -> float:
    """Return the true difference that is detected with this power, a fraction; 0 if there is no variance.

    >>> round(minimum_detectable_effect(Variances(0.0, 1.0), seeds=1), 2)  # in standard errors
    2.8
    >>> round(minimum_detectable_effect(Variances(3.0, 0.0), seeds=3), 2)
    5.65
    """
    error = _error(variances, seeds)
    if error == 0 or not math.isfinite(error):
        return error
    most = float(_half_widths(variances, seeds, 1 - level)[-1]) + 10 * error
    return float(brentq(lambda x: difference_power(variances, seeds, x, level) - power, 0.0, most))


def seeds_needed(
    variances: Variances, margin: float, power: float = POWER, level: float = LEVEL, most: int = MOST_SEEDS
) -> int | None:
    """Return the smallest number of seeds that gives both tests enough power at the margin.

    With this number, variants that differ by the margin are found different with probability `power`, and equal
    variants are found equivalent within the margin with probability `power`.

    Args:
        variances: variance components of the comparison.
        margin: equivalence margin, a fraction.
        power: power required of both tests.
        level: as in `difference_power`.
        most: largest number of seeds to try.

    Returns:
        At least 2; None if `most` seeds are too few. If the component of the examples alone is too large for the
        margin, more seeds do not help; a larger dev set or more tasks do.

    >>> seeds_needed(Variances(seeds=0.01**2, examples=0.0), margin=0.01)
    11
    >>> seeds_needed(Variances(seeds=0.01**2, examples=0.01**2), margin=0.01)
    """

    def enough(seeds: int) -> bool:
        different = difference_power(variances, seeds, margin, level)
        return min(different, equivalence_power(variances, seeds, margin, level=level)) >= power

    if not enough(most):
        return None
    low, high = 1, most  # bisection: power grows with the number of seeds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _error(variances: Variances, seeds: int) -> float:
    return math.sqrt(variances.examples) if seeds == 1 else variances.error(seeds)


def _half_widths(variances: Variances, seeds: int, p: float) -> NDArray[np.float64]:
    """Return half-widths of the interval at confidence level 1 − `p`: quantiles of equal probability, ascending."""
    by_example = ndtri(p / 2) * math.sqrt(variances.examples)
    if seeds == 1:
        return np.array([abs(by_example)])
    upper = 1 - (np.arange(_GRID) + 0.5) / _GRID
    estimated = variances.seeds * chdtri(seeds - 1, upper) / (seeds - 1)
    found: NDArray[np.float64] = np.hypot(stdtrit(seeds - 1, p / 2) * np.sqrt(estimated / seeds), by_example)
    return found


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.mean(values))
