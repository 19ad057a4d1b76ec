"""Ablations: which variants they add, and what is wrong with those that cannot be."""

import copy
from pathlib import Path

import pytest
import yaml

from rkd.config.load import check, load
from rkd.config.problems import ConfigError
from rkd.workflow.plan import Plan
from tests.helpers import ROOT


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def config(**ablations):
    content = yaml.safe_load(Path("config.yaml").read_text())
    return {**content, "tasks": ["cola", "mrpc"], "ablations": ablations}


def heat(**changes):
    return {"variant": "kd", "parameter": "temperature", "values": [1, 5.0, 10.0], **changes}


def test_a_value_makes_a_variant_with_one_thing_changed():
    plan = Plan(load(config(heat=heat())))
    assert plan.all_variants == [*plan.variants, "kd.temperature-1.0", "kd.temperature-10.0"]
    made, base = (plan.student("cola", name, 1) for name in ("kd.temperature-1.0", "kd"))
    assert made.options == {**base.options, "temperature": 1.0}
    assert (made.training, made.model, made.method) == (base.training, base.model, base.method)


def test_a_value_that_a_variant_has_already_is_that_variant():
    plan = Plan(load(config(heat=heat())))
    assert plan.axes["heat"].variants == ["kd.temperature-1.0", "kd", "kd.temperature-10.0"]


def test_two_axes_share_the_variant_of_an_equal_cell():
    other = {"variant": "kd", "settings": {"cold": {"temperature": 1.0}}}
    plan = Plan(load(config(heat=heat(), named=other)))
    assert plan.axes["named"].variants == ["kd.temperature-1.0"]


def test_settings_that_the_method_does_not_read_make_no_difference():
    """Finetune has no temperature: a config whose only difference is one that nothing reads is the same run."""
    content = config(rate={"variant": "finetune", "parameter": "learning_rate", "values": [1.0e-3, 2.0e-3]})
    content["student"]["learning_rate"] = 1.0e-3
    content["student"]["temperature"] = 3.0
    plan = Plan(load(content))
    assert plan.axes["rate"].variants == ["finetune", "finetune.learning_rate-0.002"]


def test_layer_maps_and_students_are_values_too():
    axes = {
        "maps": {"variant": "reptile", "parameter": "layer_map", "values": ["first", "skip", [[0], [3]]]},
        "depth": {"variant": "kd", "parameter": "student_model", "values": ["teacher-layers:0,1,2"]},
    }
    plan = Plan(load(config(**axes)))
    assert plan.axes["maps"].variants == ["reptile.layer_map-first", "reptile", "reptile.layer_map-0_3"]
    cut = plan.student("cola", plan.axes["depth"].variants[0], 1)
    assert cut.model.source == "teacher-layers:0,1,2"
    assert cut.model.layers_of is not None
    assert plan.has_own_student(plan.axes["depth"].variants[0])


def test_an_axis_runs_on_its_tasks():
    plan = Plan(load(config(heat=heat(tasks=["mrpc"]))))
    assert {cell.tasks for cell in plan.cells} == {("mrpc",)}
    axis = plan.report("heat").ablation
    assert (axis.name, axis.values[0], axis.tasks) == ("heat", (1.0, "kd.temperature-1.0"), ("mrpc",))


def test_values_of_an_axis_keep_their_order_and_numbers_are_sorted():
    maps = {"variant": "reptile", "parameter": "layer_map", "values": ["skip", "first"]}
    plan = Plan(load(config(heat=heat(values=[10.0, 1, 5]), maps=maps)))
    assert [value for value, _ in plan.axes["heat"].values] == [1, 5, 10.0]
    assert [value for value, _ in plan.axes["maps"].values] == ["skip", "first"]


def test_an_axis_of_other_tasks_trains_nothing():
    plan = Plan(load(config(heat=heat(tasks=["rte"]), maps=heat(tasks=["rte", "cola"]))))
    assert list(plan.axes) == ["maps"]
    assert {cell.tasks for cell in plan.cells} == {("cola",)}
    assert not [name for name in Plan(load(config(heat=heat(tasks=["rte"])))).all_variants if "temperature" in name]


def test_an_overlay_drops_an_axis():
    assert Plan(load(config(heat=None))).cells == []


@pytest.mark.parametrize(
    ("axis", "path", "found", "expected"),
    [
        (heat(variant="kdd"), "ablations.x.variant", "'kdd'", "did you mean kd?"),
        (heat(parameter="temprature"), "ablations.x.parameter", "'temprature'", "did you mean temperature?"),
        (heat(parameter="layer_map"), "ablations.x.parameter", "'layer_map'", "method kd reads"),
        (heat(values=[5.0, -1]), "ablations.x.values[1]", "-1", "above 0"),
        (heat(values=["5e-1x"]), "ablations.x.values[0]", "'5e-1x'", "a number above 0"),
        (heat(values=[]), "ablations.x.values", "[]", "a list of at least one"),
        (heat(values=[1.0, 1.0]), "ablations.x.values[1]", "1.0", "only once"),
        (heat(tasks=["mprc"]), "ablations.x.tasks[0]", "'mprc'", "did you mean mrpc?"),
        (heat(settings={"a": {"alpha": 0.1}}), "ablations.x", "parameter, values, settings", "either"),
        ({"variant": "kd"}, "ablations.x", "none of them", "either parameter and values, or settings"),
        ({"variant": "kd", "settings": {"a": {"alpha": 2}}}, "ablations.x.settings.a.alpha", "2", "from 0 to 1"),
        (
            {"variant": "kd", "settings": {"a": {"outer_target": "student"}}},
            "ablations.x.settings.a.outer_target", "outer_target", "kd reads",
        ),
        ({"variant": "kd", "settings": {"a": {"alhpa": 0.1}}}, "ablations.x.settings.a.alhpa", "alhpa", "mean alpha?"),
        (
            {"variant": "reptile", "parameter": "layer_map", "values": ["skpi"]},
            "ablations.x.values[0]", "'skpi'", "did you mean skip?",
        ),
        (
            {"variant": "reptile", "parameter": "layer_map", "values": [[[0], [1], [2]]]},
            "ablations.x.values[0]", "[[0], [1], [2]]", "2 lists, one per student layer",
        ),
        (
            {"variant": "kd", "parameter": "student_model", "values": ["teacher-layers:9"]},
            "ablations.x.values[0]", "'teacher-layers:9'", "layers from 0 to 3",
        ),
        (
            {"variant": "reptile", "parameter": "student_model", "values": ["teacher-layers:0,1,2"]},
            "ablations.x.values[0]", "'teacher-layers:0,1,2'", "multiple of the student's depth",
        ),
    ],
)  # fmt: skip
def test_an_impossible_ablation_is_refused_where_it_stands(axis, path, found, expected):
    with pytest.raises(ConfigError) as error:
        load(config(x=axis))
    [problem] = error.value.problems
    assert problem.path == path
    assert found in problem.found
    assert expected in str(problem)


def test_checking_changes_nothing():
    content = config(heat=heat(), maps={"variant": "reptile", "parameter": "layer_map", "values": ["first"]})
    before = copy.deepcopy(content)
    assert check(content) == []
    assert content == before
