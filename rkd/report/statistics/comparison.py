"""Paired comparisons of two variants over seeds and dev examples: difference, interval and p-value.

A comparison of two variants is a fully crossed design: every seed of both variants predicts every dev example. Scores
vary with the seed (initial weights, order of the data) and with the sample of dev examples. Multi-reader multi-case
studies in radiology have the same design: readers (here seeds) judge the same cases (examples) under two modalities
(variants). The variance of the difference is decomposed as in Obuchowski and Rockette. With d_s the difference of the
two variants' scores at seed s, s = 1 … S:

    D  = mean of d_s
    σ² = sample variance of d_s over seeds
    c  = mean covariance, over resampled dev sets, of d_s and d_s' for two different seeds (0 if negative)
    Var(D) = σ²/S + c
    95 % interval: D ± √( t² · σ²/S + z² · c ),  t of Student with S − 1 degrees of freedom, z = 1.96

σ²/S is the variance between seeds. c is common to all seeds and does not shrink with more seeds. c is estimated by a
bootstrap over examples, which works for any metric (see `rkd.metrics.weighted`). The half-widths of the two components
are added in quadrature (Howe; Zou and Donner), because σ² has S − 1 degrees of freedom and c has hundreds. With c = 0
this is the paired t-test over seeds. p is 1 − the confidence level at which the interval just reaches 0.

Alternatives were simulated (docs/statistics.md; the main ones: tests/unit/report/statistics/test_comparison.py). A
hierarchical bootstrap (seeds, then examples) understates the variance of 5 seeds by a fifth and has no small-sample
correction (1.96 standard errors instead of Student's 2.78). With degrees of freedom estimated from the data
(Satterthwaite, Hillis) and 2 or 3 seeds, the false positive rate is twice the nominal one.

If examples are clustered (`rkd.report.statistics.clusters`), whole clusters are resampled instead of examples.

With one seed, σ² is unknown. The comparison is then about this pair of models only, and Var(D) is the variance of d
over resampled examples.

References: Obuchowski and Rockette (1995), Communications in Statistics B 24(2); Howe (1974), Journal of the American
Statistical Association 69; Zou and Donner (2008), Statistics in Medicine 27; Hillis (2007), Statistics in Medicine 26;
Holm (1979), Scandinavian Journal of Statistics 6(2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from rkd.errors import RkdError
from rkd.metrics.weighted import resampled_primary_scores
from rkd.report.names import AVERAGE
from rkd.report.statistics.clusters import resampled_by_cluster
from rkd.report.statistics.intervals import LEVEL
from rkd.report.statistics.power import Variances, minimum_detectable_effect
from rkd.report.statistics.predictions import Predictions, Values, pair

RESAMPLES = 10_000


@dataclass(frozen=True)
class Comparison:
    """The difference between two variants on a task, or on the average of tasks, and its uncertainty. Fractions.

    Attributes:
        differences: score of the variant minus score of the baseline, one per seed.
        covariance: mean covariance of two different seeds' differences over resampled examples. With one seed, the
            variance of its difference.
        sampling_error: standard error of the score of one baseline run due to the sampling of dev examples.
        examples: number of dev examples.
    """

    variant: str
    baseline: str
    task: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    covariance: float
    sampling_error: float
    examples: int
    files: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """Mean difference over seeds; NaN if the difference of any seed is undefined."""
        return float(np.mean(self.differences))

    @property
    def examples_only(self) -> bool:
        """True with one seed: the variance over seeds is unknown."""
        return len(self.seeds) == 1

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(self._seed_variance / len(self.seeds) + max(self.covariance, 0.0))

    @property
    def variances(self) -> Variances:
        """Variance components for `rkd.report.statistics.power`; with one seed, the seed component is NaN."""
        by_seed = math.nan if self.examples_only else self._seed_variance
        return Variances(by_seed, max(self.covariance, 0.0))

    @property
    def detectable(self) -> float:
        """Minimum detectable effect: the true difference that an experiment of this size detects with 80 % power."""
        return minimum_detectable_effect(self.variances, len(self.seeds))

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference; 1 for identical predictions, NaN if no test is possible."""
        if not self.error > 0:
            return 1.0 if self.difference == 0 else math.nan
        return self._level_at(abs(self.difference))

    def p_equivalent(self, margin: float) -> float:
        """Return the p-value of the two one-sided tests (TOST) against a true difference of `margin` or more.

        It is below 0.05 exactly if the 90 % interval lies within ±margin. It is NaN without a standard error, also for
        identical predictions: these data cannot bound the difference on other examples.

        Args:
            margin: equivalence margin, a fraction like the differences.
        """
        if not self.error > 0:
            return math.nan
        room = margin - abs(self.difference)
        half = self._level_at(abs(room)) / 2
        return half if room > 0 else 1 - half

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the confidence interval of the difference; NaN if no test is possible."""
        if not self.error > 0 and self.difference != 0:
            return math.nan, math.nan
        half = self._half_width(1 - level)
        return self.difference - half, self.difference + half

    def _level_at(self, distance: float) -> float:
        """Return the two-sided p at which the half-width of the interval equals `distance`."""
        smallest = 1e-100
        if self._half_width(smallest) <= distance:
            return 0.0
        log_p = brentq(lambda x: self._half_width(math.exp(x)) - distance, math.log(smallest), 0.0)
        return math.exp(log_p)

    def _half_width(self, p: float) -> float:
        """Return the half-width of the interval at confidence level 1 − `p`."""
        z, by_seed = float(ndtri(p / 2)), 0.0
        if not self.examples_only:
            by_seed = float(stdtrit(len(self.seeds) - 1, p / 2)) * math.sqrt(self._seed_variance / len(self.seeds))
        return math.hypot(by_seed, z * math.sqrt(max(self.covariance, 0.0)))

    @property
    def _seed_variance(self) -> float:
        return 0.0 if self.examples_only else float(np.var(self.differences, ddof=1))


def compare(variant: Predictions, baseline: Predictions, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare two variants on the seeds and dev examples that both have; see the module's docstring.

    Args:
        variant, baseline: what `Predictions.read` returns.
        resamples: number of bootstrap samples of the dev examples, for the covariance c.
        seed: seed of the resampling; it makes tables reproducible.

    Raises:
        RkdError: for the same reasons as `pair`.
    """
    variant, baseline = pair(variant, baseline)
    boot, n = resampled(variant, np.vstack([variant.predictions, baseline.predictions]), resamples, seed)
    defined = boot[:, ~np.isnan(boot).any(axis=0)]
    count = len(variant.seeds)
    covariance = sampling_variance = math.nan
    if defined.shape[1] > resamples / 2 and n > 1:
        # Bessel's correction: a bootstrap variance divides by n, the number of units, instead of n − 1.
        scale = n / (n - 1)
        sampling_variance = scale * float(defined[count:].var(axis=1, ddof=1).mean())
        matrix = scale * np.cov(defined[:count] - defined[count:]).reshape(count, count)
        off_diagonal = float(matrix.sum() - np.trace(matrix))
        covariance = off_diagonal / (count * (count - 1)) if count > 1 else float(matrix[0, 0])
    return Comparison(
        variant.variant,
        baseline.variant,
        variant.task.name,
        variant.seeds,
        tuple((variant.scores - baseline.scores).tolist()),
        covariance,
        math.sqrt(sampling_variance),
        variant.labels.size,
        variant.files + baseline.files,
    )


def resampled(runs: Predictions, predictions: Values, resamples: int, seed: int) -> tuple[Values, int]:
    """Return primary scores of predictions under resampled dev examples, or clusters if `runs` has clusters.

    Args:
        runs: source of the task, labels and clusters.
        predictions: shape (models, examples).
        resamples, seed: as in `compare`.

    Returns:
        Fractions, shape (models, resamples), and the number of units (examples or clusters) that were drawn.
    """
    rng = np.random.default_rng(seed)
    if runs.clusters is None:
        return resampled_primary_scores(runs.task, runs.labels, predictions, resamples, rng), runs.labels.size
    boot = resampled_by_cluster(runs.task, runs.labels, predictions, runs.clusters, resamples, rng)
    return boot, np.unique(runs.clusters).size


def average(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the comparison of the mean over tasks.

    Differences are averaged seed by seed. The tasks' dev examples are assumed to be independent.

    Args:
        comparisons: one per task, all of the same two variants and the same seeds.

    Raises:
        RkdError: the variants or seeds differ.
    """
    if len({(found.variant, found.baseline, found.seeds) for found in comparisons}) != 1:
        raise RkdError("average: found comparisons of different variants or seeds; expected the same for every task")
    first, tasks = comparisons[0], len(comparisons)
    return Comparison(
        first.variant,
        first.baseline,
        AVERAGE,
        first.seeds,
        tuple(np.mean([found.differences for found in comparisons], axis=0).tolist()),
        sum(found.covariance for found in comparisons) / tasks**2,
        math.sqrt(sum(found.sampling_error**2 for found in comparisons)) / tasks,
        sum(found.examples for found in comparisons),
        tuple(file for found in comparisons for file in found.files),
    )
