"""What `rkd plan` says: rows, steps, and seconds from finished runs or from FLOPs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rkd.config.load import load
from rkd.errors import RkdError
from rkd.methods.facts import METHODS
from rkd.workflow import forecast
from rkd.workflow.forecast import Job, estimate, format_summary, merged_config, planned_jobs, summary
from rkd.workflow.plan import Plan
from tests.helpers import ROOT


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def plan(**changes) -> Plan:
    return Plan(load({**yaml.safe_load(Path("config.yaml").read_text()), **changes}))


JOBS = [
    Job("prepare_data", {"task": "cola"}),
    Job("finetune_teacher", {"task": "cola", "seed": "1"}),
    Job("train_student", {"task": "cola", "variant": "kd", "seed": "1"}),
    Job("train_student", {"task": "cola", "variant": "kd", "seed": "2"}),
]


def finish(results: Path, spec, folder: str, seconds: float, step: int) -> None:
    """A finished run of a spec that took some seconds for some steps."""
    run = results / folder
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"spec": json.loads(spec.json())}))
    lines = [{"epoch": n, "step": n * step, "seconds": n * seconds, "primary_score": 0.5} for n in (0, 1)]
    (run / "history.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def test_seconds_are_those_of_finished_runs_the_same_task_first(tmp_path):
    found = plan()
    finish(tmp_path, found.student("mrpc", "kd", 1), "students/mrpc/kd/seed-1", 80.0, 100)
    teacher, *students = estimate(found, JOBS, tmp_path, 1e9)
    assert (teacher.steps, teacher.basis) == (8 * 63, "assumed")  # 2000 rows by 32
    assert students[0].steps == 3 * 63  # 2000 rows by 32
    assert {one.basis for one in students} == {"measured on other tasks"}
    assert [one.seconds for one in students] == pytest.approx([3 * 63 * 0.8] * 2)
    finish(tmp_path, found.student("cola", "kd", 3), "students/cola/kd/seed-3", 20.0, 100)
    students = estimate(found, JOBS, tmp_path, 1e9)[1:]
    assert {one.basis for one in students} == {"measured"}
    assert [one.seconds for one in students] == pytest.approx([3 * 63 * 0.2] * 2)
    hot = plan(variants={"kd": {"method": "kd", "batch_size": 8}}, ablations={})
    assert estimate(hot, JOBS, tmp_path, 1e9)[1].basis == "assumed"  # another batch size was not measured


def test_assumed_seconds_are_flops_by_flops_per_second(tmp_path):
    """A step of kd: student forward and backward, teacher forward; 2 FLOPs per weight and token, backward twice."""
    *_, student = estimate(plan(), JOBS, tmp_path, 1e9)
    weights = 3 * (2 * 12 * 128**2) + 4 * 12 * 128**2
    assert student.seconds == pytest.approx(3 * 63 * 2 * weights * 32 * 32 / 1e9)
    assert estimate(plan(), JOBS, tmp_path, 2e9)[-1].seconds == pytest.approx(student.seconds / 2)


def test_prepared_rows_count_before_planned_ones(tmp_path):
    folder = tmp_path / f"data/cola-{plan().data_digest('cola')}"
    folder.mkdir(parents=True)
    manifest = {"task": "cola", "sha256": "0", "splits": {"train": {"rows": 320}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert estimate(plan(), JOBS, tmp_path, 1e9)[1].steps == 3 * 10
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(RkdError, match=r"cola-\w+/manifest\.json: found \[\]; expected an object"):
        estimate(plan(), JOBS, tmp_path, 1e9)


def test_a_summary_in_words(tmp_path):
    trainings = estimate(plan(), JOBS, tmp_path, 1e9)
    found = summary(JOBS, trainings, 1e9)
    assert found["jobs"] == {"prepare_data": 1, "finetune_teacher": 1, "train_student": 2}
    assert found["seconds"] == pytest.approx(sum(one.seconds for one in trainings))
    text = format_summary(found)
    assert text.startswith("4 jobs: 2 train_student, ")
    assert "assumed: 1e+09 FLOP/s, 32 tokens per example" in text
    assert format_summary(summary([], [], 1e9)) == "nothing to do"


def test_models_on_the_hub_have_no_estimate_and_it_is_said(tmp_path):
    hub = plan(teacher_model="google-bert/bert-base-uncased", student_model="google/bert_uncased_L-4_H-768_A-12")
    trainings = estimate(hub, JOBS, tmp_path, 1e9)
    assert {(one.seconds, one.basis) for one in trainings} == {(None, "size of the model unknown")}
    text = format_summary(summary(JOBS, trainings, 1e9))
    assert "3 size of the model unknown: no estimate" in text
    assert "3 trainings: no estimate" in text


def test_a_method_of_ones_own_has_no_estimate_before_it_was_run(tmp_path, monkeypatch):
    unknown = replace(METHODS["kd"], passes=None)
    monkeypatch.setattr(forecast, "METHODS", {**METHODS, "kd": unknown})
    *_, student = estimate(plan(), JOBS, tmp_path, 1e9)
    assert (student.seconds, student.basis) == (None, "cost of the method unknown")


def test_every_method_has_its_passes():
    assert [name for name, facts in METHODS.items() if facts.passes is None] == []


def test_overlays_are_merged_key_by_key(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("student: {alpha: 0.9}\ntasks: [rte]\n")
    merged = merged_config([overlay], {"seeds": [7]})
    assert (merged.tasks, merged.seeds, merged.config["student"]["alpha"]) == (["rte"], [7], 0.9)
    assert merged.config["student"]["epochs"] == 3
    with pytest.raises(RkdError, match=r"nowhere\.yaml: cannot be read: No such file"):
        merged_config([tmp_path / "nowhere.yaml"], {})


def test_outside_a_workflow(tmp_path, monkeypatch):
    """A package that is installed without its workflow has no Snakefile beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rkd.workflow.forecast.ROOT", tmp_path / "site-packages")
    with pytest.raises(RkdError, match="no Snakefile is here"):
        planned_jobs([])
