"""GLUE from the Hugging Face hub, pinned to one revision of `nyu-mll/glue`."""

import math
from collections.abc import Sequence

import datasets
from datasets import Dataset
from datasets.exceptions import DatasetsError

from rkd.data.glue_dir import features
from rkd.errors import RkdError
from rkd.tasks import Task

HUB_NAME = "nyu-mll/glue"
HUB_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


def read_splits(task: Task, splits: Sequence[str], revision: str | None = None) -> dict[str, Dataset]:
    """The named splits of `task` at `revision` (a commit of the hub's dataset; ours by default).

    Raises `RkdError` when the hub cannot be reached, or a split has not the official number of rows.
    """
    revision = revision or HUB_REVISION
    main = _load(task.name, revision) if any(split != "ax" for split in splits) else {}
    ax = _load("ax", revision) if "ax" in splits else {}
    return {split: _checked(task, split, ax["test"] if split == "ax" else main[split]) for split in splits}


def _load(config: str, revision: str) -> datasets.DatasetDict:
    try:
        return datasets.load_dataset(HUB_NAME, config, revision=revision)
    except (OSError, ValueError, DatasetsError) as error:
        # `datasets` raises ConnectionError or FileNotFoundError for the network, ValueError for an
        # incomplete cache, DatasetGenerationError for a download that breaks off.
        raise RkdError(
            f"{HUB_NAME} ({config}, revision {revision}) could not be loaded from the hub: {error}. "
            "Without a network, use the official GLUE folders: source 'glue_dir' with the path of the folder that "
            "holds CoLA, SST-2, …"
        ) from error


def _checked(task: Task, split: str, data: Dataset) -> Dataset:
    expected = task.splits[split].rows
    if data.num_rows != expected:
        raise RkdError(f"{HUB_NAME} ({task.name}, {split}): found {data.num_rows} rows, expected {expected}")
    columns = features(task)
    data = data.select_columns(list(columns)).cast(columns)
    if task.regression and split in task.test_splits:  # the hub writes -1 for "no score"
        data = data.remove_columns("label").add_column("label", [math.nan] * expected, feature=columns["label"])
    return data.select_columns(list(columns))
