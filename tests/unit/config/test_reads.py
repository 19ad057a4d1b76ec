"""The runner of checks: which values a check gets, and when it is left out."""

from typing import Any

import pytest

from rkd.config.crosschecks import CHECKS
from rkd.config.model_checks import readable
from rkd.config.reads import Check, Value, Values, reads, run

CONFIG: dict[str, Any] = {
    "teacher": {"epochs": 3},
    "student": {"epochs": 5, "alpha": 0.5},
    "tasks": ["cola", "rte"],
    "variants": {
        "a": {"method": "kd", "epochs": 1},
        "b.c": {"method": "pkd"},
        "apart": {"method": "kd", "student_model": "x"},
    },
    "custom_tasks": {"mine": {"label": None}},
}


def calls(*keys: str, bad: tuple[tuple[Any, ...], ...] = (), **choices: Any) -> list[tuple[Any, ...]]:
    """The values of each call that a check of these keys would get."""
    seen = []

    @reads(*keys, **choices)
    def check(*values: Value) -> Any:
        seen.append(tuple((value.path, value.value) for value in values))
        return iter(())

    assert run([check], Values(CONFIG, frozenset(bad))) == {}
    return seen


def test_a_check_gets_each_value_with_its_path() -> None:
    assert calls("teacher.epochs", "tasks") == [((("teacher", "epochs"), 3), (("tasks",), ["cola", "rte"]))]


def test_a_placeholder_makes_a_call_for_each_name_and_is_the_same_name_in_all_keys() -> None:
    assert calls("{role}.epochs", "{role}") == [
        ((("teacher", "epochs"), 3), (("teacher",), CONFIG["teacher"])),
        ((("student", "epochs"), 5), (("student",), CONFIG["student"])),
    ]
    assert calls("tasks.{index}") == [((("tasks", 0), "cola"),), ((("tasks", 1), "rte"),)]
    assert calls("student.{key}", key=("alpha", "beta")) == [((("student", "alpha"), 0.5),)]


def test_a_setting_of_a_variant_is_its_own_or_that_of_student() -> None:
    assert calls("{variant}.epochs") == [((("variants", "a", "epochs"), 1),), ((("student", "epochs"), 5),)]


def test_names_and_methods_of_a_section() -> None:
    assert calls("names of variants") == [((("variants",), ["a", "b.c", "apart"]),)]
    assert calls("variants.*.method") == [((("variants",), {"a": "kd", "b.c": "pkd"}),)], "apart is checked apart"


@pytest.mark.parametrize("bad", [("teacher",), ("teacher", "epochs"), ("teacher", "epochs", 0)])
def test_a_check_is_left_out_where_a_value_has_a_problem_above_in_or_at_it(bad: tuple[Any, ...]) -> None:
    assert calls("teacher.epochs", "tasks", bad=(bad,)) == []
    assert calls("teacher.epochs?", bad=(bad,)) == [], "optional is what may be missing, not what may be wrong"
    assert calls("student.epochs", bad=(bad,)) != []


def test_names_may_be_read_though_something_under_them_is_wrong() -> None:
    assert calls("names of variants", bad=(("variants", "a", "method"),)) != []
    assert calls("names of variants", bad=(("variants",),)) == []
    assert calls("variants.*.method", bad=(("variants", "a", "method"),)) == [((("variants",), {"b.c": "pkd"}),)]


def test_a_missing_value_leaves_the_check_out_unless_it_is_optional() -> None:
    assert calls("teacher.alpha") == calls("nothing") == []
    assert calls("teacher.alpha?") == [((("teacher", "alpha"), None),)]
    assert calls("custom_tasks.{task}.label") == [((("custom_tasks", "mine", "label"), None),)], "null is a value"


def test_every_check_is_in_the_list_once_and_says_what_it_is() -> None:
    checks = [readable, *CHECKS]
    assert len({id(check) for check in checks}) == len(checks)
    for check in checks:
        assert isinstance(check, Check)
        assert check.keys
        assert (check.function.__doc__ or "").startswith("Report ")
