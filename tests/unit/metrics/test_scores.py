"""Metrics against scikit-learn and SciPy on random data, and every degenerate case."""

import json
import math
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.metrics.probabilistic import probabilistic
from rkd.tasks import TASKS, get
from tests.helpers import ROOT, TIMEOUT

SCRIPT = ROOT / "workflow_scripts" / "compute_metrics.py"
TRAINABLE = [task for task in TASKS.values() if task.trainable]
REFERENCE = {
    "accuracy": sklearn.metrics.accuracy_score,
    "f1": lambda labels, predictions: sklearn.metrics.f1_score(labels, predictions, zero_division=0),
    "matthews_correlation": sklearn.metrics.matthews_corrcoef,
    "pearson": lambda labels, predictions: scipy.stats.pearsonr(labels, predictions).statistic,
    "spearmanr": lambda labels, predictions: scipy.stats.spearmanr(labels, predictions).statistic,
}


def random_answers(task, n, seed):
    """Predictions and labels that agree on some examples; scores come with ties, as STS-B's labels do."""
    generator = np.random.default_rng(seed)
    if task.regression:
        labels = generator.integers(0, 26, n) / 5
        return labels + generator.normal(0, 1, n).round(1), labels
    labels = generator.integers(0, task.num_labels, n)
    return np.where(generator.random(n) < 0.4, generator.integers(0, task.num_labels, n), labels), labels


ONE_CLASS = pytest.mark.filterwarnings("ignore:A single label was found")  # scikit-learn's remark


@ONE_CLASS
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
@pytest.mark.parametrize("n", [2, 7, 500])
def test_agrees_with_scikit_learn_and_scipy(task, n):
    for seed in range(20):
        predictions, labels = random_answers(task, n, seed)
        if task.regression and (np.ptp(predictions) == 0 or np.ptp(labels) == 0):
            continue
        found = metrics.compute(task.name, predictions, labels)
        assert list(found) == list(task.metrics)
        for name, value in found.items():
            assert value == pytest.approx(REFERENCE[name](labels, predictions), abs=1e-12)
            assert type(value) is float


def test_matthews_correlation_of_a_large_set_does_not_overflow():
    labels = np.arange(5_000_000) % 2
    predictions = np.where(np.arange(labels.size) % 20 < 2, 1 - labels, labels)
    assert metrics.compute("cola", predictions, labels)["matthews_correlation"] == pytest.approx(0.8)


@ONE_CLASS
@pytest.mark.parametrize(
    ("predictions", "labels", "expected"),
    [([1, 1, 1], [0, 1, 1], 0.0), ([0, 1, 1], [1, 1, 1], 0.0), ([1, 1], [1, 1], 0.0), ([0, 1], [1, 0], -1.0)],
)
def test_matthews_correlation_of_constant_sides_is_zero(predictions, labels, expected):
    assert metrics.compute("cola", predictions, labels)["matthews_correlation"] == expected
    assert sklearn.metrics.matthews_corrcoef(labels, predictions) == expected


@pytest.mark.parametrize(("predictions", "labels"), [([0, 0], [0, 0]), ([0, 0], [1, 1]), ([1, 1], [0, 0])])
def test_f1_without_a_hit_is_zero(predictions, labels):
    assert metrics.compute("mrpc", predictions, labels)["f1"] == 0.0


@pytest.mark.parametrize(("predictions", "labels"), [([2.5] * 3, [1, 2, 3]), ([1, 2, 3], [4.0] * 3), ([1], [2])])
def test_correlation_with_a_constant_is_undefined_without_a_warning(predictions, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(math.isnan(value) for value in metrics.compute("stsb", predictions, labels).values())


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "message"),
    [
        ("cola", [], [], "no predictions"),
        ("cola", [0, 1], [0, 1, 1], "2 predictions but 3 labels"),
        ("stsb", [1.0, math.nan, math.inf], [1, 2, 3], "2 of 3 predictions are NaN or infinite"),
        ("stsb", [1.0, 2.0], [1, math.nan], "1 of 2 labels are NaN or infinite"),
        ("rte", [0, 1], [0, -1], "1 of 2 labels are not class ids, the first is -1; expected 0 to 1"),
        (
            "mnli",
            [0, 3, 0.5],
            [0, 1, 2],
            "2 of 3 predictions are not class ids, the first is 3; expected 0 to 2",
        ),
        ("cola", [[0, 1]], [0, 1], r"predictions have shape \(1, 2\)"),
        ("colla", [0], [0], "did you mean 'cola'"),
    ],
)
def test_unusable_input_is_an_error(task, predictions, labels, message):
    with pytest.raises(RkdError, match=message):
        metrics.compute(task, predictions, labels)


def predictions_frame(task, seed=0):
    """Predictions for all splits of a task, unlabelled where there is no dev set."""
    frames = []
    for number, split in enumerate([*task.dev_splits, "test"]):
        predictions, labels = random_answers(task, 40, seed + number)
        labels = labels if split in task.dev_splits else np.full(40, math.nan)
        frames.append(pd.DataFrame({"split": split, "idx": range(40), "label": labels, "prediction": predictions}))
    return pd.concat(frames, ignore_index=True).astype({"label": float, "prediction": float})


@pytest.mark.parametrize("task", TRAINABLE, ids=lambda task: task.name)
def test_from_predictions_scores_each_dev_split(task):
    frame = predictions_frame(task)
    found = metrics.from_predictions(task.name, frame)
    assert list(found["splits"]) == list(task.dev_splits)
    for split, scores in found["splits"].items():
        rows = frame[frame["split"] == split]
        assert scores == {**metrics.compute(task.name, rows["prediction"], rows["label"]), "rows": 40}
    first = found["splits"][task.dev_splits[0]]
    assert found["primary_score"] == pytest.approx(np.mean([first[name] for name in task.metrics]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda frame: frame.drop(columns="label"), "no column 'label'"),
        (lambda frame: frame[frame["split"] == "test"], "no split 'validation'; found test"),
        (lambda frame: pd.concat([frame, frame.head(3)]), "3 examples occur more than once"),
        (
            lambda frame: frame.assign(label=math.nan),
            "predictions of validation: mrpc: 40 of 40 labels are NaN",
        ),
    ],
)
def test_from_predictions_refuses_incomplete_files(spoil, message):
    with pytest.raises(RkdError, match=message):
        metrics.from_predictions("mrpc", spoil(predictions_frame(get("mrpc"))))


def run_script(tmp_path, frame, spec):
    frame.to_parquet(tmp_path / "predictions.parquet")
    paths = ["--predictions", tmp_path / "predictions.parquet", "--out", tmp_path / "metrics.json"]
    command = [sys.executable, SCRIPT, "--spec", json.dumps(spec), *paths]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)


SPEC = {"task": "stsb", "variant": "kd", "method": "kd", "seed": 3, "synthetic": True}


def test_script_writes_the_metrics_file_with_null_for_undefined(tmp_path):
    frame = predictions_frame(get("stsb")).assign(prediction=2.0)
    result = run_script(tmp_path, frame, SPEC)
    assert result.returncode == 0, result.stderr
    expected = {"pearson": None, "spearmanr": None, "rows": 40}
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert re.fullmatch("[0-9a-f]{64}", found.pop("predictions_sha256"))
    assert found == {**SPEC, "splits": {"validation": expected}, "primary_score": None}


def test_the_metrics_file_has_likelihood_and_calibration_where_there_are_logits(tmp_path):
    frame = predictions_frame(get("mrpc"))
    z = np.random.default_rng(0).normal(size=(len(frame), 2))
    spec = {**SPEC, "task": "mrpc"}
    assert run_script(tmp_path, frame, spec).returncode == 0
    without = json.loads((tmp_path / "metrics.json").read_text())
    beside = frame[["split", "idx"]].assign(logit_0=z[:, 0], logit_1=z[:, 1])
    beside.to_parquet(tmp_path / "logits.parquet")
    result = run_script(tmp_path, frame, spec)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "metrics.json").read_text())
    dev = (frame["split"] == "validation").to_numpy()
    assert found.pop("probabilistic") == {"validation": pytest.approx(probabilistic(z[dev], frame.loc[dev, "label"]))}
    assert found == without
    beside.iloc[::-1].to_parquet(tmp_path / "logits.parquet", index=False)
    assert "logits.parquet: found other examples; expected those of predictions.parquet" in (
        run_script(tmp_path, frame, spec).stderr
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {**SPEC, "task": "mnli"},
            "error: predictions of mnli: no split 'validation_matched'; found validation, test",
        ),
        (
            {"task": "stsb"},
            "error: argument --spec: metrics spec: the key 'variant' is missing; expected task, variant",
        ),
    ],
)
def test_script_tells_bad_input_in_one_line(tmp_path, spec, message):
    result = run_script(tmp_path, predictions_frame(get("stsb")), spec)
    assert result.returncode == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "metrics.json").exists()


def test_importing_metrics_is_cheap():
    heavy = ("evaluate", "torch", "sklearn", "scipy", "pandas", "datasets")
    code = f"import sys, rkd.metrics; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
def test_glue_metric_gives_the_same_numbers_without_a_network(tmp_path):
    """In a process of its own: the offline switch and the cache's place are read at import."""
    code = """
import socket
import numpy as np

def refuse(*args, **kwargs):
    raise AssertionError("a connection was opened")

socket.socket.connect = refuse
from rkd.metrics import GlueMetric, compute

generator = np.random.default_rng(1)
for task, k in (("mrpc", 2), ("mnli", 3), ("cola", 2)):
    predictions, labels = generator.integers(0, k, (2, 200))
    found = GlueMetric(task).compute(predictions=predictions, references=labels)
    assert found == compute(task, predictions, labels)
metric = GlueMetric("stsb")
predictions, labels = generator.normal(size=(2, 200))
for part in range(0, 200, 50):
    metric.add_batch(predictions=predictions[part : part + 50], references=labels[part : part + 50])
assert metric.compute() == compute("stsb", predictions, labels)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert result.returncode == 0, result.stderr
