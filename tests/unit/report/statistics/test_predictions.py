"""Predictions of variants, read from files and paired."""

import math

import pandas as pd
import pytest

from rkd.errors import RkdError
from rkd.report.statistics.comparison import compare
from rkd.report.statistics.predictions import Predictions, pair
from rkd.tasks import get


def file(folder, labels, predictions, task="rte", variant="kd", seed=1, idx=None, **columns):
    path = folder / "results/students" / task / variant / f"seed-{seed}" / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    split = get(task).primary_split
    idx = range(len(labels)) if idx is None else idx
    content = {"split": split, "idx": idx, "label": labels, "prediction": predictions, **columns}
    pd.DataFrame(content).to_parquet(path)
    return str(path)


def test_files_are_read_by_seed_and_idx(tmp_path):
    second = file(tmp_path, [1.0, 0, 0], [0.0, 0, 0], seed=2)
    first = file(tmp_path, [0.0, 1, 0], [1.0, 1, 0], idx=[1, 0, 2])
    found = Predictions.read([second, first])
    assert (found.variant, found.seeds, found.files) == ("kd", (1, 2), (first, second))
    assert found.labels.tolist() == [1, 0, 0]
    assert found.predictions.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert found.scores.tolist() == pytest.approx([2 / 3, 2 / 3])


def test_rows_pair_on_the_seeds_of_both(tmp_path):
    variant = Predictions.read([file(tmp_path, [1.0, 0], [1.0, 1], seed=seed) for seed in (1, 2, 3)])
    baseline = Predictions.read(
        [file(tmp_path, [1.0, 0], [1.0, 0], variant="baseline", seed=seed) for seed in (2, 3, 4)]
    )
    assert [side.seeds for side in pair(variant, baseline)] == [(2, 3), (2, 3)]
    assert compare(variant, baseline, resamples=50).seeds == (2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1.0]}, "kd/.* and .*baseline/.* do not pair: 2 and 1 examples"),
        ({"idx": [0, 2]}, "do not pair: idx 1 and 2; expected the same examples"),
        ({"labels": [1.0, 1]}, "other labels for 1 examples, the first is idx 1"),
        ({"seed": 9}, "rte: found kd with the seeds 1 and baseline with the seeds 9; expected at least one"),
        ({"task": "wnli"}, "is of rte, .* of wnli; expected one task"),
    ],
)
def test_rows_that_do_not_pair_are_told(tmp_path, change, message):
    variant = Predictions.read([file(tmp_path, [1.0, 0], [1.0, 1])])
    labels = change.pop("labels", [1.0, 0])
    baseline = Predictions.read([file(tmp_path, labels, labels, variant="baseline", **change)])
    with pytest.raises(RkdError, match=message):
        pair(variant, baseline)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"split": "test"}, "no split 'validation'; found test"),
        ({"idx": [3, 3]}, "1 examples of validation occur more than once"),
        ({"label": [1.0, math.nan]}, "1 examples of validation have no label"),
    ],
)
def test_broken_predictions_are_told(tmp_path, columns, message):
    path = file(tmp_path, [1.0, 0], [1.0, 1], **columns) if "idx" not in columns else None
    path = path or file(tmp_path, [1.0, 0], [1.0, 1], idx=columns["idx"])
    with pytest.raises(RkdError, match=message):
        Predictions.read([path])


def test_missing_mixed_and_repeated_files_are_told(tmp_path):
    kd = file(tmp_path, [1.0, 0], [1.0, 1])
    with pytest.raises(RkdError, match="no files"):
        Predictions.read([])
    with pytest.raises(RkdError, match="cannot be read as predictions"):
        Predictions.read([str(tmp_path / "students/rte/kd/seed-1/absent.parquet")])
    with pytest.raises(RkdError, match="expected a path like runs/TASK/VARIANT"):
        Predictions.read([str(tmp_path / "a.parquet")])
    with pytest.raises(RkdError, match="different variants or tasks"):
        Predictions.read([kd, file(tmp_path, [1.0], [1.0], variant="finetune", seed=2)])
    with pytest.raises(RkdError, match="seed 1 occurs twice"):
        Predictions.read([kd, file(tmp_path / "b", [1.0, 0], [1.0, 1])])
    broken = tmp_path / "students/rte/kd/seed-1/predictions.parquet"
    broken.parent.mkdir(parents=True)
    broken.write_text("no parquet")
    with pytest.raises(RkdError, match="cannot be read as predictions"):
        Predictions.read([str(broken)])
