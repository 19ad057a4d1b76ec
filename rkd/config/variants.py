"""The variants of a config: those that it names, and those that its ablations make. Standard library only."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rkd.methods.facts import METHODS
from rkd.specs.jobs import TRAINING_KEYS

Overrides = dict[str, Any]

# Names of variants, axes and tasks: parts of paths, of Snakemake's targets and of its wildcards.
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
NAME_LENGTH = 100

# Settings that are read only while another one has a certain value.
READ_WITH = {
    "held_out_fraction": ("selection", "held-out"),
    **{option: (other, value) for facts in METHODS.values() for option, other, value in facts.read_with},
}


@dataclass(frozen=True)
class Cell:
    """One value on an axis of ablation, and the variant that is trained with it.

    Attributes:
        axis: name of the axis.
        key: where the value stands in the config, below `ablations`: ("values", 0) or ("settings", "no-lookahead").
        value: the parameter's value, or the name of a setting.
        variant: the variant to train; one of the config's own where that has the same settings.
        tasks: tasks that the axis is run on.
    """

    axis: str
    key: tuple[Any, ...]
    value: Any
    variant: str
    tasks: tuple[str, ...]


def resolve(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> Overrides:
    """All that decides how a variant is trained: its method, the settings that the method reads, and its student."""
    settings = {**config["student"], "student_model": config["student_model"], **overrides}
    method = METHODS[overrides["method"]]
    read = ("method", "student_model", *TRAINING_KEYS)
    options = with_defaults(overrides["method"], {key: settings[key] for key in method.options})
    return without_unread({key: settings[key] for key in read} | options)


def with_defaults(method: str, options: Mapping[str, Any]) -> Overrides:
    """Replace null by the method's own default.

    >>> with_defaults("lgtm", {"follow_weight": None})
    {'follow_weight': 0.4}
    """
    defaults = METHODS[method].defaults
    return {key: defaults.get(key) if value is None else value for key, value in options.items()}


def without_unread(settings: Mapping[str, Any]) -> Overrides:
    """Drop the settings that nothing reads because of another setting's value.

    >>> without_unread({"outer_optimizer": "adamw", "outer_step_size": 0.001})
    {'outer_optimizer': 'adamw'}
    """
    unread = {key for key, (other, value) in READ_WITH.items() if settings.get(other, value) != value}
    return {key: value for key, value in settings.items() if key not in unread}


def expand(config: Mapping[str, Any]) -> tuple[dict[str, Overrides], list[Cell]]:
    """Return the variants of a config, including those that its ablations add, and the cells of all axes.

    A cell with the settings of a variant that exists already, named or made by another axis, is that variant: it is
    trained once. An axis of which no task is run has no cells. A name that would be too long, or that other settings
    have, ends with a digest of the value.

    Example:
        >>> variants, cells = expand({**config, "ablations": {"heat": {
        ...     "variant": "kd", "parameter": "temperature", "values": [1.0, 5.0]}}})
        >>> [cell.variant for cell in cells]  # the config's kd has temperature 5
        ['kd.temperature-1.0', 'kd']
    """
    variants: dict[str, Overrides] = {name: dict(overrides) for name, overrides in config["variants"].items()}
    names = {_identity(config, overrides): name for name, overrides in reversed(variants.items())}
    cells = []
    for axis, entry in config["ablations"].items():
        base = config["variants"][entry["variant"]]
        tasks = tuple(task for task in config["tasks"] if task in entry.get("tasks", config["tasks"]))
        if not tasks:
            continue
        for key, value, label, changes in _steps(entry):
            overrides = {**base, **changes}
            identity = _identity(config, overrides)
            if identity not in names:
                name = names[identity] = _free_name(f"{entry['variant']}.{label}", changes, variants)
                variants[name] = overrides
            cells.append(Cell(axis, (axis, *key), value, names[identity], tasks))
    return variants, cells


def _free_name(name: str, changes: Overrides, taken: Mapping[str, Any]) -> str:
    """Return a name that no other variant has, independent of the rest of the config unless the short form is taken."""
    if len(name) <= NAME_LENGTH and name not in taken:
        return name
    digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()
    return next(
        long for end in range(8, 65) if (long := f"{name[: NAME_LENGTH - 1 - end]}-{digest[:end]}") not in taken
    )


def _steps(entry: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], Any, str, Overrides]]:
    """Yield (key, value, name suffix, overrides) for each value of an axis."""
    for index, value in enumerate(entry.get("values", ())):
        label = re.sub(r"[^a-z0-9_.]+", "-", f"{entry['parameter']}-{_text(value)}".lower()).strip("-")
        yield ("values", index), value, label, {entry["parameter"]: value}
    for name, changes in entry.get("settings", {}).items():
        yield ("settings", name), name, name, dict(changes)


def _text(value: Any) -> str:
    """Format a value for a file name: [[1], [0, 3]] becomes 1_0.3."""
    if isinstance(value, list):
        return "_".join(".".join(map(str, group)) if isinstance(group, list) else str(group) for group in value)
    return str(value)


def _identity(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    return json.dumps(resolve(config, overrides), sort_keys=True)
