"""Raw texts and labels of a task, from any source."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from rkd import tasks
from rkd.data import files, glue_dir, hub, synthetic
from rkd.errors import RkdError

SOURCES = ("hub", "glue_dir", "synthetic", "files")


def load_raw(
    name: str,
    source: str,
    path: str | Path | None = None,
    revision: str | None = None,
    splits: Sequence[str] | None = None,
    rows: Sequence[int] = synthetic.ROWS,
    seed: int = 0,
    custom_task: Mapping[str, Any] | None = None,
) -> DatasetDict:
    """Return the texts and labels of a task in its official splits: the hub's text columns, `label` and `idx`.

    `label` is an int64 class id (-1 where unlabelled) or a float32 score (NaN where unlabelled). MNLI has the extra
    split `ax`. Row counts are checked against the official ones, except for synthetic data.

    Args:
        name: task name, a key of `rkd.tasks.TASKS` or the name of a custom task.
        source: "hub"; "glue_dir", the official TSV folders in `path`; "synthetic", generated sentences; or "files",
            the user's files, listed in `custom_task`.
        path: the folder that contains `CoLA/`, `SST-2/`, …; required by "glue_dir", refused by the other sources.
        revision: commit of the dataset on the hub, "hub" only; `rkd.data.hub.HUB_REVISION` by default.
        splits: the splits to read; all by default.
        rows: (train, dev, test) rows per file, "synthetic" only.
        seed: seed of the generator, "synthetic" only.
        custom_task: definition and files of a custom task, "files" only; see `rkd.specs.jobs.DataSpec`.

    Raises:
        RkdError: unknown task, source or split; a file that differs from the release; or an unreachable hub.

    >>> load_raw("rte", source="glue_dir", path="glue")["validation"].num_rows
    277
    """
    task = tasks.get(name, custom_task)
    if (source == "files") != (custom_task is not None):
        raise RkdError(f"source: found '{source}'; expected 'files' for a custom task, and only for one")
    names = _split_names(task, splits)
    if (source == "glue_dir") != (path is not None):
        found = "none" if path is None else f"'{path}'"
        raise RkdError(
            f"path: found {found}; the source 'glue_dir' needs one, the others take none (source '{source}')"
        )
    if revision is not None and source != "hub":
        raise RkdError(f"revision: found '{revision}', but only the source 'hub' has revisions (source '{source}')")
    if source == "hub":
        return DatasetDict(hub.read_splits(task, names, revision))
    if source == "glue_dir":
        return DatasetDict({split: glue_dir.read_split(task, split, Path(path or "")) for split in names})
    if source == "files" and custom_task is not None:
        custom = files.read_splits(task, custom_task)
        return DatasetDict({split: custom[split] for split in names})
    if source == "synthetic":
        with tempfile.TemporaryDirectory() as folder:
            synthetic.write(Path(folder), name, rows, seed)
            read = {split: glue_dir.read_split(task, split, Path(folder), official_counts=False) for split in names}
            return DatasetDict(read)
    raise RkdError(f"source: found '{source}'; expected one of {', '.join(SOURCES)}")


def _split_names(task: tasks.Task, splits: Sequence[str] | None) -> tuple[str, ...]:
    unknown = [split for split in splits or () if split not in task.splits]
    if unknown:
        raise RkdError(f"task '{task.name}' has no split '{unknown[0]}'; it has {', '.join(task.splits)}")
    return tuple(task.splits) if splits is None else tuple(splits)
