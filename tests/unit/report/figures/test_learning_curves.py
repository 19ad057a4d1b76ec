"""Learning curves: what is drawn from known histories, and files that are equal byte by byte."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rkd.errors import RkdError
from rkd.report.figures.learning_curves import learning_curves
from rkd.report.figures.style import TEACHER_LABEL, save, variant_styles
from rkd.report.inputs import read_histories, read_metrics
from rkd.specs.report import ReportSpec, Selection, Variant
from tests.helpers import ROOT, TIMEOUT

SCRIPT = ROOT / "workflow_scripts" / "plot_learning_curves.py"
SPEC = ReportSpec(
    tasks=("cola", "mrpc"),
    variants=(Variant("finetune", "finetune", "Fine-tuning"), Variant("kd", "kd", "KD")),
    seeds=(1, 2),
    synthetic=False,
    teacher_model="org/big",
    student_model="org/small",
    selection=Selection("best", "best"),
)
CURVES = {("kd", 1): [0.1, 0.5, 0.7], ("kd", 2): [0.1, 0.7, 0.8], ("finetune", 1): [0.0, 0.4, 0.6]}


def history(folder, task, variant, seed, values):
    path = folder / "results/students" / task / variant / f"seed-{seed}" / "history.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"epoch": epoch, "step": 10 * epoch, "primary_score": value} for epoch, value in enumerate(values)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def teacher(folder, task, seed, value):
    path = folder / "results/metrics" / task / "teacher" / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    scores = {"cola": {"matthews_correlation": value}, "mrpc": {"accuracy": value, "f1": value}}[task]
    content = {"task": task, "variant": "teacher", "method": "finetune", "seed": seed, "primary_score": value}
    path.write_text(json.dumps({**content, "splits": {"validation": {**scores, "rows": 9}}, "synthetic": False}))
    return path


@pytest.fixture
def files(tmp_path):
    histories = [
        history(tmp_path, task, variant, seed, values)
        for task in SPEC.tasks
        for (variant, seed), values in CURVES.items()
    ]
    return histories, [teacher(tmp_path, task, seed, 0.8 + seed / 100) for task in SPEC.tasks for seed in SPEC.seeds]


def draw(files, spec=SPEC):
    histories, teachers = files
    return learning_curves(spec, read_histories(histories), read_metrics(teachers))


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def texts(figure):
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def test_lines_are_means_over_seeds_and_the_teacher_is_dashed(files):
    figure = draw(files)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["CoLA", "MRPC"]
    drawn = lines(figure.axes[0])
    np.testing.assert_allclose(drawn["KD"].get_xydata(), [[0, 10], [10, 60], [20, 75]])
    np.testing.assert_allclose(drawn["Fine-tuning"].get_ydata(), [0, 40, 60])
    np.testing.assert_allclose(drawn[TEACHER_LABEL].get_ydata(), [81.5, 81.5])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["Fine-tuning", "KD", TEACHER_LABEL]


def test_the_band_spans_the_seeds(files):
    bands = draw(files).axes[0].collections
    kd = bands[1].get_paths()[0].vertices
    at_last_step = kd[np.isclose(kd[:, 0], 20), 1]
    assert (at_last_step.min(), at_last_step.max()) == pytest.approx((70, 80))


def test_the_axis_covers_all_after_step_zero_and_the_note_says_what_it_does_not(files):
    figure = draw(files)
    low, high = figure.axes[0].get_ylim()
    assert 30 < low < 40
    assert 81.5 < high < 90
    assert "The score before training (step 0) lies below the axis." in texts(figure)
    assert "mean of 1 to 2 seeds, band from lowest to highest" in texts(figure)


def test_nothing_is_hidden_where_the_start_is_not_below(tmp_path):
    path = history(tmp_path, "cola", "kd", 1, [0.5, 0.4, 0.6])
    figure = draw(([path], []))
    assert "below the axis" not in texts(figure)
    assert "one seed" in texts(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["KD"]


def test_steps_that_a_seed_lacks_and_undefined_scores_are_left_out(tmp_path):
    paths = [
        history(tmp_path, "cola", "kd", 1, [0.1, 0.5, None]),
        history(tmp_path, "cola", "kd", 2, [0.1, 0.7]),
    ]
    paths += [history(tmp_path, "cola", "finetune", 1, [0.1, None, 0.3])]
    drawn = lines(draw((paths, [])).axes[0])
    np.testing.assert_allclose(drawn["KD"].get_xydata(), [[0, 10], [10, 60]])
    np.testing.assert_allclose(drawn["Fine-tuning"].get_ydata(), [10, math.nan, 30])


def test_synthetic_data_are_marked(tmp_path):
    spec = ReportSpec(**{**vars(SPEC), "synthetic": True})
    path = history(tmp_path, "cola", "kd", 1, [0.1, 0.5])
    assert "Synthetic data, not GLUE." in texts(draw(([path], []), spec))
    assert "Synthetic" not in texts(draw(([path], [])))


def test_variants_differ_in_more_than_colour():
    styles = variant_styles([f"v{number}" for number in range(84)])
    assert len({tuple(map(str, look.values())) for look in styles.values()}) == 84
    first = list(styles.values())[:4]
    assert len({str(look["linestyle"]) for look in first}) == len({look["marker"] for look in first}) == 4


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_any_number_of_tasks_has_its_panels_and_labelled_axes(count):
    names = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")[:count]
    run = {"variant": "kd", "seed": 1, "file": "f", "epoch": 1.0, "step": 5, "primary_score": 0.5}
    histories = pd.DataFrame([{"task": name, **run} for name in names])
    spec = ReportSpec(**{**vars(SPEC), "tasks": names})
    figure = learning_curves(spec, histories, read_metrics([]))
    assert len(figure.axes) == count
    assert all(axes.get_ylabel() for axes in figure.axes)
    assert sum(axes.get_xlabel() == "Training step" for axes in figure.axes) == {1: 1, 3: 3, 4: 2, 9: 3}[count]


def test_no_histories_and_foreign_runs_are_errors(tmp_path):
    with pytest.raises(RkdError, match="no history files"):
        draw(([], []))
    with pytest.raises(RkdError, match="seed is 7; this report is about 1, 2"):
        draw(([history(tmp_path, "cola", "kd", 7, [0.1])], []))


def test_two_renders_are_equal_byte_by_byte(files, tmp_path):
    first = save(draw(files), tmp_path / "a" / "curves")
    second = save(draw(files), tmp_path / "b" / "curves")
    assert [path.name for path in first] == ["curves.pdf", "curves.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    pdf, png = (path.read_bytes() for path in first)
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert b"/Type0" in pdf  # fonts of type 42 are embedded as text, not as drawings
    assert png.startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["curves.pdf", "curves.png"]


def test_script_draws_the_same_in_a_process_of_its_own(files, tmp_path):
    histories, teachers = files
    spec = {
        "tasks": SPEC.tasks,
        "variants": [vars(variant) for variant in SPEC.variants],
        "seeds": SPEC.seeds,
        "synthetic": False,
        "teacher_model": "org/big",
        "student_model": "org/small",
        "selection": {"teacher": "best", "student": "best"},
    }
    command = [sys.executable, SCRIPT, "--spec", json.dumps(spec), "--out", tmp_path / "script"]
    command += ["--histories", *histories, "--teacher-metrics", *teachers]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert (result.returncode, result.stderr) == (0, "")
    for path in save(draw(files), tmp_path / "here"):
        assert path.read_bytes() == (tmp_path / f"script{path.suffix}").read_bytes()
    histories[0].write_text("{")
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {histories[0]}, line 1: not JSON")


def test_a_far_teacher_is_a_number_at_the_edge(files):
    """Its line would squeeze the curves, which span 40 points."""
    histories, _ = files
    teachers = [teacher(histories[0].parents[5], "cola", seed, 0.8) for seed in SPEC.seeds]
    narrow = [history(histories[0].parents[5], "cola", "kd", seed, [0.1, 0.5, 0.52]) for seed in SPEC.seeds]
    figure = draw((narrow, teachers))
    low, high = figure.axes[0].get_ylim()
    assert 49 < low < high < 53
    assert [text.get_text() for text in figure.axes[0].texts] == ["Teacher 80.0 ↑"]
    assert TEACHER_LABEL not in lines(figure.axes[0])
