"""What the comparisons of a plan will be able to show, from the variances of finished runs."""

import math

import pandas as pd
import pytest

from rkd.errors import RkdError
from rkd.report.precision import format_precision, precision
from rkd.report.statistics.power import Variances, minimum_detectable_effect, seeds_needed
from tests.helpers.configs import plan_of


@pytest.fixture
def table(tmp_path):
    """A comparisons.csv with variances in squared points."""

    def written(*lines):
        frame = pd.DataFrame(lines, columns=["task", "seed_variance", "example_variance"])
        frame.to_csv(tmp_path / "comparisons.csv", index=False)
        return tmp_path / "comparisons.csv"

    return written


def test_variances_of_all_pairs_are_pooled(table):
    source = table(("cola", 1.0, 0.2), ("cola", 3.0, 0.4), ("average", 0.5, 0.1), ("rte", 9.0, 9.0))
    plan = plan_of(tasks=["cola", "mrpc"], seeds=[1, 2, 3, 4, 5], equivalence_margin=2.0)
    found = {one.what: one for one in precision(plan, source)}
    assert list(found) == ["average", "cola"], "rte is not planned, and mrpc has no variances"
    pooled = Variances(2e-4, 0.3e-4)
    assert found["cola"].comparisons == 2
    assert found["cola"].detectable == pytest.approx(100 * minimum_detectable_effect(pooled, 5))
    assert found["cola"].needed == seeds_needed(pooled, 0.02)
    text = format_precision(list(found.values()))
    assert text.startswith(f"with 5 seeds, by the variances in {source}:\n  on average over tasks: a difference of ")
    assert "on cola: a difference of 2." in text


def test_one_seed_and_equal_predictions_tell_nothing(table):
    assert precision(plan_of(), table(("cola", math.nan, 0.1), ("mrpc", 0.0, 0.0))) == []


def test_a_table_with_other_content_is_refused(table):
    with pytest.raises(RkdError, match=r"expected the comparisons\.csv of an experiment"):
        precision(plan_of(), table(("cola", "much", 0.1)))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(RkdError, match=r"none\.csv: .*expected the comparisons\.csv"):
        precision(plan_of(), tmp_path / "none.csv")
