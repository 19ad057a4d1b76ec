"""Unlabelled rows and soft labels in a config: what they decide, and what is refused."""

import json

import pytest

from rkd.config.load import check, load
from rkd.workflow.plan import Plan
from tests.helpers.configs import merged


@pytest.fixture
def content(tmp_path, monkeypatch):
    """A config with a custom task that has soft labels and unlabelled rows, and a variant that learns from them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text("text,mood,p_bad,p_good\na,bad,0.9,0.1\nb,good,0.2,0.8\n")
    (tmp_path / "dev.csv").write_text("text,mood\na,bad\nb,good\n")
    (tmp_path / "more.csv").write_text("text,p_bad,p_good\nc,0.5,0.5\n")
    (tmp_path / "sentences.csv").write_text("sentence\nA sentence.\n")
    task = {"train": "train.csv", "dev": "dev.csv", "text": ["text"], "label": "mood", "labels": ["bad", "good"]}
    task |= {"unlabelled": "more.csv", "soft_labels": ["p_good", "p_bad"]}
    config = merged()
    config["variants"]["soft"] = {"method": "kd", "teacher": {"from": "soft_labels"}}
    return config | {"tasks": ["moods"], "custom_tasks": {"moods": task}, "ablations": {}}


def problems(content, **task):
    content["custom_tasks"]["moods"] |= task
    return [str(problem) for problem in check(content)]


def test_a_variant_learns_from_soft_labels_and_from_no_run(content):
    plan = Plan(load(content))
    assert plan.teacher_runs("moods", "soft", 1) == []
    assert plan.student("moods", "soft", 1).options["soft_labels"] is True
    assert "soft_labels" not in plan.student("moods", "kd", 1).options
    assert plan.digest("moods", "soft") != plan.digest("moods", "kd")
    assert plan.data("moods").custom_task["soft_labels"] == {"columns": ["p_bad", "p_good"]}
    assert "soft" not in [timed.variant for timed in plan.step_cost("moods").variants]  # no teacher to time


def test_files_count_by_content(content, tmp_path):
    before = Plan(load(content)).data_digest("moods")
    (tmp_path / "more.csv").rename(tmp_path / "elsewhere.csv")
    content["custom_tasks"]["moods"]["unlabelled"] = "elsewhere.csv"
    assert Plan(load(content)).data_digest("moods") == before
    (tmp_path / "elsewhere.csv").write_text("text,p_bad,p_good\nd,0.5,0.5\n")
    assert Plan(load(content)).data_digest("moods") != before


def test_glue_tasks_take_unlabelled_rows_and_others_keep_their_digest(content):
    content |= {"tasks": ["cola", "mrpc"]}
    del content["variants"]["soft"]
    plain, more = Plan(load(content)), Plan(load({**content, "unlabelled": {"cola": "sentences.csv"}}))
    assert plain.data_digest("mrpc") == more.data_digest("mrpc")
    assert plain.data_digest("cola") != more.data_digest("cola")
    assert more.files("cola") == {"unlabelled": "sentences.csv"}
    assert "unlabelled" not in json.loads(plain.data("cola").json())


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ({"unlabelled": "no.csv"}, "custom_tasks.moods.unlabelled: found 'no.csv'"),
        ({"unlabelled": "dev.csv"}, "custom_tasks.moods.unlabelled: found 'dev.csv'"),  # no columns of soft labels
        ({"soft_labels": ["p_bad"]}, "custom_tasks.moods.soft_labels: found no column of the label 'good'"),
        ({"soft_labels": ["p_bad", "p_god"]}, "custom_tasks.moods.soft_labels: found no column of the label 'good'"),
        ({"soft_labels": {"bad": "p_bad", "good": "x"}}, "column 'x' is missing"),
        ({"soft_labels": {"bad": "p_bad", "good": "p_bad"}}, "soft_labels: found 'p_bad' for two labels"),
        ({"soft_labels": {"bad": "p_bad", "good": "text"}}, "soft_labels: found 'text', a column of text or label"),
        ({"soft_labels": "no.csv"}, "custom_tasks.moods.soft_labels: found 'no.csv'"),
        ({"soft_labels": 3}, "custom_tasks.moods.soft_labels: found 3"),
        ({"soft_labels": [1, 2]}, "custom_tasks.moods.soft_labels"),
        ({"soft_labels": None}, "variants.soft.teacher.from: found 'soft_labels'"),
    ],
)
def test_what_does_not_fit_is_refused(content, task, found):
    assert any(found in problem for problem in problems(content, **task)), problems(content, **task)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"moods": "more.csv"}, "that of a custom task stands in custom_tasks: moods: unlabelled"),
        ({"colo": "sentences.csv"}, "unlabelled.colo"),
        ({"ax": "sentences.csv"}, "unlabelled.ax"),
        ({"cola": "more.csv"}, "column 'sentence' is missing"),
        ({"cola": "no.csv"}, "unlabelled.cola: found 'no.csv'"),
    ],
)
def test_files_of_no_glue_task_are_refused(content, given, found):
    content |= {"tasks": ["moods", "cola"], "unlabelled": given}
    assert any(found in problem for problem in problems(content))


@pytest.mark.parametrize(
    ("variant", "key", "expected"),
    [
        ({"method": "reptile", "teacher": {"from": "soft_labels"}}, "from", "frozen teacher's logits (kd)"),
        ({"method": "kd", "teacher": {"from": "soft_labels", "match_entropy_of": "reptile"}}, "match_entropy_of", "no"),
        ({"method": "kd", "teacher": {"from": "soft_labels", "epochs": 2}}, "epochs", "no epochs beside from"),
    ],
)
def test_soft_labels_are_for_kd_and_stand_alone(content, variant, key, expected):
    content["variants"]["soft"] = variant
    [problem] = check(content)
    assert problem.path == f"variants.soft.teacher.{key}"
    assert expected in problem.expected


def test_no_variant_is_called_soft_labels(content):
    content["variants"]["soft_labels"] = {"method": "kd"}
    assert any("in the results this is soft labels from the data" in each for each in problems(content))
