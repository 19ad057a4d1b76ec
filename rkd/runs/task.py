"""The task that a record, a metrics file or a measurement names and perhaps defines."""

from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.metrics.facts import METRICS
from rkd.tasks import Task, get
from rkd.utils.json_values import NON_EMPTY, TEXTS, object_schema

_METRICS = {"type": "array", "items": {"enum": list(METRICS)}, "minItems": 1}
DEFINITION = object_schema(
    ["text", "label", "labels", "metrics", "primary_metrics", "test"],
    text={**TEXTS, "minItems": 1, "maxItems": 2},
    label={**NON_EMPTY, **TEXTS, "type": ["string", "array"], "minItems": 2},
    labels=TEXTS,
    metrics=_METRICS,
    primary_metrics=_METRICS,
    test={"type": "boolean"},
    title=NON_EMPTY,
)
# The definition of a custom task; null for a task of GLUE.
CUSTOM_TASK = {**DEFINITION, "type": ["object", "null"]}


def task_of(named: dict[str, Any], where: str | Path) -> Task:
    """Return the task that a JSON object names and, for a custom task, defines.

    Args:
        named: an object with the key task and perhaps custom_task.
        where: the file that an error names.

    Raises:
        RkdError: the task is unknown, or its definition is damaged.

    >>> task_of({"task": "mrpc"}, "run.json").title
    'MRPC'
    """
    try:
        return get(named["task"], named.get("custom_task"))
    except RkdError as error:
        raise RkdError(f"{where}: {error}") from None
