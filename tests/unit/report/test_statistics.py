"""Intervals, paired comparisons and corrections, on data whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.metrics.weighted import primary_scores, resampled_primary_scores
from rkd.report.statistics.comparison import Comparison, average, compare
from rkd.report.statistics.intervals import seed_interval
from rkd.report.statistics.predictions import Runs, pair, read_runs
from rkd.report.statistics.verdicts import holm
from rkd.tasks import get, primary_score

RTE = get("rte")


def runs(task, labels, predictions, variant="kd", seeds=None):
    predictions = np.atleast_2d(np.asarray(predictions, dtype=float))
    seeds = tuple(seeds or range(1, len(predictions) + 1))
    labels = np.asarray(labels, dtype=float)
    return Runs(get(task), variant, seeds, np.arange(labels.size), labels, predictions, ("f",) * len(seeds))


# --- interval over seeds -------------------------------------------------------------------------------------


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


# --- resampled metrics ---------------------------------------------------------------------------------------


def answers(task, n, count, rng):
    """Labels and predictions with ties, and a share of right answers."""
    if task.regression:
        labels = rng.integers(0, 26, n) / 5
        return labels, np.round(labels + rng.normal(0, 1, (count, n)), 1)
    labels = rng.integers(0, task.num_labels, n).astype(float)
    return labels, np.where(rng.random((count, n)) < 0.6, labels, rng.integers(0, task.num_labels, (count, n)))


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

    def statistic(rows):
        return primary_score(task, metrics.compute(task, predictions[0][rows], labels[rows]))

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
    found = compare(runs("rte", labels, predictions), runs("rte", labels, predictions, "base"))
    accuracy = (predictions == labels).mean()
    assert found.sampling_error == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / 277), rel=0.03)
    assert (found.difference, found.p, found.interval()) == (0, 1, (0, 0)), "rows that answer alike"


def test_what_cannot_be_tested_is_nan():
    labels, constant = np.linspace(0, 5, 50), np.full((2, 50), 3.0)
    found = compare(runs("stsb", labels, constant), runs("stsb", labels, [labels, labels], "base"), resamples=100)
    assert all(math.isnan(value) for value in (found.difference, found.p, found.sampling_error, *found.interval()))
    perfect = compare(runs("rte", np.ones(9), np.ones(9)), runs("rte", np.ones(9), np.zeros(9)), resamples=100)
    assert perfect.difference == 1
    assert math.isnan(perfect.p), "no resample differs: there is no error to hold the difference against"


def test_a_comparison_is_the_same_whenever_it_is_made():
    labels, predictions = answers(RTE, 100, 4, np.random.default_rng(7))
    row, base = runs("rte", labels, predictions[:2]), runs("rte", labels, predictions[2:], "base")
    assert compare(row, base, resamples=500) == compare(row, base, resamples=500)


def crossed(rng, seeds, examples, seed_sd, shift=0.0):
    """Right answers of two rows, (2, seeds, examples): examples are easy or hard, for one row more than the other."""
    difficulty = rng.normal(0.8, 1.0, examples) + rng.normal(0, 0.5, (2, 1, examples))
    ability = rng.normal(0, seed_sd, (2, seeds, 1)) + np.array([shift, 0.0])[:, None, None]
    return (difficulty + ability + rng.normal(0, 0.7, (2, seeds, examples)) > 0).astype(float)


def crossed_p(rng, seeds, examples, seed_sd):
    right = crossed(rng, seeds, examples, seed_sd)
    labels = np.ones(examples)
    return compare(runs("rte", labels, right[0]), runs("rte", labels, right[1], "base"), resamples=300).p


@pytest.mark.parametrize(("seeds", "seed_sd"), [(5, 0.0), (5, 0.4), (3, 0.15), (2, 0.4)])
def test_false_positives_are_near_the_nominal_level(seeds, seed_sd):
    """Both rows are alike but for the luck of seeds and examples: at most about 5 % may be called different."""
    rng = np.random.default_rng(8)
    p = np.array([crossed_p(rng, seeds, 150, seed_sd) for _ in range(500)])
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
    truth = np.mean([np.subtract(*crossed(rng, 1, 20_000, 0.1, shift=0.5).mean(axis=(1, 2))) for _ in range(40)])
    found = []
    for _ in range(200):
        right = crossed(rng, 5, 250, 0.1, shift=0.5)
        labels = np.ones(250)
        found.append(compare(runs("rte", labels, right[0]), runs("rte", labels, right[1], "base"), resamples=300))
    covered = np.mean([low <= truth <= high for low, high in (one.interval() for one in found)])
    assert 0.90 <= covered <= 0.995
    assert np.mean([one.p < 0.05 for one in found]) > 0.6


def test_the_average_adds_independent_examples_and_keeps_seeds_together():
    one, two = comparison([0.01, 0.03], 1e-4, 0.02), comparison([0.03, 0.01], 3e-4, 0.01)
    found = average([one, two])
    assert found.differences == pytest.approx((0.02, 0.02)), "seeds that balance each other"
    assert found.covariance == pytest.approx(1e-4)
    assert found.sampling_error == pytest.approx(math.sqrt(5e-4) / 2)
    with pytest.raises(RkdError, match="different rows or seeds"):
        average([one, comparison([0.01], 1e-4)])


# --- Holm ----------------------------------------------------------------------------------------------------


def test_holm_by_hand():
    # statsmodels.stats.multitest.multipletests([0.01, 0.04, 0.03, 0.005], method="holm")
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.8]).tolist() == [1, 1, 1]
    assert holm([]).tolist() == []


def test_holm_leaves_out_what_was_not_tested():
    assert holm([0.01, math.nan, 0.03]).tolist() == pytest.approx([0.02, math.nan, 0.03], nan_ok=True)


def test_holm_is_between_no_correction_and_bonferroni():
    p = np.random.default_rng(11).random(30)
    found = holm(p)
    assert (p <= found).all()
    assert (found <= np.minimum(30 * p, 1) + 1e-12).all()
    assert (np.diff(found[np.argsort(p)]) >= 0).all()


# --- files ---------------------------------------------------------------------------------------------------


def file(folder, labels, predictions, task="rte", variant="kd", seed=1, idx=None, **columns):
    path = folder / "results/students" / task / variant / f"seed-{seed}" / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    split = get(task).primary_split
    idx = range(len(labels)) if idx is None else idx
    content = {"split": split, "idx": idx, "label": labels, "prediction": predictions, **columns}
    pd.DataFrame(content).to_parquet(path)
    return str(path)


def test_files_are_read_by_seed_and_idx(tmp_path):
    second = file(tmp_path, [1.0, 0, 0], [0.0, 0, 0], seed=2)
    first = file(tmp_path, [0.0, 1, 0], [1.0, 1, 0], idx=[1, 0, 2])
    found = read_runs([second, first])
    assert (found.variant, found.seeds, found.files) == ("kd", (1, 2), (first, second))
    assert found.labels.tolist() == [1, 0, 0]
    assert found.predictions.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert found.scores.tolist() == pytest.approx([2 / 3, 2 / 3])


def test_rows_pair_on_the_seeds_of_both(tmp_path):
    row = read_runs([file(tmp_path, [1.0, 0], [1.0, 1], seed=seed) for seed in (1, 2, 3)])
    base = read_runs([file(tmp_path, [1.0, 0], [1.0, 0], variant="base", seed=seed) for seed in (2, 3, 4)])
    assert [side.seeds for side in pair(row, base)] == [(2, 3), (2, 3)]
    assert compare(row, base, resamples=50).seeds == (2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1.0]}, "kd/.* and .*base/.* do not pair: 2 and 1 examples"),
        ({"idx": [0, 2]}, "do not pair: idx 1 and 2; expected the same examples"),
        ({"labels": [1.0, 1]}, "other labels for 1 examples, the first is idx 1"),
        ({"seed": 9}, "rte: kd has the seeds 1, base has 9; expected at least one in common"),
        ({"task": "wnli"}, "is of rte, .* of wnli; expected one task"),
    ],
)
def test_rows_that_do_not_pair_are_told(tmp_path, change, message):
    row = read_runs([file(tmp_path, [1.0, 0], [1.0, 1])])
    labels = change.pop("labels", [1.0, 0])
    base = read_runs([file(tmp_path, labels, labels, variant="base", **change)])
    with pytest.raises(RkdError, match=message):
        pair(row, base)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": "test"}, "no split 'validation'; found test"),
        ({"idx": [3, 3]}, "1 examples of validation occur more than once"),
        ({"label": [1.0, math.nan]}, "1 examples of validation have no label"),
    ],
)
def test_broken_predictions_are_told(tmp_path, columns, message):
    path = file(tmp_path, [1.0, 0], [1.0, 1], **columns) if "idx" not in columns else None
    path = path or file(tmp_path, [1.0, 0], [1.0, 1], idx=columns["idx"])
    with pytest.raises(RkdError, match=message):
        read_runs([path])


def test_missing_mixed_and_repeated_files_are_told(tmp_path):
    kd = file(tmp_path, [1.0, 0], [1.0, 1])
    with pytest.raises(RkdError, match="no files"):
        read_runs([])
    with pytest.raises(RkdError, match="cannot be read as predictions"):
        read_runs([str(tmp_path / "students/rte/kd/seed-1/absent.parquet")])
    with pytest.raises(RkdError, match="expected a path like students/TASK/VARIANT"):
        read_runs([str(tmp_path / "a.parquet")])
    with pytest.raises(RkdError, match="different rows or tasks"):
        read_runs([kd, file(tmp_path, [1.0], [1.0], variant="finetune", seed=2)])
    with pytest.raises(RkdError, match="seed 1 occurs twice"):
        read_runs([kd, file(tmp_path / "b", [1.0, 0], [1.0, 1])])
    broken = tmp_path / "students/rte/kd/seed-1/predictions.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_text("no parquet")
    with pytest.raises(RkdError, match="cannot be read as predictions"):
        read_runs([str(broken)])
