"""The table of behaviour: agreement, likelihood, calibration and the closed gap, from predictions and metrics files."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rkd.metrics.file import metrics_file
from rkd.report.tables import behaviour as table
from rkd.report.tables.base import write
from rkd.specs.metrics import MetricsSpec
from rkd.specs.report import ReportSpec, Selection, Variant
from rkd.tasks import get

N = 300
SPEC = ReportSpec(
    tasks=("rte",),
    variants=(Variant("finetune", "finetune", "Fine-tuning"), Variant("kd", "kd", "KD")),
    seeds=(1, 2, 3),
    synthetic=False,
    teacher_model="org/big",
    student_model="org/small",
    selection=Selection("best", "best"),
)
RIGHT = {"finetune": 0.5, "kd": 0.7, "teacher": 0.9}


def predictions(folder, variant, seed, right, task="rte", margin=1.0):
    """Logits ±margin/2 of two classes; the first `right` of the examples, in an order of their own, are right."""
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 2
    hit = rng.random(N) < right + 0.01 * seed
    chosen = np.where(hit, labels, 1 - labels)
    place = f"teachers/{task}" if variant == "teacher" else f"students/{task}/{variant}"
    path = folder / place / f"seed-{seed}" / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    split = get(task).primary_split
    content = {"split": split, "idx": np.arange(N), "label": labels * 1.0, "prediction": chosen * 1.0}
    content |= {f"logit_{j}": np.where(chosen == j, margin / 2, -margin / 2) for j in (0, 1)}
    frame = pd.DataFrame(content)
    frame.to_parquet(path)
    path.with_name("metrics.json").write_text(
        json.dumps(metrics_file(MetricsSpec(task, variant, "kd", seed, False), frame))
    )
    return str(path)


def behaviour(spec, files, **settings):
    return table.behaviour(
        spec, files, [file.replace("predictions.parquet", "metrics.json") for file in files], **settings
    )


@pytest.fixture
def files(tmp_path):
    return [predictions(tmp_path, name, seed, right) for name, right in RIGHT.items() for seed in SPEC.seeds]


def test_measures_are_those_of_their_definitions(files):
    frame = behaviour(SPEC, files, resamples=300).frame().set_index("row")
    confident = 1 / (1 + math.exp(-1.0))
    for row in ("kd", "teacher"):
        line = frame.loc[row]
        right = np.mean(
            [(pd.read_parquet(f)["prediction"] == pd.read_parquet(f)["label"]).mean() for f in files if row in f]
        )
        assert line["nll"] == pytest.approx(-right * math.log(confident) - (1 - right) * math.log(1 - confident))
        assert line["calibration_error"] == pytest.approx(100 * abs(right - confident), abs=1e-6)
    of = {row: [pd.read_parquet(file)["prediction"].to_numpy() for file in files if row in file] for row in RIGHT}
    same = [(ours == theirs).mean() for ours, theirs in zip(of["kd"], of["teacher"], strict=True)]
    assert frame.loc["kd", "agreement"] == pytest.approx(100 * np.mean(same))
    assert math.isnan(frame.loc["teacher", "agreement"])
    line = frame.loc["kd"]
    assert line["gap_low"] < line["gap_closed"] < line["gap_high"]
    assert line["gap_closed"] == pytest.approx(50, abs=12), "half of the way from 0.5 to 0.9"
    assert math.isnan(frame.loc["finetune", "gap_closed"])


def test_a_gap_that_may_be_noise_is_undefined(tmp_path):
    rights = {"finetune": 0.6, "kd": 0.6, "teacher": 0.61}
    made = [predictions(tmp_path, name, seed, right) for name, right in rights.items() for seed in SPEC.seeds]
    found = behaviour(SPEC, made, resamples=300)
    assert math.isnan(found.frame().set_index("row").loc["kd", "gap_closed"])
    assert "undefined" in found.grid().markdown()


def test_missing_runs_and_regression_are_dashes(files, tmp_path):
    students = [file for file in files if "/teachers/" not in file]
    spec = replace(SPEC, tasks=("rte", "stsb"))
    scores = predictions(tmp_path / "more", "kd", 1, 0.5, task="stsb")
    found = behaviour(spec, [*students, scores], resamples=100)
    frame = found.frame().set_index(["row", "task"])
    assert ("teacher", "rte") not in frame.index
    assert math.isnan(frame.loc[("kd", "rte"), "agreement"])
    assert math.isnan(frame.loc[("kd", "stsb"), "nll"])
    markdown = found.grid().markdown()
    assert "Not defined for regression" in markdown
    assert "Teacher" in markdown
    write(found, tmp_path / "out", "behaviour")
    assert (tmp_path / "out/behaviour.tex").is_file()
    assert behaviour(SPEC, [], resamples=100).frame().empty
