"""Numbers in any spelling of YAML, and keys of earlier versions, by each way into a config."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.cli import parse_config
from snakemake.utils import update_config  # how Snakemake itself lays overlays over config.yaml

from rkd.api import Request
from rkd.config.arguments import ArgumentError
from rkd.config.load import check, load, read_yaml, restore_cli_types
from rkd.config.variants import expand
from rkd.workflow.forecast import merged_config

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _repository_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def merged(overlay: dict[str, Any]) -> dict[str, Any]:
    result = read_yaml("config.yaml")
    update_config(result, overlay)
    return result


def from_command_line(*pairs: str) -> dict[str, Any]:
    """The config as Snakemake makes it of `--config` and rkd reads it."""
    return restore_cli_types(merged(parse_config(list(pairs))))


# --- numbers ------------------------------------------------------------------------------------------------


def test_numbers_without_a_point_are_read_in_the_config_file() -> None:
    text = Path("config.yaml").read_text().replace("teacher_lr: 1.0e-4", "teacher_lr: 5e-5")
    assert yaml.safe_load(text)["student"]["teacher_lr"] == "5e-5", "YAML 1.1 reads text"
    assert load(yaml.safe_load(text))["student"]["teacher_lr"] == 5e-5


@pytest.mark.parametrize("written", ["5e-5", "5E-5", "+5e-05", ".5e-4", "0.5e-4", "5.e-5", "5.0e-5"])
def test_numbers_in_every_spelling_are_read_in_an_overlay(tmp_path: Path, written: str) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(f"teacher: {{learning_rate: {written}}}\nvariants: {{kd: {{temperature: 1e1, epochs: 1e1}}}}\n")
    config = merged_config([overlay], {}).config
    assert config["teacher"]["learning_rate"] == 5e-5
    values = config["variants"]["kd"]["temperature"], config["variants"]["kd"]["epochs"]
    assert [(value, type(value)) for value in values] == [(10.0, float), (10, int)]


def test_numbers_without_a_point_are_read_on_the_command_line() -> None:
    config = load(from_command_line("student={teacher_lr: 5e-5}", "checkpoint_minutes=5e-1"))
    assert config["student"]["teacher_lr"] == 5e-5
    assert config["checkpoint_minutes"] == 0.5


def test_the_values_of_an_axis_are_numbers_in_any_spelling() -> None:
    def axes(small: Any, large: Any) -> dict[str, Any]:
        settings = {"slow": {"teacher_lr": small}, "still": {"outer_target": "student"}}
        return {
            "a": {"variant": "reptile", "parameter": "teacher_lr", "values": [small, large]},
            "b": {"variant": "reptile", "settings": settings},
        }

    def loaded(small: Any, large: Any) -> dict[str, Any]:
        return load(merged({"ablations": axes(small, large)}))

    pointless, plain = loaded("1e-5", "1E-3"), loaded(1.0e-5, 1.0e-3)
    assert pointless["ablations"] == plain["ablations"]
    assert expand(pointless) == expand(plain)


@pytest.mark.parametrize("text", ["1e-3x", "e-3", "1e", "1e-", "1e999", "0x1e-3", "1_0e-3", "٥e-5", "1e-3\n", "nan"])
def test_text_that_is_no_number_stays_an_error(text: str) -> None:
    [problem] = check(merged({"student": {"teacher_lr": text}}))
    assert str(problem).startswith(f"student.teacher_lr: found {text!r} (text); expected a number from 0 to 1")


def test_text_that_looks_like_a_number_stays_text_where_text_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1e5,2e5\na,3e5\nb,4e5\n")
    task = {"train": str(tmp_path / "data.csv"), "text": ["1e5"], "label": "2e5", "labels": ["3e5", "4e5"]}
    config = load(merged({"custom_tasks": {"mine": task}, "tasks": ["mine"]}))
    assert {key: config["custom_tasks"]["mine"][key] for key in task} == task


# --- keys of earlier versions -------------------------------------------------------------------------------

AXIS = {"variant": "reptile"}
EARLIER: list[tuple[dict[str, Any], str]] = [
    ({"own_tasks": {}}, "own_tasks: renamed; expected custom_tasks"),
    ({"partial": True}, "partial: renamed; expected report_only"),
    ({"quiz_share": 0.1}, "quiz_share: renamed; expected student.quiz_fraction"),
    (
        {"held_out_share": 0.1},
        "held_out_share: renamed; expected teacher.held_out_fraction or student.held_out_fraction",
    ),
    ({"teacher": {"held_out_share": 0.1}}, "teacher.held_out_share: renamed; expected held_out_fraction"),
    ({"teacher": {"quiz_share": 0.1}}, "teacher.quiz_share: renamed; expected student.quiz_fraction"),
    ({"student": {"pull_to": "student"}}, "student.pull_to: renamed; expected outer_target"),
    ({"student": {"batch_order": "length-grouped"}}, "student.batch_order: renamed; expected group_by_length: true"),
    ({"teacher": {"batch_order": "random"}}, "teacher.batch_order: renamed; expected group_by_length: false"),
    (
        {"variants": {"reptile": {"pull_scope": "encoder"}}},
        "variants.reptile.pull_scope: renamed; expected outer_scope",
    ),
    (
        {"ablations": {"a": {**AXIS, "parameter": "quiz_share", "values": [0.1]}}},
        "ablations.a.parameter: quiz_share is renamed; expected quiz_fraction",
    ),
    (
        {"ablations": {"a": {**AXIS, "settings": {"x": {"pull_to": "student"}}}}},
        "ablations.a.settings.x.pull_to: renamed; expected outer_target",
    ),
]


@pytest.mark.parametrize(("overlay", "told"), EARLIER, ids=[told.split(":")[0] for _, told in EARLIER])
def test_a_key_of_an_earlier_version_is_one_error_that_names_todays(overlay: dict[str, Any], told: str) -> None:
    assert [str(problem) for problem in check(merged(overlay))] == [told]


def test_earlier_keys_of_a_custom_task_are_told(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\nx,0\n")
    task = {"train": str(tmp_path / "data.csv"), "text": ["a"], "label": "b", "labels": [0, 1]}
    earlier = {**task, "dev_share": 0.2, "headline": ["accuracy"]}
    assert [str(problem) for problem in check(merged({"custom_tasks": {"mine": earlier}}))] == [
        "custom_tasks.mine.dev_share: renamed; expected dev_fraction",
        "custom_tasks.mine.headline: renamed; expected primary_metrics",
    ]


def test_an_earlier_key_on_the_command_line_is_told() -> None:
    [problem] = check(from_command_line("partial=true"))
    assert str(problem) == "partial: renamed; expected report_only"


def test_an_earlier_key_in_place_of_todays_is_one_error() -> None:
    config = read_yaml("config.yaml")
    config["own_tasks"] = config.pop("custom_tasks")
    config["student"]["quiz_share"] = config["student"].pop("quiz_fraction")
    assert [str(problem) for problem in check(config)] == [
        "own_tasks: renamed; expected custom_tasks",
        "student.quiz_share: renamed; expected quiz_fraction",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"settings": {"batch_order": "length-grouped"}}, "batch_order: renamed; expected group_by_length=True"),
        ({"settings": {"dev_share": 0.2}}, "dev_share: renamed; expected dev_fraction"),
        ({"settings": {"pull_to": "student"}}, "pull_to: renamed; expected outer_target in options"),
        ({"options": {"quiz_share": 0.2}}, "options.quiz_share: renamed; expected quiz_fraction"),
        (
            {"options": {"pull_to": "student", "pull_scope": "all"}},
            "options.pull_to: renamed; expected outer_target; options.pull_scope: renamed; expected outer_scope",
        ),
        (
            {"finetune_teacher": {"held_out_share": 0.2}},
            "finetune_teacher.held_out_share: renamed; expected held_out_fraction",
        ),
    ],
    ids=json.dumps,
)
def test_earlier_names_of_arguments_are_told(tmp_path: Path, arguments: dict[str, Any], told: str) -> None:
    (tmp_path / "data.csv").write_text("a,b\nx,0\ny,1\n")
    models = {role: f"configs/models/bert-{size}x128.json" for role, size in (("teacher", 4), ("student", 2))}
    given = {"data": tmp_path / "data.csv", "text": "a", "label": "b", "finetune_teacher": True, **models}
    with pytest.raises(ArgumentError) as caught:
        Request(**(given | arguments))
    assert str(caught.value) == told
