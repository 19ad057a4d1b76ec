"""Data: three sources of GLUE, or a user's own files → one tokenised Arrow dataset per task."""

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
    """Load the texts and labels of a task: the hub's column names, `label` and `idx`, official splits.

    `label` is an int64 class id (-1 where unlabelled) or a float32 score (NaN where unlabelled). MNLI has the extra
    split `ax`. Row counts are checked against the official ones, except for synthetic data.

    Args:
        name: task name, a key of `rkd.tasks.TASKS` or a name of one's own.
        source: "hub"; "glue_dir", the official TSV folders in `path`; "synthetic", generated sentences; or "files",
            a user's own, which `custom_task` names.
        path: the folder that holds `CoLA/`, `SST-2/`, …; needed by "glue_dir", refused by the others.
        revision: commit of the hub's dataset, "hub" only; ours by default.
        splits: the splits to read; all by default.
        rows: (train, dev, test) rows per file, "synthetic" only.
        seed: seed of the generator, "synthetic" only.
        custom_task: definition and files of a task of one's own, "files" only; see `rkd.specs.jobs.DataSpec`.

    Raises:
        RkdError: unknown task, source or split, a file that is not as released, hub not reachable.

    >>> load_raw("rte", source="glue_dir", path="glue")["validation"].num_rows
    277
    """
    task = tasks.get(name, custom_task)
    if (source == "files") != (custom_task is not None):
        raise RkdError(f"source: found '{source}'; a task of one's own is read by 'files', and no other by it")
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
        own = files.read_splits(task, custom_task)
        return DatasetDict({split: own[split] for split in names})
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
