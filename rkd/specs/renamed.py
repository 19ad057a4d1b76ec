"""Keys that were renamed: what configs are told, and how files of earlier versions are read."""

from collections.abc import Mapping
from typing import Any

# The earlier name of a key and today's.
RENAMED = {
    "batch_order": "group_by_length",
    "dev_share": "dev_fraction",
    "headline": "primary_metrics",
    "held_out_share": "held_out_fraction",
    "intermediate_share": "intermediate_fraction",
    "own_task": "custom_task",
    "own_tasks": "custom_tasks",
    "partial": "report_only",
    "pull_direction": "outer_direction",
    "pull_scope": "outer_scope",
    "pull_to": "outer_target",
    "quiz_share": "quiz_fraction",
}


def current(value: Any) -> Any:
    """JSON content with today's keys in place of those of earlier versions.

    >>> current({"headline": 0.8, "spec": {"training": {"batch_order": "random"}}})
    {'primary_score': 0.8, 'spec': {'training': {'group_by_length': False}}}
    """
    if isinstance(value, list):
        return [current(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    return dict(_current(key, item) for key, item in value.items())


def _current(key: str, value: Any) -> tuple[str, Any]:
    if key == "headline" and not isinstance(value, list):  # a number in metrics and histories, a list in definitions
        return "primary_score", value
    return successor(key, current(value))


def successor(key: str, value: Any) -> tuple[str, Any]:
    """Today's form of a key and its value.

    >>> successor("batch_order", "length-grouped"), successor("partial", True)
    (('group_by_length', True), ('report_only', True))
    """
    if key == "batch_order":
        return "group_by_length", value == "length-grouped"
    return RENAMED.get(key, key), value
