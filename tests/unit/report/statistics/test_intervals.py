"""Intervals of the mean over seeds."""

import math

import numpy as np
import pytest
from scipy import stats

from rkd.report.statistics.intervals import seed_interval


def test_the_interval_is_students():
    scores = [71.2, 70.1, 73.0, 72.2, 69.9]
    found = seed_interval(scores)
    expected = stats.t.interval(0.95, 4, np.mean(scores), stats.sem(scores))
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.mean, found.sd, found.n) == (
        pytest.approx(np.mean(scores)),
        pytest.approx(np.std(scores, ddof=1)),
        5,
    )
    assert seed_interval([70.0])[1:] == pytest.approx((math.nan, 1, math.nan, math.nan), nan_ok=True)
    assert math.isnan(seed_interval([70.0, math.nan]).low)
    assert math.isnan(seed_interval([]).mean)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_covers_the_true_mean_of_simulated_runs(seeds):
    simulated = np.random.default_rng(0).normal(72, 1.5, (4000, seeds))
    covered = np.mean([low <= 72 <= high for _, _, _, low, high in map(seed_interval, simulated)])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))
