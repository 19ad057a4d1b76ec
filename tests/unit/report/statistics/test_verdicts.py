"""Verdicts and Holm's correction, on differences whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from rkd.report.statistics.comparison import Comparison, compare
from rkd.report.statistics.verdicts import MARGIN, holm, verdicts
from tests.helpers.crossed_runs import crossed_runs, runs, shift_for

FIVE_PERCENT = 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)  # three standard errors of 400 simulations above it


def comparison(differences, covariance=0.0):
    seeds = tuple(range(len(differences)))
    return Comparison("a", "b", "rte", seeds, tuple(differences), covariance, 0.01, 277)


def judged(differences, covariance=0.0, margin=MARGIN):
    return verdicts([comparison(differences, covariance)], margin)[0]


@pytest.mark.parametrize(
    ("differences", "text"),
    [
        ([0.020, 0.021, 0.022], "better"),
        ([-0.020, -0.021, -0.022], "worse"),
        ([-0.0002, 0.0, 0.0003], "equivalent"),
        ([0.0020, 0.0021, 0.0022], "equivalent, slightly better"),
        ([-0.0020, -0.0021, -0.0022], "equivalent, slightly worse"),
        ([-0.010, 0.0, 0.012], "open"),
        ([0.004, 0.006, 0.008], "better"),
    ],
)
def test_every_verdict(differences, text):
    found = judged(differences)
    assert found.text == text
    assert found.kind == text.split(",")[0]


@pytest.mark.parametrize("covariance", [0.0, 1e-6, 1e-4])
@pytest.mark.parametrize("shift", [-0.009, 0.0, 0.002, 0.006])
def test_equivalence_is_the_90_percent_interval_within_the_margin(shift, covariance):
    one = comparison([shift - 0.0005, shift, shift + 0.0004], covariance)
    low, high = one.interval(0.90)
    for margin in (0.001, 0.003, 0.005, 0.02):
        assert (one.p_equivalent(margin) < 0.05) == (-margin < low and high < margin)
    edge = max(-low, high)  # the smallest margin for which the variants are equivalent
    assert one.p_equivalent(edge) == pytest.approx(0.05)


def test_two_one_sided_tests_by_hand():
    """With c = 0 they are Student's."""
    from scipy import stats

    differences = [0.001, 0.002, -0.001, 0.0005]
    one = comparison(differences)
    above = stats.ttest_1samp(differences, -MARGIN, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, MARGIN, alternative="less").pvalue
    assert one.p_equivalent(MARGIN) == pytest.approx(max(above, below))
    outside = comparison([0.009, 0.008, 0.010])
    assert outside.p_equivalent(MARGIN) == pytest.approx(
        stats.ttest_1samp([0.009, 0.008, 0.010], MARGIN, alternative="less").pvalue
    )


def test_rows_that_answer_alike_and_what_cannot_be_tested_stay_open():
    assert judged([0.0, 0.0, 0.0]).kind == "open"
    assert judged([0.1, math.nan, 0.1]).kind == "open"
    assert judged([0.01] * 3).kind == "open", "a difference without any error"
    with pytest.raises(ValueError, match="margin: 0; expected a number above 0"):
        verdicts([], 0)


def test_each_kind_of_claim_is_corrected_over_the_family():
    small, far = comparison([0.0010, 0.0016, 0.0012]), comparison([0.02, 0.03, 0.04])
    assert [one.kind for one in verdicts([far], 0.005)] == ["better"]
    found = verdicts([small, far, comparison([-0.1, 0.0, 0.1])])
    assert [one.p_different for one in found] == holm(
        [one.p for one in (small, far, comparison([-0.1, 0, 0.1]))]
    ).tolist()
    assert found[0].p_equivalent == pytest.approx(3 * small.p_equivalent(MARGIN))
    assert [one.kind for one in found] == ["equivalent", "open", "open"]
    assert found[0].text == "equivalent", "slightly better alone, not after the correction"
    assert [one.kind for one in verdicts([replace(far, seeds=(1,), differences=(0.02,), covariance=1e-6)])] == [
        "better"
    ]


@pytest.mark.parametrize(("seeds", "seed_sd"), [(5, 0.0), (3, 0.15), (2, 0.4)])
def test_false_verdicts_are_at_most_five_percent(seeds, seed_sd):
    """At a true difference of exactly the margin no equivalence may be found, without any no difference."""
    margin = 0.10
    kinds = {}
    for truth in (0.0, margin):
        rng = np.random.default_rng(12)
        shifts = (shift_for(truth, seed_sd), 0.0)
        pairs = [compare(*crossed_runs(rng, seeds, 150, seed_sd, shifts), resamples=200) for _ in range(400)]
        kinds[truth] = [verdicts([one], margin)[0].kind for one in pairs]
    assert np.mean([kind == "equivalent" for kind in kinds[margin]]) < FIVE_PERCENT
    assert np.mean([kind in ("better", "worse") for kind in kinds[0.0]]) < FIVE_PERCENT


def test_a_family_of_claims_is_rarely_wrong_in_any_of_them():
    """Ten comparisons, five without a difference and five with one of the margin."""
    margin, rng = 0.10, np.random.default_rng(13)
    shifts = [(shift_for(truth, 0.0), 0.0) for truth in (0.0, margin) for _ in range(5)]
    wrong = {"different": 0, "equivalent": 0}
    for _ in range(100):
        family = [compare(*crossed_runs(rng, 3, 150, 0.0, one), resamples=200) for one in shifts]
        kinds = [one.kind for one in verdicts(family, margin)]
        wrong["different"] += any(kind in ("better", "worse") for kind in kinds[:5])
        wrong["equivalent"] += "equivalent" in kinds[5:]
    assert max(wrong.values()) <= 5 + 3 * math.sqrt(100 * 0.05 * 0.95)


def test_a_row_trained_to_be_worse_is_called_worse_and_a_row_against_itself_is_not():
    rng = np.random.default_rng(14)
    planted = compare(*crossed_runs(rng, 5, 1500, 0.05, (-0.5, 0.0)), resamples=300)
    assert verdicts([planted])[0].kind == "worse"
    same = compare(*crossed_runs(rng, 5, 1500, 0.05), resamples=300)
    assert verdicts([same])[0].kind == "open"
    assert verdicts([same], margin=0.1)[0].kind == "equivalent"
    labels = np.ones(50)
    alike = compare(runs("rte", labels, [labels] * 2), runs("rte", labels, [labels] * 2, "baseline"), resamples=50)
    assert verdicts([alike])[0].kind == "open"


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
