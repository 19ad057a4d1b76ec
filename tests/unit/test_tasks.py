"""The GLUE registry."""

import math
import subprocess
import sys

import pytest

from rkd.errors import RkdError
from rkd.tasks import TASKS, get, primary_score
from tests.helpers import TIMEOUT

# Order of the ClassLabel names in nyu-mll/glue.
HUB_LABELS = {
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "stsb": (),
    "qqp": ("not_duplicate", "duplicate"),
    "mnli": ("entailment", "neutral", "contradiction"),
    "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
    "wnli": ("not_entailment", "entailment"),
    "ax": ("entailment", "neutral", "contradiction"),
}
SUBMISSION = {
    *("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "QNLI.tsv"),
    *("RTE.tsv", "WNLI.tsv", "AX.tsv"),
}


def test_label_names_and_order() -> None:
    assert {name: task.labels for name, task in TASKS.items()} == HUB_LABELS


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_entries_are_consistent(task) -> None:
    assert len(task.text_fields) == len(task.text_columns) == 1 + task.pair
    assert len(task.file_labels) == len(task.labels)
    assert task.num_labels == max(1, len(task.labels))
    assert set(task.submission) == set(task.test_splits)
    assert set(task.splits) == {*["train"] * task.trainable, *task.dev_splits, *task.test_splits}
    assert all(file.startswith((task.folder, "diagnostic")) for file, _ in task.splits.values())


def test_words_of_the_files_are_the_label_names_or_class_ids() -> None:
    for name, task in TASKS.items():
        words = name in {"mnli", "qnli", "rte", "ax"}
        assert task.file_labels == (task.labels if words else ("0", "1")[: len(task.labels)])


def test_submission_files() -> None:
    assert {file for name, task in TASKS.items() if name != "ax" for file in task.submission.values()} == SUBMISSION


def test_mnli_splits() -> None:
    mnli = get("mnli")
    assert mnli.dev_splits == ("validation_matched", "validation_mismatched")
    assert mnli.test_splits == ("test_matched", "test_mismatched", "ax")
    assert mnli.primary_split == "validation_matched"
    assert get("cola").primary_split == "validation"


def test_only_ax_cannot_be_trained() -> None:
    assert [name for name, task in TASKS.items() if not task.trainable] == ["ax"]
    with pytest.raises(RkdError, match="'ax' has no dev split"):
        _ = get("ax").primary_split


def test_only_stsb_is_regression() -> None:
    assert [name for name, task in TASKS.items() if task.regression] == ["stsb"]


@pytest.mark.parametrize(("wrong", "right"), [("mrcp", "mrpc"), ("STS-B", "stsb"), ("CoLA", "cola"), ("sst_2", "sst2")])
def test_unknown_name_suggests_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(
        RkdError, match=rf"unknown task '{wrong}' \(did you mean '{right}'\?\); known tasks: cola, sst2"
    ):
        get(wrong)


def test_primary_score_is_the_mean_of_the_tasks_metrics() -> None:
    assert primary_score(get("mrpc"), {"accuracy": 0.8, "f1": 0.9, "rows": 408}) == pytest.approx(0.85)
    assert primary_score(get("stsb"), {"pearson": 0.5, "spearmanr": 0.6}) == pytest.approx(0.55)
    assert primary_score(get("cola"), {"matthews_correlation": -0.1, "accuracy": 0.7}) == -0.1


@pytest.mark.parametrize("undefined", [math.nan, None])
def test_primary_score_of_an_undefined_metric_is_nan(undefined: float | None) -> None:
    assert math.isnan(primary_score(get("mrpc"), {"accuracy": 0.8, "f1": undefined}))


def test_primary_score_without_a_metric_is_an_error() -> None:
    with pytest.raises(RkdError, match="mrpc: metric f1 is missing; found accuracy"):
        primary_score(get("mrpc"), {"accuracy": 0.8})


def test_import_stays_light() -> None:
    """The registry is read while the Snakefile is parsed."""
    code = "import sys, rkd.tasks; print({'torch', 'pandas', 'datasets', 'transformers', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert result.stdout.strip() == "set()"
