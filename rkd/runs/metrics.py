"""Metrics files, the scores of runs, and the metrics that a run's task has."""

import os
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from rkd.runs.paths import folder_of, located
from rkd.runs.record import spec_of
from rkd.runs.task import DEFINITION, task_of
from rkd.specs.renamed import current
from rkd.utils.json_values import NON_EMPTY, checked, object_schema, read_json

_FRACTION = {"type": ["number", "null"], "minimum": -1, "maximum": 1}
_METRICS = Draft202012Validator(
    object_schema(
        ["task", "variant", "method", "seed", "splits", "primary_score", "synthetic"],
        task=NON_EMPTY,
        variant=NON_EMPTY,
        method=NON_EMPTY,
        seed={"type": "integer"},
        splits={
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["rows"],
                "properties": {"rows": {"type": "integer", "minimum": 1}},
                "additionalProperties": _FRACTION,
            },
        },
        primary_score=_FRACTION,
        synthetic={"type": "boolean"},
        probabilistic={
            "type": "object",
            "additionalProperties": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        },
    )
)


def read_metrics(file: str | Path) -> dict[str, Any]:
    """Return the content of a metrics file; scores are fractions, None where undefined.

    Raises:
        RkdError: the file is missing or no metrics file.

    >>> read_metrics("results/demo/metrics/mrpc/kd-0123456789/seed-1.json")["primary_score"]
    0.8123
    """
    found: dict[str, Any] = checked(_METRICS, current(read_json(file)), str(file))
    return found


def metrics_of(reference: str | os.PathLike[str]) -> list[str]:
    """Return the names of all metrics of the task of a run; an empty list for a reference to something else.

    The spec of a workflow's run on a custom task names the primary metrics only, as its training reads no others. The
    run's metrics file, if it exists, names all.

    Args:
        reference: the run's folder, or its model/.

    Raises:
        RkdError: the run's record or metrics file is damaged.

    >>> metrics_of("results/runs/mrpc/kd-0123456789/seed-1")
    ['accuracy', 'f1']
    """
    if (folder := folder_of(reference)) is None:
        return []
    task = task_of(spec_of(folder), folder.absolute() / "run.json")
    if task.own and (place := located(folder.absolute())) is not None:
        results, run = place
        experiments = [results, *sorted(results.glob("*/metrics"))]
        files = (run.metrics(each.parent if each.name == "metrics" else each) for each in experiments)
        if (file := next(filter(Path.is_file, files), None)) is not None:
            scored = checked(
                object_schema(["custom_task"], custom_task=DEFINITION), current(read_json(file)), str(file)
            )
            return list(scored["custom_task"]["metrics"])
    return list(task.metrics)
