"""Specs: the reading end gets what the plan wrote, or one error that names the place and what was expected."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from rkd.config.load import load
from rkd.errors import RkdError
from rkd.specs.base import read
from rkd.specs.data import DataSpec
from rkd.specs.jobs import ModelSpec, RunSpec
from rkd.specs.metrics import MetricsSpec
from rkd.specs.profiling import StepCostSpec
from rkd.specs.report import Axis, ReportSpec
from rkd.workflow.plan import Plan
from tests.conftest import ROOT

PLAN = Plan(load(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))))
REPORT = PLAN.report()
SPECS = {
    DataSpec: PLAN.data("cola"),
    ModelSpec: PLAN.student("cola", "kd", 1).model,
    RunSpec: PLAN.student("cola", "reptile", 1),
    MetricsSpec: PLAN.metrics("cola", "kd", 1),
    StepCostSpec: PLAN.step_cost("cola"),
    ReportSpec: PLAN.report(next(iter(PLAN.axes))),
}


@pytest.mark.parametrize("kind", SPECS)
def test_the_reading_end_gets_what_the_plan_wrote(kind):
    spec = SPECS[kind]
    assert kind.from_json(spec.json()) == spec
    assert kind.from_json(spec.json()).json() == spec.json()
    reordered = dict(reversed(json.loads(spec.json()).items()))
    assert kind.from_json(json.dumps(reordered, indent=2)) == spec


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "NaN", '"x"', "{}", '{"x": 1}', "[" * 100_000])
def test_foreign_text_is_one_error_that_names_the_spec(kind, text):
    with pytest.raises(RkdError, match=f"^{kind.title}: .*expected"):
        kind.from_json(text)


@pytest.mark.parametrize("kind", SPECS)
def test_each_key_that_is_missing_or_of_another_type_is_named(kind):
    whole = json.loads(SPECS[kind].json())
    required = {"task", "source", "vocab_size", "method", "seed", "model", "training", "student", "variants", "tasks"}
    for key in required & whole.keys():
        with pytest.raises(RkdError, match=f"^{kind.title}: the key '{key}' is missing; expected "):
            kind.from_json(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(RkdError, match=f"^{kind.title}: {key}: found true; expected "):
            kind.from_json(json.dumps(whole | {key: True}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, r"report spec: seeds: found \[\]; expected at least one"),
        ({"seeds": [1, 1]}, r"report spec: seeds: found \[1, 1\]; expected at least one, each once"),
        ({"seeds": [1.5]}, "report spec: seeds/0: found 1.5; expected a whole number"),
        ({"tasks": ["mrcp"]}, "unknown task 'mrcp'"),
        (
            {"variants": [{"name": "kd", "method": "kd"}]},
            "variants/0: the key 'label' is missing; expected",
        ),
        ({"variants": [{"name": "teacher", "method": "kd", "label": "T"}]}, "found the name 'teacher'"),
        (
            {"axis": {"name": "a", "values": [[1, "old"]], "tasks": ["cola"]}},
            "axis: variants: found 'old'; expected",
        ),
        (
            {"axis": {"name": "a", "values": [[1, "kd"]], "tasks": ["mnli"]}},
            "axis: tasks: found 'mnli'; expected",
        ),
        ({"axis": {"name": "a", "values": [[1]], "tasks": ["cola"]}}, "axis: values/0: found 1 values; expected 2"),
    ],
)
def test_a_broken_report_spec_is_told(change, message):
    with pytest.raises(RkdError, match=message):
        ReportSpec.from_json(json.dumps({**REPORT.as_dict(), **change}))


def test_a_step_cost_spec_has_each_variant_once_and_some_batch():
    spec = SPECS[StepCostSpec]
    for change in ({"variants": ()}, {"variants": spec.variants[:1] * 2}, {"batch_size": 0}):
        with pytest.raises(RkdError, match=r"step cost spec: \w+: found .*; expected at least "):
            replace(spec, **change)


def test_values_are_read_by_their_annotated_type():
    assert read(float, 1, "x") == 1
    assert read(tuple[int, ...], [1, 2], "x") == (1, 2)
    assert read(ModelSpec | None, None, "x") is None
    assert read(tuple[str, int], ["a", 1], "x") == ("a", 1)
    for kind, value in ((int, True), (int, 1.0), (bool, 1), (str, 5), (tuple[int, ...], "12"), (dict, [])):
        with pytest.raises(RkdError, match=r"^x: found .*; expected "):
            read(kind, value, "x")
    assert read(Axis, {"name": "a", "values": [[[0, 1], "kd"]], "tasks": []}, "x").values == (([0, 1], "kd"),)


def test_specs_import_no_large_library():
    heavy = ("pandas", "numpy", "torch", "jsonschema", "yaml")
    modules = ", ".join(f"rkd.specs.{name}" for name in ("base", "data", "jobs", "metrics", "profiling", "report"))
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
