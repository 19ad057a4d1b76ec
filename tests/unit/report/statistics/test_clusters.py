"""Examples that belong together: their ids, their resamples, and what leaving them out costs."""

from dataclasses import replace

import numpy as np
import pytest

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.metrics.weighted import resampled_primary_scores
from rkd.report.statistics.clusters import cluster_ids, resampled_by_cluster
from rkd.report.statistics.comparison import compare
from rkd.report.statistics.predictions import pair
from rkd.tasks import get, primary_score
from tests.helpers.crossed_runs import answers, crossed_runs, runs


def test_examples_that_share_a_value_are_one_cluster():
    assert cluster_ids([["x", "y", "x", "z", "y"]]).tolist() == [0, 1, 0, 2, 1]
    assert cluster_ids([[7, 8, 7]]).tolist() == [0, 1, 0]


def test_a_chain_of_questions_is_one_cluster():
    first, second = ["a", "b", "d", "f"], ["b", "c", "e", "c"]  # a–b, b–c, d–e, f–c
    assert cluster_ids([first, second]).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("name", ["cola", "mrpc", "stsb", "mnli"])
def test_a_resample_is_whole_clusters(name):
    """The distribution agrees with one that draws clusters one by one."""
    task, rng = get(name), np.random.default_rng(1)
    labels, predictions = answers(task, 120, 2, rng)
    clusters = np.sort(rng.integers(0, 30, 120))
    found = resampled_by_cluster(task, labels, predictions, clusters, 4000, rng)
    members = [np.flatnonzero(clusters == one) for one in np.unique(clusters)]
    drawn = (np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]) for _ in range(1500))
    reference = [primary_score(task, metrics.compute(task, predictions[0][i], labels[i])) for i in drawn]
    assert found.shape == (2, 4000)
    assert found[0].mean() == pytest.approx(np.mean(reference), abs=0.01)
    assert found[0].std() == pytest.approx(np.std(reference), rel=0.1)


def test_clusters_of_one_example_are_independent_examples():
    task, rng = get("mrpc"), np.random.default_rng(2)
    labels, predictions = answers(task, 150, 2, rng)
    found = resampled_by_cluster(task, labels, predictions, np.arange(150), 8000, rng)
    reference = resampled_primary_scores(task, labels, predictions, 8000, rng)
    assert np.cov(found) == pytest.approx(np.cov(reference), rel=0.1, abs=1e-4)


def test_copies_of_examples_add_nothing():
    """Each example three times, as one cluster: the error is that of the single examples."""
    once = crossed_runs(np.random.default_rng(3), 3, 200, 0.1)
    thrice = [
        runs("rte", np.ones(600), np.repeat(one.predictions, 3, axis=1), one.variant, clusters=np.repeat(range(200), 3))
        for one in once
    ]
    found, reference = compare(*thrice), compare(*once)
    assert found.differences == pytest.approx(reference.differences)
    assert found.covariance == pytest.approx(reference.covariance, rel=0.1)
    assert found.sampling_error == pytest.approx(reference.sampling_error, rel=0.05)
    apart = compare(*(replace(one, clusters=None) for one in thrice))
    assert apart.covariance == pytest.approx(reference.covariance / 3, rel=0.1)


def test_an_interval_that_knows_the_clusters_covers_and_one_that_does_not_errs():
    clusters, rng = np.repeat(np.arange(50), 8), np.random.default_rng(4)
    known, unknown = [], []
    for _ in range(300):
        pair_of_rows = crossed_runs(rng, 1, 400, 0.0, clusters=clusters)
        for found, variants in (
            (known, pair_of_rows),
            (unknown, [replace(one, clusters=None) for one in pair_of_rows]),
        ):
            low, high = compare(*variants, resamples=200).interval()
            found.append(low <= 0 <= high)
    assert np.mean(known) > 0.90
    assert np.mean(unknown) < np.mean(known) - 0.02


def test_rows_pair_with_equal_clusters_only():
    variant, baseline = crossed_runs(np.random.default_rng(5), 2, 6, 0.0, clusters=np.array([0, 0, 1, 1, 2, 2]))
    assert pair(variant, baseline)[0].clusters is not None
    for other in (None, np.array([0, 0, 0, 1, 2, 2])):
        with pytest.raises(RkdError, match="do not pair: other clusters"):
            pair(variant, replace(baseline, clusters=other))
