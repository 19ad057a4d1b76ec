"""Intervals for tasks like those at hand, and the probability of improvement, on simulated truths."""

import math

import numpy as np
import pytest
from scipy import stats

from rkd.report.statistics.comparison import Comparison, average
from rkd.report.statistics.over_tasks import new_task, over_tasks, probability_of_improvement

ERRORS = np.array([2.4, 0.9, 2.0, 1.9, 0.9, 0.35, 0.5, 0.6])  # points, about those of GLUE's dev sets


def comparison(differences, covariance=1e-4):
    seeds = tuple(range(len(differences)))
    return Comparison("a", "b", "rte", seeds, tuple(differences), covariance, 0.01, 277)


def simulated(rng, tasks, tau):
    """Estimated differences, their estimated variances (half of it from three seeds), and a new task's truth."""
    variances = ERRORS[:tasks] ** 2
    truths = rng.normal(0, tau, tasks + 1)
    estimated = variances * (0.5 + 0.5 * rng.chisquare(2, tasks) / 2)
    return rng.normal(truths[:-1], np.sqrt(variances)), estimated, truths[-1]


@pytest.mark.parametrize(("tasks", "tau"), [(4, 0.0), (4, 1.5), (8, 0.5)])
def test_the_intervals_cover_the_mean_and_a_new_task(tasks, tau):
    rng = np.random.default_rng(0)
    mean, new = [], []
    for _ in range(200):
        differences, variances, truth = simulated(rng, tasks, tau)
        found = stats.t.interval(0.95, tasks - 1, differences.mean(), stats.sem(differences))
        mean.append(found[0] <= 0 <= found[1])
        _, low, high = new_task(differences, variances)
        new.append(low <= truth <= high)
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)
    assert np.mean(mean) >= least
    assert np.mean(new) >= least


def test_with_exact_differences_it_is_students_prediction_interval():
    """Without errors of their own the differences are a sample, and the new one is predicted with them.

    The mixture has a normal part for the mean: it is a little narrower than Student's.
    """
    differences = np.random.default_rng(1).normal(0.3, 2.0, 9)
    tau, low, high = new_task(differences, np.full(9, 1e-9))
    half = stats.t.ppf(0.975, 8) * differences.std(ddof=1) * math.sqrt(1 + 1 / 9)
    assert (low, high) == pytest.approx((differences.mean() - half, differences.mean() + half), rel=0.02)
    assert tau == pytest.approx(differences.std(ddof=1) * math.sqrt(8 / stats.chi2.median(8)), rel=0.01)


def test_alike_tasks_have_no_spread_and_a_far_one_widens_the_interval():
    variances = np.full(6, 1.0)
    tau, low, high = new_task([0.1, 0.0, 0.2, 0.1, 0.0, 0.1], variances)
    assert tau == 0
    assert low == pytest.approx(-high, abs=0.2)
    _, lower, higher = new_task([0.1, 0.0, 0.2, 0.1, 0.0, 9.0], variances)
    assert higher - lower > 3 * (high - low)
    shifted = new_task(np.array([0.1, 0.0, 0.2, 0.1, 0.0, 0.1]) + 5, variances)
    assert shifted[1:] == pytest.approx((low + 5, high + 5))


def test_the_centre_is_the_average_of_the_table():
    parts = [comparison([0.01, 0.03]), comparison([-0.01, 0.01]), comparison([0.02, 0.04]), comparison([0.0, 0.0], 0.0)]
    found = over_tasks(parts)
    assert found.tasks == 4
    assert found.mean == pytest.approx(average(parts).difference)
    expected = stats.t.interval(0.95, 3, found.mean, stats.sem([one.difference for one in parts]))
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.new_low, found.new_high) == new_task([0.02, 0.0, 0.03], [one.error**2 for one in parts[:3]])[1:]


def test_few_tasks_have_no_interval():
    two = over_tasks([comparison([0.01, 0.03]), comparison([0.0, 0.01])])
    assert math.isfinite(two.low)
    assert math.isnan(two.new_low)
    one = over_tasks([comparison([0.01, 0.03])])
    assert one.mean == pytest.approx(0.02)
    assert math.isnan(one.low)
    assert math.isnan(over_tasks([comparison([math.nan, 0.0])] * 3).mean)


# --- probability of improvement ------------------------------------------------------------------------------


def test_it_is_the_mean_of_mann_whitney_statistics():
    rng = np.random.default_rng(2)
    variants, bases = rng.integers(0, 9, (4, 5)).astype(float), rng.integers(0, 9, (4, 3)).astype(float)
    expected = np.mean([stats.mannwhitneyu(a, b).statistic / 15 for a, b in zip(variants, bases, strict=True)])
    found = probability_of_improvement(variants, bases)
    assert found.probability == pytest.approx(expected)
    assert found.low < expected < found.high
    mirrored = probability_of_improvement(bases, variants)
    assert mirrored == pytest.approx((1 - found.probability, 1 - found.high, 1 - found.low))


def test_a_sure_win_of_few_seeds_is_not_certain():
    found = probability_of_improvement([[0.8, 0.9, 0.7]], [[0.1, 0.2, 0.3]])
    assert found.probability == found.high == 1
    assert found.low == pytest.approx(0.5, abs=0.01)
    more = probability_of_improvement([np.arange(10.0) + 20] * 8, [np.arange(10.0)] * 8)
    assert more.low > 0.95
    assert probability_of_improvement([[0.5]], [[0.5]]).probability == 0.5
    assert all(math.isnan(value) for value in probability_of_improvement([[0.5, math.nan]], [[0.5, 0.4]]))


@pytest.mark.parametrize(("tasks", "seeds", "shift"), [(1, 5, 1.0), (4, 3, 1.8), (8, 3, 0.0), (8, 5, 1.0)])
def test_the_interval_of_the_probability_covers(tasks, seeds, shift):
    rng, truth = np.random.default_rng(3), stats.norm.cdf(shift / math.sqrt(2))
    covered = []
    for _ in range(600):
        variants, bases = rng.normal(shift, 1, (tasks, seeds)), rng.normal(0, 1, (tasks, seeds))
        found = probability_of_improvement(variants, bases)
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.95 - 3.5 * math.sqrt(0.95 * 0.05 / 600)
