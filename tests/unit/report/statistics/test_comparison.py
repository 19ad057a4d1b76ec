"""Paired comparisons over seeds and examples, on data whose answer is known."""

import math

import numpy as np
import pytest
from scipy import stats

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.metrics.weighted import primary_scores, resampled_primary_scores
from rkd.report.statistics.comparison import Comparison, average, compare
from rkd.tasks import get, primary_score
from tests.helpers.crossed_runs import answers, crossed, crossed_runs, runs

RTE = get("rte")


# --- resampled metrics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "mnli", "rte"])
def test_weighted_scores_are_those_of_repeated_examples(name):
    task, rng = get(name), np.random.default_rng(1)
    labels, predictions = answers(task, 40, 3, rng)
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=25).astype(float)
    found = primary_scores(task, labels, predictions, weights)
    for line, drawn in enumerate(weights.astype(int)):
        for run, prediction in enumerate(predictions):
            scores = metrics.compute(task, np.repeat(prediction, drawn), np.repeat(labels, drawn))
            assert found[run, line] == pytest.approx(primary_score(task, scores))


def test_degenerate_resamples_are_scored_as_metrics_scores_them():
    constant = np.array([[1.0, 1, 1, 1]])
    weights = np.array([[1.0, 1, 1, 1], [4, 0, 0, 0]])
    labels = np.array([0.0, 1, 0, 1])
    assert primary_scores(get("cola"), labels, constant, weights).tolist() == [[0, 0]]
    assert primary_scores(get("mrpc"), np.zeros(4), 0 * constant, weights).tolist() == [[0.5, 0.5]]
    assert np.isnan(primary_scores(get("stsb"), labels, constant, weights)).all()
    assert np.isnan(primary_scores(get("stsb"), labels, labels[None] + 1, weights)).tolist() == [[False, True]]


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "mnli"])
def test_drawing_patterns_is_drawing_examples(name):
    """The bootstrap distribution agrees with that of scipy, which draws examples one by one."""
    task, rng = get(name), np.random.default_rng(2)
    labels, predictions = answers(task, 120, 2, rng)
    found = resampled_primary_scores(task, labels, predictions, 4000, rng)

    def statistic(variants):
        return primary_score(task, metrics.compute(task, predictions[0][variants], labels[variants]))

    reference = stats.bootstrap((np.arange(120),), statistic, n_resamples=1000, vectorized=False, rng=3)
    assert found[0].std() == pytest.approx(reference.standard_error, rel=0.1)
    assert found[0].mean() == pytest.approx(reference.bootstrap_distribution.mean(), abs=0.01)


# --- comparisons ---------------------------------------------------------------------------------------------


def comparison(differences, covariance, error=0.01):
    seeds = tuple(range(len(differences)))
    return Comparison("a", "b", "rte", seeds, tuple(differences), covariance, error, 277)


def test_where_examples_share_nothing_it_is_the_paired_t_test():
    a, b = np.array([0.71, 0.70, 0.74, 0.73]), np.array([0.70, 0.69, 0.71, 0.73])
    found = comparison(a - b, covariance=0.0)
    expected = stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert comparison(a - b, covariance=-1e-4).p == found.p, "a negative covariance counts as none"


def test_the_half_widths_of_both_parts_add_in_quadrature():
    found = comparison([0.01, 0.02, 0.03], 1e-3)  # variance over seeds 1e-4
    assert found.error == pytest.approx(math.sqrt(1e-4 / 3 + 1e-3))
    by_seed, by_example = stats.t.ppf(0.975, 2) * math.sqrt(1e-4 / 3), stats.norm.ppf(0.975) * math.sqrt(1e-3)
    assert found.interval()[1] - 0.02 == pytest.approx(math.hypot(by_seed, by_example))


@pytest.mark.parametrize("covariance", [0.0, 1e-6, 1e-5, 1e-4])
def test_p_is_the_level_at_which_the_interval_reaches_zero(covariance):
    found = comparison([0.01, 0.02, 0.03], covariance)
    assert found.interval(1 - found.p)[0] == pytest.approx(0, abs=1e-9)
    assert comparison([-0.01, -0.02, -0.03], covariance).p == pytest.approx(found.p)
    assert comparison([0.5] * 3, 1e-8).p == 0


def test_one_seed_speaks_of_the_examples_only():
    rng = np.random.default_rng(4)
    labels, (a, b) = answers(RTE, 277, 2, rng)
    found = compare(runs("rte", labels, a), runs("rte", labels, b, "finetune"))
    assert found.examples_only
    gain = (a == labels).astype(float) - (b == labels)
    standard_error = gain.std(ddof=1) / math.sqrt(277)
    assert found.difference == pytest.approx(gain.mean())
    assert found.error == pytest.approx(standard_error, rel=0.03)
    z = stats.norm.interval(0.95, gain.mean(), found.error)
    assert found.interval() == pytest.approx(z)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(gain.mean()) / found.error))
    reference = stats.bootstrap((gain,), np.mean, method="percentile", rng=5)
    assert found.interval() == pytest.approx(tuple(reference.confidence_interval), abs=0.005)


def test_the_sampling_error_is_the_binomial_one_for_accuracy():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 2, 277)
    predictions = np.where(rng.random((3, 277)) < 0.75, labels, 1 - labels)
    found = compare(runs("rte", labels, predictions), runs("rte", labels, predictions, "baseline"))
    accuracy = (predictions == labels).mean()
    assert found.sampling_error == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 277), rel=0.03)
    assert (found.difference, found.p, found.interval()) == (0, 1, (0, 0)), "variants that answer alike"


def test_what_cannot_be_tested_is_nan():
    labels, constant = np.linspace(0, 5, 50), np.full((2, 50), 3.0)
    found = compare(runs("stsb", labels, constant), runs("stsb", labels, [labels, labels], "baseline"), resamples=100)
    assert all(math.isnan(value) for value in (found.difference, found.p, found.sampling_error, *found.interval()))
    perfect = compare(runs("rte", np.ones(9), np.ones(9)), runs("rte", np.ones(9), np.zeros(9)), resamples=100)
    assert perfect.difference == 1
    assert math.isnan(perfect.p), "no resample differs: there is no error to hold the difference against"


def test_a_comparison_is_the_same_whenever_it_is_made():
    labels, predictions = answers(RTE, 100, 4, np.random.default_rng(7))
    variant, baseline = runs("rte", labels, predictions[:2]), runs("rte", labels, predictions[2:], "baseline")
    assert compare(variant, baseline, resamples=500) == compare(variant, baseline, resamples=500)


@pytest.mark.parametrize(("seeds", "seed_sd"), [(5, 0.0), (5, 0.4), (3, 0.15), (2, 0.4)])
def test_false_positives_are_near_the_nominal_level(seeds, seed_sd):
    """Both variants are alike but for the luck of seeds and examples: at most about 5 % may be called different."""
    rng = np.random.default_rng(8)
    p = np.array([compare(*crossed_runs(rng, seeds, 150, seed_sd), resamples=300).p for _ in range(500)])
    rate = np.mean(p < 0.05)
    assert 0.01 < rate < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


def test_a_hierarchical_bootstrap_of_few_seeds_errs_too_often():
    """Why the module does not use it."""
    rng = np.random.default_rng(9)

    def covers_zero():
        right = crossed(rng, 5, 150, 0.4)
        gain = right[0] - right[1]
        chosen = rng.integers(5, size=(400, 5))
        drawn = rng.multinomial(150, np.full(150, 1 / 150), size=400) / 150
        means = np.einsum("bse,be->b", gain[chosen], drawn) / 5
        low, high = np.quantile(means, [0.025, 0.975])
        return low <= 0 <= high

    assert np.mean([covers_zero() for _ in range(300)]) < 0.91


def test_a_true_difference_is_found_and_lies_in_the_interval():
    rng = np.random.default_rng(10)
    truth = np.mean([np.subtract(*crossed(rng, 1, 20_000, 0.1, (0.5, 0.0)).mean(axis=(1, 2))) for _ in range(40)])
    found = [compare(*crossed_runs(rng, 5, 250, 0.1, (0.5, 0.0)), resamples=300) for _ in range(200)]
    covered = np.mean([low <= truth <= high for low, high in (one.interval() for one in found)])
    assert 0.90 <= covered <= 0.995
    assert np.mean([one.p < 0.05 for one in found]) > 0.6


def test_the_average_adds_independent_examples_and_keeps_seeds_together():
    one, two = comparison([0.01, 0.03], 1e-4, 0.02), comparison([0.03, 0.01], 3e-4, 0.01)
    found = average([one, two])
    assert found.differences == pytest.approx((0.02, 0.02)), "seeds that balance each other"
    assert found.covariance == pytest.approx(1e-4)
    assert found.sampling_error == pytest.approx(math.sqrt(5e-4) / 2)
    with pytest.raises(RkdError, match="different variants or seeds"):
        average([one, comparison([0.01], 1e-4)])
