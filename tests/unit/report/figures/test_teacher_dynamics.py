"""Figures of teacher dynamics, cost and latency: what is drawn from known data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rkd.errors import RkdError
from rkd.report.figures.teacher_dynamics import teacher_dynamics
from rkd.report.figures.tradeoffs import cost_figure, latency_figure, read_efficiency, read_seconds
from rkd.report.inputs import read_histories, read_metrics
from rkd.specs.report import ReportSpec, Selection, Variant
from tests.helpers import ROOT, TIMEOUT

SCRIPTS = ROOT / "workflow_scripts"
NAMES = {"finetune": "Fine-tuning", "kd": "KD", "reptile": "Reptile", "online": "Online"}
SPEC = ReportSpec(
    tasks=("rte", "stsb"),
    variants=tuple(Variant(name, name, label) for name, label in NAMES.items()),
    seeds=(1, 2),
    synthetic=False,
    teacher_model="org/big",
    student_model="org/small",
    selection=Selection("best", "best"),
)
SPEC_JSON = json.dumps(
    {
        "tasks": SPEC.tasks,
        "variants": [vars(variant) for variant in SPEC.variants],
        "seeds": SPEC.seeds,
        "synthetic": False,
        "teacher_model": "a",
        "student_model": "b",
        "selection": {"teacher": "best", "student": "best"},
    }
)


def teacher(step, seed, task, moving=True, distance=True):
    soft = {"kl": None, "entropy": None} if task == "stsb" else {"kl": 0.5 - step / 100, "entropy": 0.6}
    primary_score = 0.8 - (step / 100 if moving else 0)
    return {
        "primary_score": primary_score,
        **soft,
        **({"distance": 1 - step / 40 + seed / 100} if distance and moving else {}),
    }


def history(folder, task, variant, seed):
    lines = []
    for step in (0, 10, 20):
        line = {"epoch": step / 10, "step": step, "primary_score": 0.5 + step / 100}
        if variant != "finetune":
            line["teacher"] = teacher(step, seed, task, moving=variant != "kd", distance=variant == "reptile")
        lines.append(json.dumps(line))
    path = folder / "students" / task / variant / f"seed-{seed}" / "history.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def histories(tmp_path):
    return [history(tmp_path, task, name, seed) for task in SPEC.tasks for name in NAMES for seed in SPEC.seeds]


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def texts(figure):
    return " ".join(text.get_text() for text in figure.texts)


def test_only_moving_teachers_are_drawn_one_column_per_task(histories):
    figure = teacher_dynamics(SPEC, read_histories(histories))
    distance, score, kl, entropy = (figure.axes[2 * row] for row in range(4))
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["RTE", "STS-B"]
    assert set(lines(distance)) == {"Reptile"}
    np.testing.assert_allclose(lines(distance)["Reptile"].get_xydata(), [[0, 1.015], [10, 0.765], [20, 0.515]])
    teachers, students = score.get_lines()[0], score.get_lines()[1]
    np.testing.assert_allclose(teachers.get_ydata(), [80, 70, 60])
    np.testing.assert_allclose(students.get_ydata(), [50, 60, 70])
    assert teachers.get_color() == students.get_color()
    assert teachers.get_linestyle() != students.get_linestyle()
    assert len(kl.get_lines()) == 2, "reptile and online, whose teacher moves without a distance"
    np.testing.assert_allclose(entropy.get_lines()[0].get_ydata(), [0.6, 0.6, 0.6])
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {"Reptile", "Online", "Student's dev score (same colour)"}
    assert "Means of 2 seeds" in texts(figure)


def test_regression_has_no_soft_labels_and_says_so(histories):
    figure = teacher_dynamics(SPEC, read_histories(histories))
    kl = figure.axes[5]
    assert not kl.get_lines()
    assert [text.get_text() for text in kl.texts] == ["regression:\nno soft labels"]


def test_no_moving_teacher_is_an_error(tmp_path, histories):
    with pytest.raises(RkdError, match="no history has a trainable teacher"):
        teacher_dynamics(SPEC, read_histories([file for file in histories if "/kd/" in file or "finetune" in file]))
    with pytest.raises(RkdError, match="no history has a trainable teacher"):
        teacher_dynamics(SPEC, read_histories([]))


def metrics_file(folder, task, variant, seed, value):
    metric = {"accuracy": value} if task == "rte" else {"pearson": value, "spearmanr": value}
    content = {
        "task": task,
        "variant": variant,
        "method": "kd",
        "seed": seed,
        "primary_score": value,
        "synthetic": False,
    }
    path = folder / "metrics" / task / variant / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, "splits": {"validation": {**metric, "rows": 9}}}))
    return str(path)


def run_file(folder, task, variant, seed, seconds, processor="A"):
    path = folder / "students" / task / variant / f"seed-{seed}" / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seconds": seconds, "processor": processor}))
    return str(path)


@pytest.fixture
def metrics(tmp_path):
    rows = (("kd", 0.6), ("reptile", 0.7), ("teacher", 0.8))
    return [metrics_file(tmp_path, "rte", name, seed, value + seed / 100) for name, value in rows for seed in (1, 2)]


def points(axes):
    named = [container for container in axes.containers if not container.get_label().startswith("_")]
    return {container.get_label(): container.lines[0].get_xydata()[0].tolist() for container in named}


def test_cost_is_score_by_mean_seconds(tmp_path, metrics):
    runs = [run_file(tmp_path, "rte", "kd", seed, 10.0 * seed) for seed in (1, 2)]
    runs += [run_file(tmp_path, "rte", "reptile", 1, 40)]
    figure = cost_figure(SPEC, read_metrics(metrics), read_seconds(runs))
    assert points(figure.axes[0]) == {"KD": pytest.approx([15, 61.5]), "Reptile": pytest.approx([40, 71.5])}
    assert figure.axes[0].get_xlim()[0] == 0
    assert "Measured on A." in texts(figure)
    runs += [run_file(tmp_path, "rte", "reptile", 2, 40, "B")]
    mixed = texts(cost_figure(SPEC, read_metrics(metrics), read_seconds(runs)))
    assert "machines differ" in " ".join(mixed.split())
    with pytest.raises(RkdError, match="no variant has both a score and a value"):
        cost_figure(SPEC, read_metrics([]), read_seconds(runs))


def test_latency_falls_back_on_the_student(tmp_path, metrics):
    table = pd.DataFrame(
        [("teacher", "rte", 40.0), ("student", "rte", 20.0), ("reptile", "rte", 15.0)],
        columns=["row", "task", "latency_ms"],
    )
    figure = latency_figure(SPEC, read_metrics(metrics), table)
    expected = {"Teacher": [40, 81.5], "KD": [20, 61.5], "Reptile": [15, 71.5]}
    assert points(figure.axes[0]) == {name: pytest.approx(place) for name, place in expected.items()}
    alike = latency_figure(SPEC, read_metrics(metrics), table[:2])
    places = {name: x for name, (x, _) in points(alike.axes[0]).items()}
    assert places == pytest.approx({"Teacher": 40, "KD": 19.5, "Reptile": 20.5}), "side by side around 20"
    table.drop(columns="latency_ms").to_csv(tmp_path / "efficiency.csv", index=False)
    with pytest.raises(RkdError, match=r"efficiency\.csv: no column 'latency_ms'; found row, task"):
        read_efficiency(tmp_path / "efficiency.csv")


@pytest.mark.parametrize("content", ["{", "{}", '{"seconds": 0}', "[]"])
def test_broken_run_files_are_told(tmp_path, content):
    path = Path(run_file(tmp_path, "rte", "kd", 1, 1))
    path.write_text(content)
    with pytest.raises(RkdError, match=r"run\.json: "):
        read_seconds([path])


def test_scripts_draw(tmp_path, histories, metrics):
    efficiency = tmp_path / "efficiency.csv"
    efficiency.write_text("row,task,latency_ms\nstudent,rte,20\n")
    runs = [run_file(tmp_path, "rte", "kd", 1, 10)]
    for name, arguments in {
        "teacher_dynamics": ["--histories", *histories],
        "score_vs_cost": ["--metrics", *metrics, "--runs", *runs],
        "latency": ["--metrics", *metrics, "--efficiency", efficiency],
    }.items():
        command = [sys.executable, SCRIPTS / f"plot_{name}.py", "--spec", SPEC_JSON, "--out", tmp_path / "out" / name]
        result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT)
        assert (result.returncode, result.stderr) == (0, "")
        assert {path.suffix for path in (tmp_path / "out").glob(f"{name}.*")} == {".json", ".pdf", ".png"}
