"""Reading specs, metrics files and histories: what comes out, and one clear error for everything broken."""

import json
import math
import subprocess
import sys

import pytest

from rkd.errors import RkdError
from rkd.report.inputs import read_histories, read_metrics
from rkd.specs.report import ReportSpec
from tests.helpers import TIMEOUT
from tests.helpers.report_inputs import METRICS, SCORES

SPEC = {
    "tasks": ["mrpc", "mnli"],
    "variants": [{"name": "kd", "method": "kd", "label": "KD"}],
    "seeds": [1, 2],
    "synthetic": False,
    "teacher_model": "org/teacher",
    "student_model": "org/student",
    "selection": {"teacher": "best", "student": "last"},
}
EVALUATION = {"epoch": 0.0, "step": 0, "primary_score": 0.5, "train": {}, "dev": {"validation": {"accuracy": 0.5}}}


def write(path, *values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(value if isinstance(value, str) else json.dumps(value) for value in values))
    return path


def test_metrics_come_out_one_number_a_row(tmp_path):
    file = write(tmp_path / "a.json", METRICS)
    frame = read_metrics([file])
    assert dict(zip(frame["metric"], frame["value"], strict=True)) == {
        "accuracy": 0.75,
        "f1": 0.85,
        "primary_score": 0.8,
    }
    assert set(frame["rows"]) == {408}
    first = frame.iloc[0]
    assert (first["task"], first["variant"], first["seed"], first["split"]) == ("mrpc", "kd", 1, "validation")
    assert first["file"] == str(file)


def test_mnli_has_two_dev_splits_and_one_primary_score(tmp_path):
    splits = {f"validation_{part}": {"accuracy": 0.8, "rows": 9} for part in ("matched", "mismatched")}
    frame = read_metrics([write(tmp_path / "a.json", {**METRICS, "task": "mnli", "splits": splits})])
    found = list(zip(frame["split"], frame["metric"], strict=True))
    matched, mismatched = splits
    assert found == [(matched, "accuracy"), (matched, "primary_score"), (mismatched, "accuracy")]


def test_null_becomes_nan(tmp_path):
    splits = {"validation": {"pearson": None, "spearmanr": None, "rows": 9}}
    broken = {**METRICS, "task": "stsb", "splits": splits, "primary_score": None}
    assert all(math.isnan(value) for value in read_metrics([write(tmp_path / "a.json", broken)])["value"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.json: not JSON"),
        ("{", "a.json: not JSON"),
        ("[]", r"a.json: found \[\]; expected an object"),
        (
            {key: METRICS[key] for key in METRICS if key != "seed"},
            "a.json: the key 'seed' is missing; found task, variant, method, splits",
        ),
        ({**METRICS, "seed": "1"}, """a.json: seed: found "1"; expected a whole number"""),
        ({**METRICS, "task": "mrcp"}, "unknown task 'mrcp'"),
        ({**METRICS, "primary_score": 80.0}, "a.json: primary_score: 80.0 is greater than the maximum of 1"),
        (
            {**METRICS, "splits": {"test": SCORES}},
            "a.json: splits/validation has no 'accuracy'; found nothing",
        ),
        (
            {**METRICS, "splits": {"validation": {"accuracy": 0.7, "rows": 408}}},
            "splits/validation has no 'f1'; found accuracy, rows",
        ),
    ],
)
def test_a_broken_metrics_file_is_named(tmp_path, content, message):
    with pytest.raises(RkdError, match=message):
        read_metrics([write(tmp_path / "a.json", content)])


def test_missing_and_repeated_metrics_files_are_named(tmp_path):
    with pytest.raises(RkdError, match=r"absent\.json: cannot be read"):
        read_metrics([tmp_path / "absent.json"])
    files = [write(tmp_path / name, METRICS) for name in ("a.json", "b.json")]
    with pytest.raises(RkdError, match=r"a\.json and .*b\.json are the same task, variant and seed"):
        read_metrics(files)


def test_histories_carry_their_run_and_flattened_values(tmp_path):
    later = {**EVALUATION, "epoch": 1.0, "step": 10, "primary_score": None, "train": {"loss": 0.7}}
    student = write(tmp_path / "results/students/mrpc/kd/seed-3/history.jsonl", EVALUATION, later)
    teacher = write(tmp_path / "results/teachers/mrpc/seed-4/history.jsonl", EVALUATION)
    frame = read_histories([student, teacher])
    assert list(frame["variant"]) == ["kd", "kd", "teacher"]
    assert list(frame["seed"]) == [3, 3, 4]
    assert list(frame["step"]) == [0, 10, 0]
    assert frame["primary_score"].isna().tolist() == [False, True, False]
    assert frame["train.loss"].iloc[1] == 0.7
    assert frame["dev.validation.accuracy"].iloc[0] == 0.5


@pytest.mark.parametrize(
    ("place", "lines", "message"),
    [
        ("students/mrpc/kd/seed-3/h.jsonl", [EVALUATION, "{"], r"h\.jsonl, line 2: not JSON"),
        (
            "students/mrpc/kd/seed-3/h.jsonl",
            [{"step": 1, "epoch": 1}],
            "line 1: the key 'primary_score' is missing; found step, epoch",
        ),
        ("students/mrpc/kd/seed-3/h.jsonl", [], r"h\.jsonl: no evaluations"),
        ("students/mrcp/kd/seed-3/h.jsonl", [EVALUATION], "unknown task 'mrcp'"),
        (
            "students/mrpc/seed-3/h.jsonl",
            [EVALUATION],
            "expected a path like runs/TASK/VARIANT-DIGEST/seed-N/FILE",
        ),
    ],
)
def test_a_broken_history_is_named(tmp_path, place, lines, message):
    with pytest.raises(RkdError, match=message):
        read_histories([write(tmp_path / place, *lines)])


def test_no_files_are_empty_frames():
    assert read_metrics([]).empty
    assert read_histories([]).empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 9}, r"a\.json: seed is 9; this report is about 1, 2"),
        ({"variant": "old"}, r"a\.json: variant is old; this report is about teacher, kd"),
        ({"synthetic": True}, r"a\.json: synthetic is True; this report is about False"),
    ],
)
def test_runs_that_a_report_is_not_about_are_refused(tmp_path, change, message):
    frame = read_metrics([write(tmp_path / "a.json", {**METRICS, **change})])
    with pytest.raises(RkdError, match=message):
        ReportSpec.from_json(json.dumps(SPEC)).admit(frame)


def test_reports_do_without_torch():
    names = ("inputs", "tables.main", "tables.literature", "figures.learning_curves", "rendering.grid")
    modules = ", ".join(f"rkd.report.{name}" for name in names)
    heavy = ("torch", "transformers", "datasets", "evaluate", "sklearn")
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert result.stdout.strip() == "[]"
