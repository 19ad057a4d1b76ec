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


def test_two_parameters_make_a_grid():
    grid = {"variant": "kd", "parameters": {"temperature": [1, 5.0], "alpha": [0.2, 0.5]}}
    plan = Plan(load(config(mix=grid)))
    assert plan.axes["mix"].values == (
        ([1.0, 0.2], "kd.temperature-1.0.alpha-0.2"),
        ([1.0, 0.5], "kd.temperature-1.0.alpha-0.5"),
        ([5.0, 0.2], "kd.temperature-5.0.alpha-0.2"),
        ([5.0, 0.5], "kd"),
    )
    made = plan.student("cola", "kd.temperature-1.0.alpha-0.2", 1).options
    assert (made["temperature"], made["alpha"]) == (1.0, 0.2)


# --- teachers of a variant's own ---------------------------------------------------------------------------


def test_a_variant_may_have_a_teacher_of_its_own():
    content = config()
    content["variants"]["kd-long"] = {"method": "kd", "teacher": {"epochs": 9}}
    plan = Plan(load(content))
    assert plan.teacher("cola", 1).training["epochs"] == 8
    assert plan.teacher("cola", 1, "kd-long").training["epochs"] == 9
    teachers = [run for run in plan.runs() if run.variant == "teacher" and run[:3:2] == ("cola", 1)]
    assert teachers == [plan.teacher_run("cola", "kd-long", 1), plan.teacher_run("cola", "kd", 1)]
    for run in teachers:
        spec = plan.teacher_of_digest("cola", run.digest, 1)
        assert spec.training["epochs"] == (9 if run == plan.teacher_run("cola", "kd-long", 1) else 8)
    assert plan.student("cola", "kd-long", 1).training == plan.student("cola", "kd", 1).training
    assert plan.digest("cola", "kd-long") != plan.digest("cola", "kd"), "it learns from another teacher"
    again = Plan.from_json(plan.page())
    assert again.runs() == plan.runs()


def test_a_title_is_for_print_alone():
    content = config(heat=heat())
    content["variants"]["kd"] = {"method": "kd", "title": "KD (Hinton)"}
    plan, plain = Plan(load(content)), Plan(load(config(heat=heat())))
    assert plan.runs() == plain.runs()
    assert plan.report("heat").labels()["kd.temperature-1.0"] == "kd.temperature-1.0"
    assert plan.student("cola", "kd", 1) == plain.student("cola", "kd", 1)
    assert plan.report().labels()["kd"] == "KD (Hinton)"
    assert "KD (Hinton)" in plan.page()


@pytest.mark.parametrize(
    ("title", "whose"), [("finetune", "finetune"), ("Twice", "reptile"), ("Teacher", "the teacher")]
)
def test_a_title_that_another_row_has_is_refused(title, whose):
    content = config()
    content["variants"]["kd"] = {"method": "kd", "title": title}
    content["variants"]["reptile"] = {"method": "reptile", "title": "Twice"}
    problem = next(iter(check(content)))
    assert problem.path == "variants.kd.title"
    assert problem.expected == f"another title: {whose} has this one"


def test_a_teacher_with_the_settings_of_the_configs_is_that_teacher():
    content = config(longer={"variant": "kd", "parameter": "teacher.epochs", "values": [2, 8]})
    plan = Plan(load(content))
    assert plan.axes["longer"].values == ((2, "kd.teacher.epochs-2"), (8, "kd"))
    assert len({run.digest for run in plan.runs() if run[:3] == ("cola", "teacher", 1)}) == 2
    content["variants"]["kd-same"] = {"method": "kd", "teacher": {"epochs": 8}}
    same = Plan(load(content))
    assert same.teacher_run("cola", "kd-same", 1) == same.teacher_run("cola", "kd", 1)


# --- settings of single tasks -------------------------------------------------------------------------------


def own(**settings):
    """A config with settings for MRPC alone."""
    return config() | {"per_task": {"mrpc": settings}}


def test_settings_of_a_task_are_for_it_alone():
    plan = Plan(load(own(teacher={"epochs": 7}, student={"epochs": 8}, variants={"kd": {"temperature": 2}})))
    general = Plan(load(config()))
    assert plan.teacher("mrpc", 1).training["epochs"] == 7
    assert plan.student("mrpc", "reptile", 1).training["epochs"] == 8
    assert plan.student("mrpc", "kd", 1).options["temperature"] == 2.0
    assert plan.student("mrpc", "reptile", 1).options["temperature"] == 5.0
    assert [run for run in plan.runs() if run.task == "cola"] == [run for run in general.runs() if run.task == "cola"]
    mrpc = {run for run in plan.runs() if run.task == "mrpc"}
    assert not mrpc & set(general.runs())
    assert Plan.from_json(plan.page()).runs() == plan.runs()


def test_overrides_of_a_variant_go_before_those_of_student_for_a_task():
    content = own(student={"alpha": 0.9}, variants={"reptile": {"temperature": 3}})
    content["variants"]["kd"] = {"method": "kd", "alpha": 0.1, "temperature": 4}
    content["variants"]["reptile"] = {"method": "reptile", "temperature": 4}
    plan = Plan(load(content))
    assert plan.student("mrpc", "kd", 1).options["alpha"] == 0.1
    assert plan.student("mrpc", "reptile", 1).options["alpha"] == 0.9
    assert plan.student("mrpc", "reptile", 1).options["temperature"] == 3.0


def test_a_cell_is_a_variant_only_with_its_settings_on_all_tasks_of_the_axis():
    content = own(variants={"kd": {"temperature": 2}})
    content["ablations"] = {"heat": heat(values=[2.0, 5.0]), "cola": heat(values=[2.0, 5.0], tasks=["cola"])}
    plan = Plan(load(content))
    assert plan.axes["heat"].variants == ["kd.temperature-2.0", "kd.temperature-5.0"]
    assert plan.axes["cola"].variants == ["kd.temperature-2.0", "kd"]
    assert plan.student("mrpc", "kd.temperature-5.0", 1).options["temperature"] == 5.0


@pytest.mark.parametrize(
    ("per_task", "path", "found", "expected"),
    [
        ({"mprc": {"student": {"epochs": 1}}}, "per_task.mprc", "'mprc'", "did you mean mrpc?"),
        ({"mrpc": {"students": {"epochs": 1}}}, "per_task.mrpc.students", "unknown key", "did you mean student?"),
        ({"mrpc": {"student": {"epochs": 0}}}, "per_task.mrpc.student.epochs", "0", "a whole number"),
        ({"mrpc": {"student": {}}}, "per_task.mrpc.student", "{}", "keys of the section student"),
        ({"mrpc": {"teacher": {"alpha": 0.1}}}, "per_task.mrpc.teacher.alpha", "unknown key", "one of the keys"),
        ({"mrpc": {"variants": {"kdd": {"epochs": 1}}}}, "per_task.mrpc.variants.kdd", "'kdd'", "did you mean kd?"),
        (
            {"mrpc": {"variants": {"kd": {"layer_map": "skip"}}}},
            "per_task.mrpc.variants.kd.layer_map",
            "'skip'",
            "method kd reads",
        ),
        (
            {"mrpc": {"student": {"gradient_accumulation": 5}}},
            "per_task.mrpc.student.gradient_accumulation",
            "5",
            "a divisor of batch_size 32",
        ),
        (
            {"mrpc": {"teacher": {"batch_size": 3, "gradient_accumulation": 2}}},
            "per_task.mrpc.teacher.gradient_accumulation",
            "2",
            "a divisor of batch_size 3",
        ),
        ({"mrpc": {"variants": {"kd": {"method": "pkd"}}}}, "per_task.mrpc.variants.kd.method", "'pkd'", "one of the"),
        ({"mrpc": 3}, "per_task.mrpc", "3", "a section with some of"),
    ],
)
def test_impossible_settings_of_a_task_are_refused_where_they_stand(per_task, path, found, expected):
    problem = next(iter(check(config() | {"per_task": per_task})))
    assert problem.path == path
    assert found in problem.found
    assert expected in f"{problem.expected} {problem.suggestion}"


@pytest.mark.parametrize("entry", [{"rte": {"student": {"epochs": 1}}}, {"mrpc": None}])
def test_settings_of_a_task_that_is_not_run_and_dropped_ones_change_nothing(entry):
    assert Plan(load(config() | {"per_task": entry})).runs() == Plan(load(config())).runs()


@pytest.mark.parametrize(
    ("variant", "path", "expected"),
    [
        ({"method": "finetune", "teacher": {"epochs": 2}}, "variants.x.teacher", "learns from none"),
        ({"method": "kd", "teacher": {"epoch": 2}}, "variants.x.teacher.epoch", "did you mean epochs?"),
        ({"method": "kd", "teacher": {}}, "variants.x.teacher", "keys of the section teacher"),
        (
            {"method": "kd", "teacher": {"gradient_accumulation": 5}},
            "variants.x.teacher.gradient_accumulation",
            "divisor",
        ),
    ],
)
def test_an_impossible_teacher_of_a_variant_is_refused_where_it_stands(variant, path, expected):
    content = config()
    content["variants"]["x"] = variant
    problem = next(iter(check(content)))
    assert problem.path == path
    assert expected in f"{problem.expected} {problem.suggestion}"


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
        ({"variant": "kd"}, "ablations.x", "none of them", "either parameter and values, or parameters, or settings"),
        ({"variant": "kd", "settings": {"a": {"alpha": 2}}}, "ablations.x.settings.a.alpha", "2", "from 0 to 1"),
        (heat(parameter="teacher"), "ablations.x.parameter", "'teacher'", "teacher.epochs"),
        (heat(parameter="teacher.epoch"), "ablations.x.parameter", "'teacher.epoch'", "did you mean teacher.epochs?"),
        (heat(parameter="teacher.epochs", values=[1, 0]), "ablations.x.values[1]", "0", "a whole number"),
        (heat(variant="finetune", parameter="teacher.epochs"), "ablations.x.parameter", "epochs", "no teacher"),
        (
            {"variant": "kd", "parameters": {"temperature": [1.0], "alfa": [0.1]}},
            "ablations.x.parameters.alfa",
            "'alfa'",
            "did you mean alpha?",
        ),
        (
            {"variant": "kd", "parameters": {"temperature": [1.0, 0], "alpha": [0.1]}},
            "ablations.x.parameters.temperature[1]",
            "0",
            "above 0",
        ),
        ({"variant": "kd", "parameters": {"alpha": [0.1]}}, "ablations.x.parameters", "alpha", "two parameters"),
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


# --- tuning -------------------------------------------------------------------------------------------------


def test_every_row_and_the_teacher_try_the_same_number_of_values():
    content = config()
    content["tune"] = {
        "seed": 0,
        "student": {"learning_rate": [1e-4, 1e-3], "epochs": [2, 3, 4]},
        "teacher": {"learning_rate": [1e-4, 1e-3]},
    }
    plan = Plan(load(content))
    students, teachers = plan.tuning_runs("student"), plan.tuning_runs("teacher")
    assert len(students) == len(set(students)) == 2 * len(plan.variants) * 6
    assert len(teachers) == len(set(teachers)) == 2 * 2
    assert {run.seed for run in (*students, *teachers)} == {0}
    assert not {*students, *teachers} & {*plan.runs()}
    spec = plan.student("cola", "kd.tune.learning_rate-0.0001.epochs-4", 0)
    assert (spec.training["learning_rate"], spec.training["epochs"], spec.training["selection"]) == (
        1e-4,
        4,
        "held-out",
    )
    assert spec.options == plan.student("cola", "kd", 0).options
    found = [plan.teacher_of_digest("cola", run.digest, 0).training for run in teachers if run.task == "cola"]
    assert [(one["learning_rate"], one["selection"]) for one in found] == [(1e-4, "held-out"), (1e-3, "held-out")]


@pytest.mark.parametrize(
    ("tune", "path", "expected"),
    [
        ({"seed": 1}, "tune.seed", "another seed than those of seeds"),
        ({"student": {"alpha": [0.1]}}, "tune.student.alpha", "learning_rate"),
        ({"student": {"learning_rate": []}}, "tune.student.learning_rate", "a list of values"),
        ({"student": {"learning_rate": [1e-3, 0]}}, "tune.student.learning_rate[1]", "above 0"),
        ({"student": {"learning_rate": None}}, "tune.student", "one or two settings"),
        ({"teacher": {"batch_size": [7]}}, "tune.teacher.gradient_accumulation", "a divisor of batch_size 7"),
        ({"student": {"batch_size": [7]}}, "tune.student.batch_size", "a multiple of gradient_accumulation 2"),
    ],
)
def test_impossible_tuning_is_refused_where_it_stands(tune, path, expected):
    content = config()
    content["student"]["gradient_accumulation"] = content["teacher"]["gradient_accumulation"] = 2
    for key, value in tune.items():
        content["tune"][key] = (
            {**content["tune"][key], "learning_rate": None, **value} if isinstance(value, dict) else value
        )
    problem = next(iter(check(content)))
    assert problem.path == path
    assert expected in f"{problem.expected} {problem.suggestion}"


# --- sources of teachers ------------------------------------------------------------------------------------


def with_sources(**variants):
    content = config()
    return {**content, "variants": {**content["variants"], **variants}}


def test_sources_of_teachers_are_parts_of_the_digest():
    content = with_sources(
        left={"method": "kd", "teacher": {"from": "reptile"}},
        smooth={"method": "kd", "teacher": {"match_entropy_of": "reptile"}},
        mean={"method": "kd", "teacher": {"ensemble": "seeds"}},
        both={"method": "kd", "teacher": {"from": "no-lookahead", "match_entropy_of": "reptile"}},
    )
    plan = Plan(load(content))
    digests = {name: plan.digest("cola", name) for name in ("kd", "left", "smooth", "mean", "both")}
    assert len(set(digests.values())) == 5
    assert plan.with_teacher_kept == {"reptile", "no-lookahead"}
    assert [run.variant for run in plan.teacher_runs("cola", "both", 2)] == ["no-lookahead", "reptile"]
    assert [run.seed for run in plan.teacher_runs("cola", "mean", 2)] == plan.seeds
    fewer = Plan(load({**content, "seeds": content["seeds"][:1]}))
    changed = {name for name, digest in digests.items() if fewer.digest("cola", name) != digest}
    assert changed == {"mean"}
    content["variants"]["reptile"] = {"method": "reptile", "alpha": 0.1}
    other = Plan(load(content))
    assert {name for name, digest in digests.items() if other.digest("cola", name) != digest} == {
        "left",
        "smooth",
        "both",
    }


@pytest.mark.parametrize(
    ("variant", "key", "expected"),
    [
        (
            {"method": "kd", "teacher": {"from": "kd"}},
            "from",
            "a variant whose method trains a fine-tuned teacher (rep",
        ),
        ({"method": "kd", "teacher": {"from": "reptil"}}, "from", "did you mean reptile?"),
        ({"method": "kd", "teacher": {"match_entropy_of": "x"}}, "match_entropy_of", "whose method trains"),
        ({"method": "reptile", "teacher": {"from": "new"}}, "from", "whose method trains a fine-tuned teacher"),
        ({"method": "pkd", "teacher": {"ensemble": "seeds"}}, "ensemble", "nothing but a frozen teacher's logits (kd)"),
        ({"method": "online", "teacher": {"match_entropy_of": "reptile"}}, "match_entropy_of", "logits (kd)"),
        ({"method": "kd", "teacher": {"from": "reptile", "epochs": 2}}, "epochs", "no epochs beside from"),
        ({"method": "kd", "teacher": {"from": "reptile", "ensemble": "seeds"}}, "ensemble", "no ensemble beside from"),
        ({"method": "kd", "teacher": {"ensemble": "all"}}, "ensemble", "one of seeds"),
    ],
)
def test_impossible_sources_are_refused_where_they_stand(variant, key, expected):
    [problem] = check(with_sources(new=variant))
    assert problem.path == f"variants.new.teacher.{key}"
    assert expected in f"{problem.expected} {problem.suggestion}"


def test_scores_have_no_entropy_to_match():
    smooth = {"method": "kd", "teacher": {"match_entropy_of": "reptile"}}
    content = {**with_sources(smooth=smooth), "tasks": ["cola", "stsb"]}
    [problem] = check(content)
    assert problem.path == "variants.smooth.teacher.match_entropy_of"
    assert problem.expected == "tasks with one class per text, unlike stsb"
    del content["variants"]["smooth"]
    axis = {"variant": "kd", "settings": {"smooth": {"teacher": smooth["teacher"]}}}
    content["ablations"] = {"entropy": {**axis, "tasks": ["cola"]}}
    assert check(content) == []
    content["ablations"] = {"entropy": axis}
    [problem] = check(content)
    assert problem.path.startswith("ablations.entropy.settings.smooth")
