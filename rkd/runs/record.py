"""run.json, the record of a run, and the files that it lists."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.runs.paths import folder_of
from rkd.runs.task import CUSTOM_TASK
from rkd.specs.renamed import current
from rkd.utils.files import digests
from rkd.utils.json_values import NON_EMPTY, WORD, checked, object_schema, read_json

log = logging.getLogger("rkd")

# What a training leaves in its run's folder, beside run.json.
OUTPUTS = ("model", "predictions.parquet", "logits.parquet", "history.jsonl")

_DIGESTS = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}
_SPEC = object_schema(
    ["task", "seed", "method", "model", "training", "options"],
    task=WORD,
    variant=WORD,
    method=WORD,
    seed={"type": "integer"},
    model=object_schema(source=NON_EMPTY),
    training={"type": "object"},
    options={"type": "object"},
    custom_task=CUSTOM_TASK,
)
# Records of earlier versions lack some of these keys; `read_record` is told which ones its caller needs.
_RECORD = object_schema(
    [],
    spec=_SPEC,
    data=object_schema(["sha256"], sha256=NON_EMPTY, source={"type": ["string", "null"]}, files=_DIGESTS),
    teacher=_DIGESTS,
    inputs={
        "type": ["object", "null"],
        "properties": {
            "learns_from": object_schema(
                ["teachers", "entropy_of"],
                teachers={"type": "array", "minItems": 1, "items": {"type": "string"}},
                entropy_of={"type": ["string", "null"]},
            )
        },
        "additionalProperties": {"type": ["string", "null"]},
    },
    code=_DIGESTS,
    outputs=_DIGESTS,
    parameters=object_schema(["total"], total={"type": "integer", "minimum": 1}),
    packages={"type": "object", "additionalProperties": {"type": "string"}},
    git=object_schema([], commit={"type": "string"}, dirty={"type": "boolean"}),
    python=NON_EMPTY,
    processor=NON_EMPTY,
    gpu=NON_EMPTY,
    device=NON_EMPTY,
    threads={"type": "integer", "minimum": 1},
    started=NON_EMPTY,
    seconds={"type": "number"},
)


def read_record(file: str | Path, *needed: str) -> dict[str, Any]:
    """Read a run.json.

    Args:
        file: its path.
        needed: the keys that must be there, for example "spec" or "packages/torch".

    Returns:
        Its content with today's keys. All known keys that are there have the right types.

    Raises:
        RkdError: the file is missing, no JSON object, or lacks one of the keys.

    >>> read_record("results/runs/mrpc/kd-0123456789/seed-1/run.json", "spec")["spec"]["method"]
    'kd'
    """
    record: dict[str, Any] = checked(_RECORD, current(read_json(file)), str(file))
    for path in needed:
        place: Any = record
        for key in path.split("/"):
            if not isinstance(place, dict) or key not in place:
                raise RkdError(f"{file}: the key '{path}' is missing; expected the record of a run")
            place = place[key]
    return record


def spec_of(reference: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the spec of a run; empty for a reference to something else.

    Args:
        reference: the run's folder, or its model/.

    Raises:
        RkdError: the run's record is damaged.
    """
    folder = folder_of(reference)
    return {} if folder is None else dict(read_record(folder / "run.json", "spec")["spec"])


def unchanged(reference: str | os.PathLike[str], *parts: str) -> dict[str, Any]:
    """Return the record of a run whose files are as its training left them.

    Records of earlier versions do not list their files; those runs are used with a warning.

    Args:
        reference: the run's folder, or its model/.
        parts: files and folders in the run's folder, for example "model".

    Returns:
        What run.json holds, with a spec; empty where the reference is of no run.

    Raises:
        RkdError: the record is damaged, or a file has another content, is missing or is not listed.

    >>> unchanged("distilled/student", "model")["spec"]["method"]
    'reptile'
    """
    folder = folder_of(reference)
    if folder is None:
        return {}
    file = folder / "run.json"
    record = read_record(file, "spec")
    if (outputs := record.get("outputs")) is None:
        log.warning("%s: lists no SHA-256 of its files, as those of earlier versions; they are used unchecked", file)
    elif problem := next(changes(folder, outputs, *parts), None):
        raise RkdError(f"{problem}; expected the run as its training left it")
    return record


def changes(folder: Path, outputs: Mapping[str, str], *parts: str) -> Iterator[str]:
    """Yield what has changed in a run's folder since its record was written, one sentence per file.

    Hidden files do not count: other programs leave theirs.

    Args:
        folder: the run's folder.
        outputs: SHA-256 by path in the folder, as in run.json.
        parts: the files and folders to look at.

    >>> list(changes(Path("distilled/student"), outputs, "model", "history.jsonl"))
    []
    """
    try:
        found = digests(folder, *parts)
    except OSError as error:
        yield f"{error.filename or folder}: cannot be read: {error.strerror or error}"
        return
    for name, expected in outputs.items():
        if name.split("/")[0] not in parts:
            continue
        if name not in found:
            yield f"{folder / name}: missing; run.json lists it"
        elif found[name] != expected:
            yield f"{folder / name}: sha256 is {found[name]}; run.json records {expected}"
    for name in found:
        if name not in outputs and not any(part.startswith(".") for part in name.split("/")):
            yield f"{folder / name}: run.json does not list it"
