"""The workflow on texts with several labels: from columns of 0 and 1 to tables, figures and a verified folder."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from tests.helpers import TIMEOUT
from tests.helpers.label_sets import LABELS, columns
from tests.workflow.conftest import TINY, Workflow

TASK = {"train": "train.csv", "dev": "dev.csv", "test": "test.csv", "text": ["text"], "label": LABELS}
OWN = {
    **TINY,
    "tasks": ["feelings"],
    "variants": {"no-lookahead": None},
    "custom_tasks": {"feelings": {**TASK, "multi_label": True, "metrics": ["micro_f1", "macro_f1", "accuracy"]}},
}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Workflow:
    workflow = Workflow(tmp_path_factory.mktemp("several"))
    for seed, (split, rows) in enumerate({"train": 96, "dev": 40, "test": 12}.items()):
        columns(rows, seed).to_csv(workflow.folder / f"{split}.csv", index=False)
    workflow.overlay(OWN)
    workflow.snakemake()
    return workflow


def test_every_table_and_figure_is_made(own):
    tables = own.experiment / "tables"
    assert {*pd.read_csv(tables / "main.csv")["metric"]} == {"micro_f1", "macro_f1", "accuracy", "primary_score"}
    by_class = pd.read_csv(tables / "classes.csv")
    dev = columns(40, 1)
    for label in LABELS:
        assert {*by_class.loc[by_class["class"] == label, "support"]} == {dev[label].sum()}
    behaviour = pd.read_csv(tables / "behaviour.csv")
    assert behaviour["nll"].isna().all()
    assert behaviour.loc[behaviour["row"] == "kd", "agreement"].between(0, 100).all()
    assert "texts may have several" in (tables / "classes.md").read_text()
    for name in ("learning_curves", "teacher_dynamics", "cost"):
        assert (own.experiment / f"figures/{name}.png").stat().st_size > 1000


def test_test_rows_with_labels_are_scored(own):
    found = json.loads(own.metrics("kd", task="feelings").read_text())["splits"]
    assert found["test"]["rows"] == 12
    config = json.loads((own.run("kd", task="feelings") / "model/config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_the_results_verify(own):
    command = [sys.executable, "-m", "rkd", "verify", str(own.experiment)]
    environment = {**os.environ, "PYTHONPATH": str(own.folder)}
    found = subprocess.run(
        command, cwd=own.folder, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert found.returncode == 0, found.stdout + found.stderr
