"""The options of the methods in the config: told apart, checked against the models, equal to the constructors'."""

import copy
import inspect
import json

import pytest
import yaml
from snakemake.utils import update_config

from rkd.config.load import check, load
from rkd.methods.facts import METHODS
from rkd.workflow.plan import Plan
from tests.helpers import ROOT

DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
# The cases speak of the three rows alone: the control and the axis would add problems of their own.
del DEFAULT["variants"]["no-lookahead"], DEFAULT["ablations"]["teacher-lr"]


@pytest.fixture(autouse=True)
def _repository_root(monkeypatch):
    monkeypatch.chdir(ROOT)  # relative paths in a config start at the working directory


def problems(*overlays):
    """Problems of the default config, student of 2 and teacher of 4 layers, with overlays in YAML."""
    config = copy.deepcopy(DEFAULT)
    for overlay in overlays:
        update_config(config, yaml.safe_load(overlay))
    return {problem.path: problem for problem in check(config)}


ONE_LAYER = "exactly one teacher layer per student layer"


@pytest.mark.parametrize(
    ("overlay", "path", "expected"),
    [
        ("variants: {a: {method: pkd, layer_map: both}}", "variants.a.layer_map", ONE_LAYER),
        ("{student: {layer_map: both}, variants: {a: {method: tinybert}}}", "student.layer_map", ONE_LAYER),
        ("variants: {a: {method: tinybert, layer_map: [[1], [2, 3]]}}", "variants.a.layer_map", ONE_LAYER),
        ("variants: {a: {method: pkd, layer_map: [[], [3]]}}", "variants.a.layer_map", ONE_LAYER),
        (
            "variants: {a: {method: reptile, outer_target: student, inner_steps: 2}}",
            "variants.a.inner_steps",
            "1: with outer_target student, a makes no inner update",
        ),
        (
            "{student: {inner_batch: quiz}, variants: {a: {method: reptile, outer_target: initial}}}",
            "student.inner_batch",
            "same: with outer_target initial, a makes no inner update",
        ),
        ("variants: {a: {method: kd, beta: 1.0}}", "variants.a.beta", "no beta here: method kd reads"),
        ("variants: {a: {method: online, quiz_fraction: 0.5}}", "variants.a.quiz_fraction", "no quiz_fraction here"),
        ("student: {quiz_fraction: 1.0}", "student.quiz_fraction", "a number above 0 and below 1"),
        ("student: {intermediate_fraction: 1.0}", "student.intermediate_fraction", "a number from 0 to below 1"),
        ("student: {outer_step_size: 0}", "student.outer_step_size", "a number above 0 and at most 1"),
        ("student: {outer_target: inner}", "student.outer_target", "one of look-ahead, student, initial"),
    ],
)
def test_problems_are_told(overlay, path, expected):
    found = problems(overlay)
    assert list(found) == [path]
    assert found[path].expected.startswith(expected)


@pytest.mark.parametrize(
    "overlay",
    [
        "variants: {a: {method: pkd, layer_map: [[1], [2, 3]]}}",  # the last student layer is not compared
        "variants: {a: {method: pkd, layer_map: last}, b: {method: tinybert, layer_map: first}}",
        "variants: {a: {method: reptile, outer_target: student}}",
        "variants: {b: {method: reptile, inner_batch: quiz, inner_steps: 4}}",
    ],
)
def test_what_fits_has_no_problems(overlay):
    assert problems(overlay) == {}


def test_models_that_do_not_fit(tmp_path):
    fields = json.loads((ROOT / "configs/models/bert-2x128.json").read_text(encoding="utf-8"))
    narrow, shallow = tmp_path / "narrow.json", tmp_path / "shallow.json"
    narrow.write_text(json.dumps({**fields, "hidden_size": 64}), encoding="utf-8")
    shallow.write_text(json.dumps({**fields, "num_hidden_layers": 1}), encoding="utf-8")
    rows = "variants: {reptile: null, a: {method: pkd}, b: {method: tinybert}}"
    found = problems(rows, f"student_model: {narrow}")
    assert str(found["student_model"]).endswith("the teacher's width 128: a compares their hidden states")
    assert problems("variants: {reptile: null, b: {method: tinybert}}", f"student_model: {narrow}") == {}
    found = problems(rows, f"student_model: {shallow}")
    assert str(found["student_model"]).endswith("with 1 layer; expected at least 2 layers: a leaves the last one out")


def test_a_run_holds_what_its_method_reads():
    config = copy.deepcopy(DEFAULT)
    update_config(config, {"variants": {method: {"method": method} for method in METHODS}})
    plan = Plan(load(config))
    for method, facts in METHODS.items():
        unread = {"outer_step_size", "quiz_fraction"} if method == "reptile" else set()  # with AdamW and its own batch
        assert set(plan.student("mrpc", method, 1).options) == set(facts.options) - unread


@pytest.mark.parametrize("method", METHODS)
def test_options_are_the_constructors_keywords_and_their_defaults_agree(method):
    from rkd.methods import by_name

    kinds = by_name(method).__mro__
    keywords = {}
    for kind in reversed(kinds[:-1]):
        if "__init__" in vars(kind):
            parameters = inspect.signature(kind.__init__).parameters.values()
            keywords |= {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    options = set(METHODS[method].options) - {"quiz_fraction"}  # made into `quiz` by the training
    assert options <= set(keywords)
    for option in options - {"teacher_lr"}:  # the default run's models are trained from scratch
        # With null a method has its own.
        if keywords[option] is not inspect.Parameter.empty and DEFAULT["student"][option] is not None:
            assert DEFAULT["student"][option] == keywords[option], option
