"""The prepared data that a run was trained on, if they are still there."""

from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.runs.manifest import read_manifest
from rkd.runs.prepared import STUDENT, read_unchanged


def data_of(run: Path, task: str, sha256: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the folder and the manifest of a run's data; None if they are gone or were replaced.

    Args:
        run: the run's folder, of a distillation or in a folder of results.
        task: the task's name.
        sha256: of the data, from the run's record.
    """
    results = [parent / "data" for parent in run.absolute().parents[:4]]
    places = [run.parent / "data", *(each / task for each in results)]  # the latter are of earlier versions
    for folder in (*places, *(found for each in results for found in sorted(each.glob(f"{task}-*")))):
        if (file := folder / "manifest.json").is_file():
            found = read_manifest(file)
            if (found["task"], found["sha256"]) == (task, sha256):
                return folder, found
    return None


def dev_rows(run: Path, task: str, sha256: str, split: str, *, own_tokens: bool) -> Any:
    """Return a split of a run's data, a `datasets.Dataset` with tokens, label and idx.

    Args:
        run, task, sha256: as `data_of`.
        split: the name of the split.
        own_tokens: take the tokens of students with a vocabulary of their own.

    Raises:
        RkdError: the data are gone or have changed.
    """
    from datasets import DatasetDict, load_from_disk

    if (found := data_of(run, task, sha256)) is None:
        raise RkdError(
            f"{run}: found no data with the sha256 {sha256}; expected those that it was trained on, to score the int8 "
            "model: export without --quantize"
        )
    read_unchanged(found[0])
    splits = load_from_disk(str(found[0] / "dataset"))
    assert isinstance(splits, DatasetDict)
    rows = splits[split]
    if not own_tokens:
        return rows
    own = [name for name in rows.column_names if name.startswith(STUDENT)]
    return rows.select_columns([*own, "label", "idx"]).rename_columns(
        {name: name.removeprefix(STUDENT) for name in own}
    )
