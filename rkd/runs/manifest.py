"""manifest.json, the description of a prepared task. Its files are not read; see `rkd.runs.prepared`."""

from pathlib import Path
from typing import Any

from rkd.specs.renamed import current
from rkd.utils.json_values import NON_EMPTY, WORD, checked, object_schema, read_json

_MANIFEST = object_schema(
    ["task", "splits", "sha256"],
    task=WORD,
    sha256=NON_EMPTY,
    splits={
        "type": "object",
        "required": ["train"],
        "additionalProperties": object_schema(["rows"], rows={"type": "integer", "minimum": 1}),
    },
    max_length={"type": "integer", "minimum": 1},
    synthetic={"type": "boolean"},
    custom_task={"type": "object", "properties": {"dev_fraction": {"type": "number"}, "dev_seed": {"type": "integer"}}},
)


def read_manifest(file: str | Path) -> dict[str, Any]:
    """Read the manifest.json of a prepared task.

    Raises:
        RkdError: the file is missing or no manifest.
    """
    manifest: dict[str, Any] = checked(_MANIFEST, current(read_json(file)), str(file))
    return manifest
