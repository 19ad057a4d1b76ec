"""Where a commit may be named, and what a config then takes from the hub."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from rkd.config.load import check, load
from rkd.errors import RkdError
from rkd.models.source import parse
from rkd.specs.jobs import ModelSpec
from rkd.verify.runs import _same_commits
from rkd.workflow.plan import Plan
from tests.helpers import ROOT

PIN = "86b5e0934494bd15c9632b12f734a8a67f723594"
OTHER = "8b6152f3be8ab89055dea2d040cebb9591d97ef6"


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def config(**changes: Any) -> dict[str, Any]:
    """The paper's config with changes."""
    result = yaml.safe_load(Path("config.yaml").read_text())
    for each in (yaml.safe_load(Path("configs/paper.yaml").read_text()), changes):
        update_config(result, each)
    return result


@pytest.mark.parametrize(
    ("reference", "location", "revision"),
    [
        (f"org/name@{PIN}", "org/name", PIN),
        ("name@main", "name", "main"),
        ("org/name@v1.0-rc_2", "org/name", "v1.0-rc_2"),
        ("org/name@refs/pr/4", "org/name", "refs/pr/4"),
        ("org/name", "org/name", None),
    ],
)
def test_a_hub_name_may_name_its_revision(reference: str, location: str, revision: str | None) -> None:
    source = parse(reference)
    assert (source.kind, source.location, source.revision) == ("hub", location, revision)


@pytest.mark.parametrize("reference", ["org/name@", "org/name@../x", "org/name@a/../../b", "@main", "a/b@c d", "a@b@c"])
def test_a_revision_that_none_can_be_is_refused(reference: str) -> None:
    with pytest.raises(RkdError, match="expected a hub name"):
        parse(reference)


def test_the_shipped_configs_pin_all_that_they_take_from_the_hub() -> None:
    for file in ("paper.yaml", "cpu.yaml"):
        content = yaml.safe_load(Path("config.yaml").read_text())
        update_config(content, yaml.safe_load((ROOT / "configs" / file).read_text()))
        plan = Plan(load(content))
        assert len(plan.hub_models) == 2
        for model in plan.hub_models:
            assert len(model.revision or "") == 40
        assert all(len(plan.data(task).revision or "") == 40 for task in plan.tasks)


def test_a_revision_in_the_name_is_the_same_spec_as_one_in_its_own_key() -> None:
    apart = Plan(load(config(teacher_model="org/a", teacher_revision=PIN)))
    inside = Plan(load(config(teacher_model=f"org/a@{PIN}", teacher_revision=None)))
    assert inside.teacher("cola", 42) == apart.teacher("cola", 42)
    assert inside.data("cola") == apart.data("cola")
    assert inside.teacher("cola", 42).model == ModelSpec("org/a", PIN)


def test_two_revisions_of_one_model_are_a_contradiction() -> None:
    [problem] = check(config(student_model=f"org/a@{PIN}", student_revision=OTHER))
    assert str(problem) == (
        f"student_revision: found '{OTHER}' (text); expected null, or {PIN}, which student_model names"
    )


def test_a_variant_and_an_axis_may_take_another_student_at_a_commit() -> None:
    axis = {"variant": "kd", "parameter": "student_model", "values": [f"org/b@{PIN}", f"org/b@{OTHER}"]}
    changes = {"variants": {"wide": {"method": "kd", "student_model": f"org/c@{PIN}"}}, "ablations": {"students": axis}}
    plan = Plan(load(config(**changes)))
    assert plan.student("cola", "wide", 42).model == ModelSpec("org/c", PIN)
    models = [plan.student("cola", variant, 42).model for _, variant in plan.axes["students"].values]
    assert models == [ModelSpec("org/b", PIN), ModelSpec("org/b", OTHER)]
    assert {(model.source, model.revision) for model in plan.hub_models} >= {
        ("org/c", PIN),
        ("org/b", PIN),
        ("org/b", OTHER),
    }


def test_the_config_s_own_student_is_one_run_however_its_commit_is_written() -> None:
    axis = {"variant": "kd", "parameter": "student_model", "values": [f"org/a@{PIN}", "teacher-layers:1,3"]}
    settings = {"variant": "kd", "settings": {"same": {"student_model": f"org/a@{PIN}"}}}
    changes = {"student_model": f"org/a@{PIN}", "student_revision": None, "ablations": {"one": axis, "two": settings}}
    plan = Plan(load(config(**changes)))
    assert ("org/a", "kd") in plan.axes["one"].values
    assert plan.axes["two"].values == (("same", "kd"),)
    assert not plan.has_own_student("kd")


RECORDED = {"name": "org/a", "revision": PIN, "sha256": {"model.safetensors": "f" * 64}}
MODEL = {"source": "org/a", "revision": PIN, "layers_of": None}


@pytest.mark.parametrize(
    ("model", "recorded", "told"),
    [
        (MODEL, [RECORDED], None),
        ({**MODEL, "revision": None}, [RECORDED], None),
        ({"source": "teacher-layers:1,3", "layers_of": MODEL}, [RECORDED], None),
        ({"source": "configs/models/bert-2x128.json", "layers_of": None}, [], None),
        ({"source": "configs/models/bert-2x128.json", "layers_of": None}, None, None),
        (MODEL, [{**RECORDED, "revision": OTHER}], f"hub: org/a at {OTHER}; its spec pins {PIN}"),
        (MODEL, [], f"hub: found []; its spec names [('org/a', '{PIN}')]"),
        (MODEL, [{**RECORDED, "name": "org/b"}], "hub: found [('org/b', "),
        (MODEL, None, "does not say which files came from the hub"),
        (MODEL, [{**RECORDED, "sha256": {}}], "does not say which files came from the hub"),
    ],
)
def test_verification_compares_the_commit_of_a_run_with_its_spec(model: Any, recorded: Any, told: str | None) -> None:
    findings = list(_same_commits(Path("run.json"), model, recorded))
    assert [finding.text.startswith(told or "") for finding in findings] == [True] * (told is not None)
