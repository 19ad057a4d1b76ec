"""The rule for names of labels."""

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rkd.errors import RkdError
from rkd.labels import check_names, is_missing, label_name, listed, reads_as_missing


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("1", [1, 1.0, "1", "1.0", " 1.00 ", Decimal("1.0"), np.int64(1), np.float32(1)]),
        ("-3", [-3, -3.0, "-3", "-3.0"]),
        ("0", [0, -0.0, "0", "-0.0", "-0", Decimal(0)]),
        ("true", [True, "true", "True", "TRUE ", np.True_]),
        ("100", [100, 1e2, Decimal("1E+2")]),
        ("0.5", [0.5, "0.5", Decimal("0.5")]),
        ("Good", ["Good", "Good\n", "\u00a0Good"]),
    ],
)
def test_one_label_in_many_forms(name, values):
    assert {label_name(value) for value in values} == {name}


def test_names_that_only_look_alike_stay_apart():
    names = ["007", "7", "1.10", "1.1", "1e0", "1", "+1", "Good", "good", "yes", "true", "t"]
    assert len({label_name(name) for name in names}) == len(names)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.decimals()))
def test_a_name_is_its_own_name(value):
    name = label_name(value)
    assert label_name(name) == name
    assert name == name.strip()


def test_what_is_missing_and_what_only_reads_so():
    assert all(is_missing(value) for value in (None, math.nan, np.float64("nan"), Decimal("NaN"), "", " \t\n\u3000"))
    assert not any(is_missing(value) for value in (0, False, "0", "nan", "None", math.inf))
    assert all(map(reads_as_missing, ("nan", "NaN", "None", "NULL", "<NA>", "n/a")))
    assert not any(map(reads_as_missing, ("none of these", "nana", "0", "neutral")))


def test_names_are_checked():
    check_names("labels", ["a", "A", "1", "2"])
    with pytest.raises(RkdError, match=r"labels: found 'a' and ' a', which are one label; expected different ones"):
        check_names("labels", ["a", "b", " a"])
    with pytest.raises(RkdError, match=r"labels: found the blank label ' '; expected a name"):
        check_names("labels", ["a", " "])


def test_long_lists_are_cut():
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(2500), most=2) == "0, 1, … (2500 in all)"
