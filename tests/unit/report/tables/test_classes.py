"""The table of classes: scores of every class and row, from predictions."""

import math

import numpy as np
import pandas as pd
import pytest

from rkd.report.tables.base import write
from rkd.report.tables.classes import classes
from rkd.specs.report import ReportSpec, Selection, Variant

SPEC = ReportSpec(
    tasks=("rte", "stsb"),
    variants=(Variant("finetune", "finetune", "Fine-tuning"), Variant("kd", "kd", "KD")),
    seeds=(1, 2),
    synthetic=False,
    teacher_model="org/big",
    student_model="org/small",
    selection=Selection("best", "best"),
)


def predictions(folder, variant, seed, chosen, labels):
    path = folder / "students/rte" / variant / f"seed-{seed}" / "predictions.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"split": "validation", "idx": np.arange(len(labels)), "label": labels, "prediction": chosen}
    pd.DataFrame(content).astype({"label": float, "prediction": float}).to_parquet(path)
    return str(path)


def test_scores_are_means_over_seeds_and_regression_is_left_out(tmp_path):
    labels = [0, 0, 0, 1]
    files = [predictions(tmp_path, "kd", seed, chosen, labels) for seed, chosen in ((1, [0, 0, 1, 1]), (2, labels))]
    files.append(predictions(tmp_path, "finetune", 1, [0, 0, 0, 0], labels))
    table = classes(SPEC, files)
    frame = table.frame().set_index(["class", "row"])
    assert list(frame["task"].unique()) == ["rte"]
    kd = frame.loc["entailment", "kd"]
    assert (kd["support"], kd["seeds"]) == (3, 2)
    assert kd["recall"] == pytest.approx(100 * np.mean([2 / 3, 1]))
    assert kd["precision"] == 100
    never = frame.loc["not_entailment", "finetune"]
    assert math.isnan(never["precision"])
    assert (never["recall"], never["f1"]) == (0, 0)
    text = table.grid().markdown()
    assert text.startswith("Scores of every class on GLUE dev (×100), on RTE. ")
    assert "RTE: not_entailment (n = 1)" in text.replace("\\", "")
    assert "Fine-tuning" in text
    assert (kd["taken_for"], kd["taken_for_percent"]) == ("not_entailment", pytest.approx(100 / 6))
    assert (never["taken_for"], never["taken_for_percent"]) == ("entailment", 100)
    assert "not_entailment (16.7)" in text.replace("\\", "")
    confusion = table.sidecar()["confusion"]["rte"]
    assert confusion["labels"] == ["entailment", "not_entailment"]
    assert (confusion["kd"], confusion["finetune"]) == ([[5, 1], [0, 2]], [[3, 0], [1, 0]])
    write(table, tmp_path / "out", "classes")
    assert (tmp_path / "out/classes.tex").is_file()


def test_without_predictions_the_table_is_empty():
    assert classes(SPEC, []).frame().empty
