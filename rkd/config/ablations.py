"""Checks of the ablations of a config that is good otherwise."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rkd.config.crosschecks import TRAINABLE_TASKS, crosscheck
from rkd.config.names import name_problems
from rkd.config.problems import KeyPath, Located, Problem, Renamed, closest, located, moved, path_text
from rkd.config.schema import (
    Config,
    axis_keys,
    distillation_options,
    renamed_key,
    schema_problems,
    variant_keys,
    with_number_types,
)
from rkd.config.teachers import source_problems
from rkd.config.variants import READ_WITH, Cell, expand, without_unread
from rkd.methods.facts import METHODS


def ablation_problems(config: Config) -> dict[KeyPath, Problem]:
    """Problems of the ablations of a config that is good otherwise.

    The variants that they make are checked as if they stood in the config, and what is wrong is told where their
    values stand.
    """
    problems: dict[KeyPath, Problem] = dict(_axis_problems(config))
    if problems:
        return problems
    config = with_number_types(config)
    variants, cells, _ = expand(config)
    for path, problem in _repeated_cells(cells):
        problems.setdefault(path, problem)
    made = {**config, "variants": variants, "ablations": {}}
    for path, problem in schema_problems(made).items():
        problems.setdefault(path, problem)
    for path, problem in crosscheck(made, frozenset(problems)).items():
        problems.setdefault(path, problem)
    own = {cell.variant: cell.tasks for cell in reversed(cells) if cell.variant not in config["variants"]}
    if not problems:
        problems = dict(source_problems(config, variants, own))
    where = {cell.variant: ("ablations", *cell.key) for cell in reversed(cells)}
    return dict(_at_value(path, problem, where) for path, problem in problems.items())


def _at_value(path: KeyPath, problem: Problem, where: Mapping[str, KeyPath]) -> Located:
    """Return a problem of a variant that an ablation made, at the path of the ablation's value."""
    if path[0] != "variants" or path[1] not in where:
        return path, problem
    return moved(problem, where[path[1]])


def _repeated_cells(cells: Iterable[Cell]) -> Iterator[Located]:
    """Values of an axis that make the same run as one before them."""
    first: dict[tuple[str, str], KeyPath] = {}
    for cell in cells:
        path = ("ablations", *cell.key)
        other = first.setdefault((cell.axis, cell.variant), path)
        if other != path:
            found = f"the same run as {path_text(other)}"
            yield path, Problem(path_text(path), found, "a value that makes another run")


def _axis_problems(config: Config) -> Iterator[Located]:
    variants = config["variants"]
    for name, axis in config["ablations"].items():
        path: KeyPath = ("ablations", name)
        # Snakemake's targets: ablation_NAME of an axis, and TASK_all of a task.
        target, taken = f"ablation_{name}", [f"{task}_all" for task in config["tasks"]]
        yield from name_problems(path, {name: f"the target {target} of a task"} if target in taken else {})
        if axis["variant"] not in variants:
            hint = closest(axis["variant"], variants)
            yield located((*path, "variant"), axis["variant"], f"one of {', '.join(variants)}", hint)
        forms = [key for key in ("parameter", "values", "parameters", "settings") if key in axis]
        if forms not in (["parameter", "values"], ["parameters"], ["settings"]):
            expected = "either parameter and values, or parameters, or settings"
            yield path, Problem(path_text(path), ", ".join(forms) or "none of them", expected)
        elif axis["variant"] in variants:
            overrides = variants[axis["variant"]]
            for key, values, place in _parameters(axis, path):
                for index, value in enumerate(values):
                    at_key = (*path, "parameter") if "parameter" in axis else place
                    yield from _change_problems(config, overrides, {key: value}, key, at_key, (*place, index))
            for setting, changes in axis.get("settings", {}).items():
                place = (*path, "settings", setting)
                yield from name_problems(place, {})
                for key in changes:
                    yield from _change_problems(config, overrides, changes, key, (*place, key), (*place, key))
        # An axis may name tasks that this run leaves out, so that --config 'tasks=[mrpc]' is enough to leave them out.
        known = [*TRAINABLE_TASKS, *config.get("custom_tasks", ())]
        for index, task in enumerate(axis.get("tasks", ())):
            if task not in known:
                yield located((*path, "tasks", index), task, f"one of {', '.join(known)}", closest(task, known))


def _parameters(axis: Config, path: KeyPath) -> Iterator[tuple[str, list[Any], KeyPath]]:
    """Yield the parameters of an axis, each with its values and their place."""
    if "values" in axis:
        yield axis["parameter"], axis["values"], (*path, "values")
    for key, values in axis.get("parameters", {}).items():
        yield key, values, (*path, "parameters", key)


def _change_problems(
    config: Config,
    overrides: Mapping[str, Any],
    changes: Mapping[str, Any],
    key: str,
    at_key: KeyPath,
    at_value: KeyPath,
) -> Iterator[Located]:
    """Yield the problems of one of the changes that a value of an axis makes.

    These are a parameter that no variant has, one that nothing would read, so that its values would all be one run,
    and a value that is none of the parameter's.

    Args:
        changes: all overrides of the value.
        key: the one that is checked.
        at_key, at_value: where the parameter and its value stand.
    """
    method, rules = overrides["method"], {**variant_keys(), **axis_keys()}
    if at_key != at_value:  # a parameter, with values of its own
        del rules["teacher"]
    section, _, inner = key.rpartition(".")
    if section == "teacher" and key in rules:
        whole, inner_key = {**config["teacher"], **overrides.get("teacher", {}), inner: changes[key]}, inner
    else:
        whole, inner_key = {**config["student"], **overrides, **changes}, key
    value = changes[key]
    if today := renamed_key(key, value, rules):
        yield at_key, Renamed(path_text(at_key), "renamed" if at_key == at_value else f"{key} is renamed", today)
    elif key not in rules:
        yield located(at_key, key, f"one of {', '.join(rules)}", closest(key, rules))
    elif (section or key) == "teacher" and not METHODS[method].needs_teacher:
        yield located(at_key, key, f"another key: method {method} learns from no teacher")
    elif key in distillation_options() and key not in METHODS[method].options:
        reads = ", ".join(METHODS[method].options) or "no distillation option"
        yield located(at_key, key, f"another key: method {method} reads {reads}")
    elif value is not None and inner_key not in without_unread(whole):
        other, values = READ_WITH[inner_key]
        needed = " or ".join(map(str, values))
        expected = f"another key: {key} is read with {other} {needed} alone, here {other} is {whole[other]}"
        yield located(at_key, key, expected)
    else:
        for inside, problem in schema_problems(value, rules[key]).items():
            yield moved(problem, (*at_value, *inside))
