"""The variants of a config: those that it names, and those that its ablations make. Standard library only."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rkd.methods.facts import METHODS
from rkd.specs.jobs import OFF_BY_NULL, TRAINING_KEYS

Overrides = dict[str, Any]

# Names of variants, axes and tasks: parts of paths, of Snakemake's targets and of its wildcards.
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
NAME_LENGTH = 100

# Settings that are read only while another one has one of certain values.
READ_WITH: dict[str, tuple[str, tuple[Any, ...]]] = {
    "held_out_fraction": ("selection", ("held-out", "held-out-loss")),
    "patience": ("selection", ("best", "held-out", "held-out-loss")),
    **{option: (other, (value,)) for facts in METHODS.values() for option, other, value in facts.read_with},
}


@dataclass(frozen=True)
class Cell:
    """One value on an axis of ablation, and the variant that is trained with it.

    Attributes:
        axis: name of the axis.
        key: where the value stands in the config, below `ablations`: ("values", 0), ("parameters",) or
            ("settings", "no-lookahead").
        value: the parameter's value, the values of two parameters, or the name of a setting.
        variant: the variant to train; one of the config's own where that has the same settings.
        tasks: tasks that the axis is run on.
    """

    axis: str
    key: tuple[Any, ...]
    value: Any
    variant: str
    tasks: tuple[str, ...]


class Variants(NamedTuple):
    """The variants of a config and the cells of its axes of ablation.

    Attributes:
        overrides: by name the method of each variant and its overrides of the section student, on tasks without
            settings of their own.
        cells: the cells of all axes.
        made: by name of a variant that an axis made, the variant that it changes and the changes.
    """

    overrides: dict[str, Overrides]
    cells: list[Cell]
    made: dict[str, tuple[str, Overrides]]

    def on(self, config: Mapping[str, Any]) -> dict[str, Overrides]:
        """Return the overrides by name in the config of one task, from `on_task`."""
        own = config["variants"]
        return {
            name: changed(own[self.made[name][0]], self.made[name][1]) if name in self.made else own[name]
            for name in self.overrides
        }


def on_task(config: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """Return the config with the settings of a task in place of the general ones.

    A variant's overrides go before those of the section student, also before those for the task.

    >>> on_task({**config, "per_task": {"rte": {"student": {"epochs": 9}}}}, "rte")["student"]["epochs"]
    9
    """
    own = config.get("per_task", {}).get(task)
    if not own:
        return config
    variants = own.get("variants", {})
    return {
        **config,
        "teacher": {**config["teacher"], **own.get("teacher", {})},
        "student": {**config["student"], **own.get("student", {})},
        "variants": {name: {**entry, **variants.get(name, {})} for name, entry in config["variants"].items()},
    }


def changed(overrides: Mapping[str, Any], changes: Mapping[str, Any]) -> Overrides:
    """Return overrides with changes to them, without the title; those of the teacher are joined."""
    teacher = {**overrides.get("teacher", {}), **changes.get("teacher", {})}
    found = {**overrides, **changes, **({"teacher": teacher} if teacher else {})}
    return {key: value for key, value in found.items() if key != "title"}


def teacher_settings(config: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Overrides:
    """Return the settings of the fine-tuning of the teacher, or of the one that a variant learns from."""
    return without_unread({**config["teacher"], **(overrides or {}).get("teacher", {})})


def resolve(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> Overrides:
    """All that decides how a variant is trained: its method, the settings that the method reads, its models' too."""
    settings = {**config["student"], "student_model": config["student_model"], **overrides}
    method = METHODS[overrides["method"]]
    read = ("method", "student_model", *TRAINING_KEYS)
    options = with_defaults(overrides["method"], {key: settings[key] for key in method.options})
    found = without_unread({key: settings[key] for key in read} | options)
    return found | ({"teacher": teacher_settings(config, overrides)} if method.needs_teacher else {})


def with_defaults(method: str, options: Mapping[str, Any]) -> Overrides:
    """Replace null by the method's own default.

    >>> with_defaults("lgtm", {"follow_weight": None})
    {'follow_weight': 0.4}
    """
    defaults = METHODS[method].defaults
    return {key: defaults.get(key) if value is None else value for key, value in options.items()}


def without_unread(settings: Mapping[str, Any]) -> Overrides:
    """Drop the settings that are off, and those that nothing reads because of another setting's value.

    >>> without_unread({"outer_optimizer": "adamw", "outer_step_size": 0.001})
    {'outer_optimizer': 'adamw'}
    """
    unread = {key for key, (other, values) in READ_WITH.items() if settings.get(other, values[0]) not in values}
    off = {key for key in OFF_BY_NULL if settings.get(key) is None}
    return {key: value for key, value in settings.items() if key not in unread | off}


def expand(config: Mapping[str, Any]) -> Variants:
    """Return the variants of a config, including those that its ablations add, and the cells of all axes.

    A cell that has the settings of a variant that exists already, named or made by another axis, on the tasks of its
    axis is that variant: it is trained once. An axis of which no task is run has no cells. A name that would be too
    long, or that other settings have, ends with a digest of the value.

    Example:
        >>> found = expand({**config, "ablations": {"heat": {
        ...     "variant": "kd", "parameter": "temperature", "values": [1.0, 5.0]}}})
        >>> [cell.variant for cell in found.cells]  # the config's kd has temperature 5
        ['kd.temperature-1.0', 'kd']
    """
    variants: dict[str, Overrides] = {name: dict(overrides) for name, overrides in config["variants"].items()}
    configs = {task: on_task(config, task) for task in config["tasks"]}
    known = {name: _identities(configs, name, {}) for name in variants}
    cells, made = [], {}
    for axis, entry in config["ablations"].items():
        base = config["variants"][entry["variant"]]
        tasks = tuple(task for task in config["tasks"] if task in entry.get("tasks", config["tasks"]))
        if not tasks:
            continue
        for key, value, label, changes in _steps(entry):
            wanted = _identities(configs, entry["variant"], changes)
            same = (name for name, found in known.items() if all(found[task] == wanted[task] for task in tasks))
            if (name := next(same, None)) is None:
                name = _free_name(f"{entry['variant']}.{label}", changes, variants)
                known[name], variants[name], made[name] = wanted, changed(base, changes), (entry["variant"], changes)
            cells.append(Cell(axis, (axis, *key), value, name, tasks))
    return Variants(variants, cells, made)


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
        yield ("values", index), value, _label(entry["parameter"], value), override(entry["parameter"], value)
    if parameters := entry.get("parameters"):
        (first, ones), (second, others) = parameters.items()
        for one, other in itertools.product(ones, others):
            changes = changed(override(first, one), override(second, other))
            yield ("parameters",), [one, other], f"{_label(first, one)}.{_label(second, other)}", changes
    for name, changes in entry.get("settings", {}).items():
        yield ("settings", name), name, name, dict(changes)


def override(parameter: str, value: Any) -> Overrides:
    """Return the override of a parameter of an axis.

    >>> override("teacher.epochs", 6)
    {'teacher': {'epochs': 6}}
    """
    section, _, key = parameter.rpartition(".")
    return {section: {key: value}} if section == "teacher" else {parameter: value}


def _label(parameter: str, value: Any) -> str:
    return re.sub(r"[^a-z0-9_.]+", "-", f"{parameter}-{_text(value)}".lower()).strip("-")


def _text(value: Any) -> str:
    """Format a value for a file name: [[1], [0, 3]] becomes 1_0.3."""
    if isinstance(value, list):
        return "_".join(".".join(map(str, group)) if isinstance(group, list) else str(group) for group in value)
    return str(value)


def _identities(configs: Mapping[str, Mapping[str, Any]], variant: str, changes: Overrides) -> dict[str, str]:
    """Return what decides how a variant with changes is trained, by task; tasks may share a config."""
    found: dict[int, str] = {}
    for config in configs.values():
        if id(config) not in found:
            settings = resolve(config, changed(config["variants"][variant], changes))
            found[id(config)] = json.dumps(settings, sort_keys=True)
    return {task: found[id(config)] for task, config in configs.items()}
