"""GLUE from the hub is GLUE from the official files: the same texts, labels, order and digests."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from datasets import Dataset

from rkd.data import load_raw, official
from rkd.data.hub import HUB_NAME, HUB_REVISION
from rkd.errors import RkdError
from rkd.tasks import TASKS, Task, get
from tests.hub.repositories import parquet, readme
from tests.hub.server import Hub, Repository

KNOWN = sorted({task for task, _ in official.SHA256})


def as_the_hub_has_it(task: Task, split: str, data: Dataset) -> list[dict]:
    """Rows as in the hub's Parquet files: -1 for no score, answers to MRPC's test set, row numbers of another file."""
    random.seed(0)
    rows = data.to_list()
    for number, row in enumerate(rows):
        row["idx"] = 3 * number if task.name == "mrpc" else number
        if split in task.test_splits:
            row["label"] = number % 2 if task.name == "mrpc" else -1
    return rows


def put(hub: Hub, task: Task, splits: dict[str, Sequence[dict]]) -> None:
    files = {"README.md": readme(task)}
    for split, rows in splits.items():
        folder, name = ("ax", "test") if split == "ax" else (task.name, split)
        files[f"{folder}/{name}-00000-of-00001.parquet"] = parquet(list(rows), task)
    repository = Repository(HUB_NAME, "dataset")
    repository.commit(files, HUB_REVISION)
    hub.add(repository)


@pytest.mark.parametrize("name", KNOWN)
def test_the_hub_and_the_official_files_are_one_data_set(name, here, glue_dir, monkeypatch):
    task = get(name)
    splits = [split for split in task.splits if ("ax" if split == "ax" else name, split) in OFFICIAL]
    files = load_raw(name, "glue_dir", glue_dir, splits=splits)
    put(here, task, {split: as_the_hub_has_it(task, split, files[split]) for split in splits})
    monkeypatch.setattr(official, "SHA256", OFFICIAL)
    hub = load_raw(name, "hub", splits=splits)
    for split in splits:
        assert hub[split].features == files[split].features
        for column in files[split].column_names:
            ours, theirs = hub[split][column][:], files[split][column][:]
            if column == "label" and task.regression and split in task.test_splits:
                assert all(map(math.isnan, [*ours, *theirs]))
            else:
                assert ours == theirs, column


OFFICIAL = dict(official.SHA256)


def test_the_table_of_digests_is_that_of_the_official_files(glue_dir):
    found = {}
    for name, task in TASKS.items():
        for split, file in task.splits.items():
            if (Path(glue_dir) / file.file).is_file() and (name, split) != ("mnli", "ax"):
                data = load_raw(name, "glue_dir", glue_dir, splits=[split])[split]
                found[name, split] = official.content_hash(data, task.text_fields)
    assert found == OFFICIAL


def invented(task: Task, split: str) -> list[dict]:
    """As many rows as the official split has."""
    label = 2.5 if task.regression else 0
    label = -1 if split in task.test_splits else label
    return [
        {**{field: f"{field} {row}" for field in task.text_fields}, "label": label, "idx": row}
        for row in range(task.splits[split].rows)
    ]


def test_mnli_brings_the_diagnostic_set(here, monkeypatch):
    monkeypatch.setattr(official, "SHA256", {})
    task = get("mnli")
    put(here, task, {split: invented(task, split) for split in ("validation_matched", "ax")})
    data = load_raw("mnli", "hub", splits=["validation_matched", "ax"])
    assert {split: rows.num_rows for split, rows in data.items()} == {"validation_matched": 9815, "ax": 1104}
    assert set(data["ax"]["label"]) == {-1}
    assert load_raw("ax", "hub")["ax"].num_rows == 1104


def test_scores_are_numbers_from_0_to_5_and_unknown_in_the_test_set(here, monkeypatch):
    monkeypatch.setattr(official, "SHA256", {})
    task = get("stsb")
    splits = {split: invented(task, split) for split in ("validation", "test")}
    put(here, task, splits)
    data = load_raw("stsb", "hub", splits=list(splits))
    assert data["validation"].column_names == ["sentence1", "sentence2", "label", "idx"]
    assert data["validation"][0]["label"] == 2.5
    assert all(map(math.isnan, data["test"]["label"]))
    assert data["test"].features["idx"].dtype == "int64"


def test_a_score_out_of_range_is_refused(here, monkeypatch):
    monkeypatch.setattr(official, "SHA256", {})
    task = get("stsb")
    rows = invented(task, "validation")
    rows[3]["label"] = 7.0
    put(here, task, {"validation": rows})
    with pytest.raises(RkdError, match=r"stsb, validation\), row 3: found score 7\.0; expected a number from 0 to 5"):
        load_raw("stsb", "hub", splits=["validation"])


def test_another_revision_can_be_named(here):
    [files] = here.repositories["dataset", HUB_NAME].commits.values()
    here.repositories["dataset", HUB_NAME].commit(files, "c" * 40, ref="other")
    assert load_raw("wnli", "hub", revision="other")["validation"].num_rows == 71
    assert any(f"/{'c' * 40}/" in request for request in here.requests)
    assert not any(HUB_REVISION in request for request in here.requests)
