"""The fraction of the gap that is closed, and its interval, on data whose answer is known."""

import math

import numpy as np
import pytest
from scipy import stats

from rkd.errors import RkdError
from rkd.report.statistics.comparison import compare
from rkd.report.statistics.gap import Gap, average_gap, gap_closed
from tests.helpers.crossed_runs import crossed_runs, runs, shift_for

NOTHING = ((0.0, 0.0), (0.0, 0.0))


def gap(gains, gaps, covariance=NOTHING):
    return Gap("kd", "finetune", "rte", tuple(range(len(gains))), tuple(gains), tuple(gaps), covariance)


def test_the_interval_is_fiellers():
    """Every value in it, and none outside, makes gain − value · gap indistinguishable from 0 by Student's test."""
    gains, gaps = np.array([0.02, 0.04, 0.03, 0.05]), np.array([0.05, 0.07, 0.08, 0.06])
    found = gap(gains, gaps)
    assert found.closed == pytest.approx(0.035 / 0.065)
    for end in found.interval():
        assert stats.ttest_1samp(gains - end * gaps, 0).pvalue == pytest.approx(0.05)
    low, high = found.interval()
    assert low < found.closed < high
    assert stats.ttest_1samp(gains - (low + high) / 2 * gaps, 0).pvalue > 0.05


def test_the_examples_part_is_added_as_in_comparisons():
    gains, gaps, shared = [0.05] * 3, [0.10] * 3, ((1e-4, 0.5e-4), (0.5e-4, 1e-4))
    found = gap(gains, gaps, shared)
    for end in found.interval():
        variance = 1e-4 - 2 * end * 0.5e-4 + end**2 * 1e-4
        assert abs(0.05 - end * 0.10) == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(variance))


def test_no_fraction_where_the_gap_is_noise_or_negative():
    for gaps in ([0.05, -0.02, 0.01], [-0.05, -0.06, -0.055]):
        found = gap([0.01, 0.02, 0.015], gaps)
        assert not found.defined()
        assert all(math.isnan(value) for value in (found.closed, *found.interval()))
    assert gap([0.01] * 2, [0.02] * 2).closed == pytest.approx(0.5)
    assert math.isnan(gap([0.01, math.nan], [0.02] * 2).closed)


def test_it_agrees_with_the_comparisons_of_the_same_runs():
    variants = crossed_runs(np.random.default_rng(0), 3, 400, 0.1, (0.3, 0.0, 0.6))
    found, gain, lead = gap_closed(*variants), compare(variants[0], variants[1]), compare(variants[2], variants[1])
    assert (found.gains, found.gaps) == (gain.differences, lead.differences)
    assert found.covariance[0][0] == pytest.approx(gain.covariance, rel=0.1)
    assert found.covariance[1][1] == pytest.approx(lead.covariance, rel=0.1)
    assert found.defined() == (lead.interval()[0] > 0)


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.1), (5, 0.1)])
def test_the_interval_covers_the_true_fraction(seeds, seed_sd):
    rng = np.random.default_rng(1)
    shifts = (shift_for(0.05, seed_sd), 0.0, shift_for(0.10, seed_sd))
    found = [gap_closed(*crossed_runs(rng, seeds, 400, seed_sd, shifts), resamples=200) for _ in range(200)]
    covered = [low <= 0.5 <= high for low, high in (one.interval() for one in found if one.defined())]
    assert len(covered) > 60
    assert np.mean(covered) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / len(covered))


def test_a_gap_of_nothing_is_seldom_taken_for_one():
    rng = np.random.default_rng(2)
    found = [gap_closed(*crossed_runs(rng, 3, 150, 0.1, (0, 0, 0)), resamples=200).defined() for _ in range(200)]
    assert np.mean(found) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 200)


def test_the_average_is_the_ratio_of_averages():
    one = gap([0.02, 0.03], [0.04, 0.05], ((1e-6, 5e-7), (5e-7, 2e-6)))
    two = gap([0.01, 0.00], [0.10, 0.11], ((3e-6, 0.0), (0.0, 2e-6)))
    found = average_gap([one, two])
    assert found.task == "average"
    assert found.gains == pytest.approx((0.015, 0.015))
    assert found.closed == pytest.approx(0.015 / 0.075)
    assert np.array(found.covariance) == pytest.approx(np.array([[1e-6, 1.25e-7], [1.25e-7, 1e-6]]))
    with pytest.raises(RkdError, match="different variants or seeds"):
        average_gap([one, gap([0.1], [0.1])])


def test_the_seeds_of_all_three_count():
    labels = np.ones(20)
    models = [runs("rte", labels, [labels] * 3, name, seeds) for name, seeds in (("kd", (1, 2, 3)), ("ft", (2, 3, 4)))]
    teacher = runs("rte", labels, [labels] * 2, "teacher", (3, 4))
    assert gap_closed(*models, teacher, resamples=20).seeds == (3,)
    with pytest.raises(RkdError, match="expected at least one seed in common"):
        gap_closed(*models, runs("rte", labels, [labels], "teacher", (9,)), resamples=20)
