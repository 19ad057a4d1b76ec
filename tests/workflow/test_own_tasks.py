"""The workflow on a user's own files: two texts with named labels from CSV, and scores from JSON Lines."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import TIMEOUT
from tests.workflow.conftest import TINY, Workflow

QUEUES = ("billing", "technical", "other")
WORDS = {"billing": "invoice", "technical": "crash", "other": "hello"}


def tickets(rows: int, seed: int) -> pd.DataFrame:
    rng = random.Random(seed)
    queues = [rng.choice(QUEUES) for _ in range(rows)]
    return pd.DataFrame(
        {
            "id": range(rows),
            "subject": [f'about "{WORDS[queue]}", please' for queue in queues],
            "body": [f"line {n}\nthank you" for n in range(rows)],
            "queue": queues,
        }
    )


def stars(rows: int) -> list[dict]:
    rng = random.Random(3)
    return [{"review": "good " * score + "film", "stars": score} for score in (rng.randint(1, 5) for _ in range(rows))]


TRACKER = "tensorboard" if importlib.util.find_spec("tensorboard") else "none"
OWN = {
    **TINY,
    "tasks": ["support-tickets", "stars"],
    "tracker": TRACKER,
    "variants": {"no-lookahead": None, "finetune": None},
    "custom_tasks": {
        "support-tickets": {
            "title": "Tickets",
            "train": "data/train.csv",
            "dev": "data/dev.csv",
            "test": "data/test.csv",
            "text": ["subject", "body"],
            "label": "queue",
            "labels": list(QUEUES),
            "metrics": ["accuracy", "macro_f1"],
            "primary_metrics": ["macro_f1"],
        },
        "stars": {
            "train": "data/stars.jsonl",
            "dev_fraction": 0.25,
            "text": ["review"],
            "label": "stars",
            "scores": [1, 5],
        },
    },
}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Workflow:
    """A workflow that has run to its end on two tasks of a user's own."""
    workflow = Workflow(tmp_path_factory.mktemp("own"))
    data = workflow.folder / "data"
    data.mkdir()
    for seed, (split, rows) in enumerate({"train": 96, "dev": 30, "test": 12}.items()):
        tickets(rows, seed).to_csv(data / f"{split}.csv", index=False)
    (data / "stars.jsonl").write_text("\n".join(map(json.dumps, stars(100))) + "\n")
    workflow.overlay(OWN)
    workflow.snakemake()
    return workflow


def test_the_whole_chain(own):
    results = own.experiment
    table = pd.read_csv(results / "tables/main.csv")
    assert set(table["row"]) == {"teacher", "kd", "reptile"}
    assert set(table.loc[table["task"] == "support-tickets", "metric"]) == {"accuracy", "macro_f1", "primary_score"}
    assert set(table.loc[table["task"] == "stars", "metric"]) == {"pearson", "spearmanr", "primary_score"}
    text = (results / "tables/main.md").read_text()
    assert "Dev scores (×100) on Tickets, stars (custom data, not GLUE)." in text
    assert "Tickets" in text
    assert "Macro-F1" in text
    assert "synthetic" not in text.lower()
    for name in ("learning_curves", "teacher_dynamics", "cost"):
        assert (results / f"figures/{name}.png").stat().st_size > 1000
    assert (results / "tables/comparisons.csv").read_text().count("average") == 1


def test_predictions_and_metrics_are_of_the_user_s_rows(own):
    frame = pd.read_parquet(own.run("kd", task="support-tickets") / "predictions.parquet")
    for split, file in {"validation": "dev", "test": "test"}.items():
        rows = frame[frame["split"] == split].sort_values("idx")
        truth = pd.read_csv(own.folder / f"data/{file}.csv")["queue"]
        assert [QUEUES[int(label)] for label in rows["label"]] == list(truth)
    found = json.loads(own.metrics("kd", task="support-tickets").read_text())
    test = frame[frame["split"] == "test"]
    assert found["splits"]["test"]["accuracy"] == pytest.approx((test["label"] == test["prediction"]).mean())
    assert found["primary_score"] == found["splits"]["validation"]["macro_f1"]
    dev = pd.read_parquet(own.run("kd", task="stars") / "predictions.parquet")
    assert sorted(dev["split"]) == ["validation"] * 25
    assert list(dev.sort_values("idx")["label"]) == [stars(100)[n]["stars"] for n in sorted(dev["idx"])]


def test_the_results_verify(own):
    results = own.experiment
    command = [sys.executable, "-m", "rkd", "verify", str(results)]
    environment = {**os.environ, "PYTHONPATH": str(own.folder)}
    found = subprocess.run(
        command, cwd=own.folder, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "no mismatch" in found.stdout


@pytest.mark.skipif(TRACKER == "none", reason="needs the extra tensorboard")
def test_tensorboard_gets_every_training_and_is_no_reason_to_train(own):
    tracker = own.experiment / "tracker"
    for task in OWN["tasks"]:
        for variant in ("teacher", "kd", "reptile"):
            assert len(list((tracker / task).glob(f"{variant}-*/seed-1/events/events.out.*"))) == 1
    own.overlay({**OWN, "tracker": "none"})
    planned = own.planned()
    own.overlay(OWN)
    assert not {"prepare_data", "finetune_teacher", "train_student", "compute_metrics"} & planned.keys(), planned


def test_the_model_knows_the_labels(own):
    config = json.loads((own.run("kd", task="support-tickets") / "model/config.json").read_text())
    assert config["id2label"] == {str(index): queue for index, queue in enumerate(QUEUES)}


def test_the_manifest_says_what_decided_the_data(own):
    manifest = json.loads(next((own.folder / "results/data").glob("stars-*/manifest.json")).read_text())
    assert manifest["custom_task"]["files"]["train"]["path"] == "data/stars.jsonl"
    assert len(manifest["custom_task"]["files"]["train"]["sha256"]) == 64
    assert (manifest["custom_task"]["dev_fraction"], manifest["custom_task"]["dev_seed"]) == (0.25, 0)
    assert {name: split["rows"] for name, split in manifest["splits"].items()} == {"train": 75, "validation": 25}
    assert manifest["synthetic"] is False


def test_touched_files_are_no_change_and_edited_ones_are(own):
    file = own.folder / "data/dev.csv"
    file.touch()
    assert own.planned() == {}
    text = file.read_text()
    file.write_text(text.replace("thank you", "thanks"))
    planned = own.planned()
    file.write_text(text)
    assert (planned["prepare_data"], planned["finetune_teacher"], planned["train_student"]) == (1, 1, 2)
    assert own.planned() == {}


def test_a_copied_file_and_another_device_run_nothing_and_no_page_again(own):
    (own.folder / "elsewhere").mkdir()
    tasks = {name: dict(task) for name, task in OWN["custom_tasks"].items()}
    for task in tasks.values():
        for split in {"train", "dev", "test"} & task.keys():
            (own.folder / "elsewhere" / Path(task[split]).name).write_bytes((own.folder / task[split]).read_bytes())
            task[split] = f"elsewhere/{Path(task[split]).name}"
    own.overlay(
        {**OWN, "custom_tasks": tasks, "threads": 2, "device": "cpu", "checkpoint_minutes": 1, "jobs_per_gpu": 2}
    )
    planned = own.planned()
    own.overlay(OWN)
    assert planned == {}


def test_an_edited_template_renders_all_tables_and_the_page_again(own):
    file = own.folder / "rkd/report/templates/page.css"
    text = file.read_text()
    file.write_text(text + "td { color: red }\n")
    planned = own.planned()
    file.write_text(text)
    assert {"main_table", "comparisons", "selection_table", "provenance_table", "report"} <= planned.keys()
    assert not {"prepare_data", "finetune_teacher", "train_student", "compute_metrics"} & planned.keys()
    assert own.planned() == {}


def test_a_comparison_on_test_scores_anew_and_trains_nothing(own):
    tasks = OWN["custom_tasks"]
    own.overlay(
        {**OWN, "custom_tasks": {**tasks, "support-tickets": {**tasks["support-tickets"], "compare_on": "test"}}}
    )
    planned = own.planned()
    assert not {"prepare_data", "finetune_teacher", "train_student"} & planned.keys()
    own.snakemake()
    main = pd.read_csv(own.experiment / "tables/main.csv")
    text = (own.experiment / "tables/comparisons.md").read_text()
    own.overlay(OWN)
    own.snakemake()
    frame = pd.read_parquet(own.run("kd", task="support-tickets") / "predictions.parquet")
    rows = frame[frame["split"] == "test"]
    accuracy = 100 * (rows["label"] == rows["prediction"]).mean()
    found = main[(main["row"] == "kd") & (main["task"] == "support-tickets") & (main["metric"] == "accuracy")]
    assert found["mean"].to_list() == pytest.approx([accuracy])
    assert "Differences of dev or test primary scores (×100) between variants" in text
    assert "on Tickets (test), stars (dev) (custom data, not GLUE)" in text
    assert own.planned() == {}


def test_a_bad_row_ends_before_any_training(own):
    file = own.folder / "data/train.csv"
    text = file.read_text()
    file.write_text(text + '96,"hello","nothing","sales"\n')
    output = own.snakemake(check=False)
    file.write_text(text)
    expected = "data/train.csv, row 97, column 'queue': found 'sales'; expected one of the labels billing, technical"
    assert expected in output
    assert "finetune_teacher" not in output.split("Job stats:")[1].split("total")[1]
