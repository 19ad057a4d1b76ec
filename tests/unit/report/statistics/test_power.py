"""Power, detectable effects and numbers of seeds, against SciPy's distributions and simulations."""

import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from rkd.report.statistics.comparison import Comparison, average
from rkd.report.statistics.power import (
    Variances,
    difference_power,
    equivalence_power,
    examples_variance,
    minimum_detectable_effect,
    seeds_needed,
)
from tests.helpers import TIMEOUT


def comparison(differences, covariance):
    seeds = tuple(range(len(differences)))
    return Comparison("a", "b", "rte", seeds, tuple(differences), covariance, 0.01, 277)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("difference", [0.0, 1.0, 2.0])
def test_without_the_examples_part_it_is_the_power_of_students_test(seeds, difference):
    limit, shift = stats.t.ppf(0.975, seeds - 1), difference * math.sqrt(seeds)
    expected = stats.nct.sf(limit, seeds - 1, shift) + stats.nct.cdf(-limit, seeds - 1, shift)
    assert difference_power(Variances(1.0, 0.0), seeds, difference) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("variances", [Variances(1e-4, 0.0), Variances(1e-4, 1e-4), Variances(1e-6, 1e-4)])
def test_the_power_is_the_rate_of_such_comparisons(variances):
    rng, seeds, shift, margin = np.random.default_rng(0), 3, 0.03, 0.03
    shared = rng.normal(0, math.sqrt(variances.examples), (4000, 1))
    noise = shared + rng.normal(0, math.sqrt(variances.seeds), (4000, seeds))
    found = [comparison(line, variances.examples) for line in noise + shift]
    rate = np.mean([not low <= 0 <= high for low, high in (one.interval() for one in found)])
    assert rate == pytest.approx(difference_power(variances, seeds, shift), abs=0.03)
    equal = [comparison(line, variances.examples) for line in noise]
    rate = np.mean([-margin < low and high < margin for low, high in (one.interval(0.9) for one in equal)])
    assert rate == pytest.approx(equivalence_power(variances, seeds, margin), abs=0.03)


def test_the_detectable_effect_is_found_with_its_power():
    for variances in (Variances(1.0, 0.0), Variances(1.0, 2.0), Variances(0.0, 1.0)):
        effect = minimum_detectable_effect(variances, 3, power=0.9)
        assert difference_power(variances, 3, effect) == pytest.approx(0.9)
    assert minimum_detectable_effect(Variances(0.0, 1.0), 1) == pytest.approx(2.80, abs=0.005)
    assert minimum_detectable_effect(Variances(0.0, 0.0), 3) == 0
    one_seed = comparison([0.01], 1e-4)
    assert math.isnan(one_seed.variances.seeds)
    assert one_seed.detectable == pytest.approx(0.0280, abs=1e-4)
    assert math.isnan(comparison([0.01, 0.02], math.nan).detectable)


@pytest.mark.parametrize(
    ("examples", "five_percent", "ten_percent"),
    [(277, 3.8, 5.3), (408, 3.1, 4.4), (872, 2.1, 3.0), (5463, 0.85, 1.2), (9815, 0.63, 0.89), (40430, 0.31, 0.44)],
)
def test_what_a_dev_set_alone_can_show(examples, five_percent, ten_percent):
    for differing, points in ((0.05, five_percent), (0.10, ten_percent)):
        variances = Variances(0.0, examples_variance(examples, differing))
        assert 100 * minimum_detectable_effect(variances, 1) == pytest.approx(points, rel=0.02)


@pytest.mark.parametrize("margin", [0.005, 0.008, 0.02])
def test_the_seeds_needed_are_enough_and_the_fewest(margin):
    variances = Variances(0.01**2, 0.001**2)
    found = seeds_needed(variances, margin)

    def power(seeds):
        return min(difference_power(variances, seeds, margin), equivalence_power(variances, seeds, margin))

    assert power(found) >= 0.8 > power(found - 1)


def test_no_number_of_seeds_makes_up_for_a_small_dev_set():
    assert seeds_needed(Variances(0.0, 0.002**2), margin=0.006) == 2
    assert seeds_needed(Variances(0.01**2, 0.002**2), margin=0.005) is None
    assert seeds_needed(Variances(0.01**2, 0.0), margin=0.005, most=20) is None


def test_components_of_an_average_and_of_several_rows():
    one, two = comparison([0.01, 0.03, 0.05], 1e-4), comparison([0.03, 0.01, 0.02], 3e-4)
    parts = [one.variances, two.variances]
    assert parts[0] == Variances(pytest.approx(0.02**2), 1e-4)
    assert Variances.average(parts).examples == pytest.approx(average([one, two]).variances.examples)
    assert Variances.average(parts).seeds == pytest.approx((0.02**2 + 0.01**2) / 4)
    assert Variances.pooled(parts) == Variances(pytest.approx((0.02**2 + 0.01**2) / 2), pytest.approx(2e-4))
    assert comparison([0.0, 0.01], -1e-5).variances.examples == 0


def test_a_plan_may_import_it():
    code = "import sys, rkd.report.statistics.power; print({'pandas', 'torch'} & set(sys.modules) or 'neither')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert found.stdout == "neither\n"
