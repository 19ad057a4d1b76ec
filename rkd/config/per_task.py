"""Checks of the settings of single tasks, in a config that is good otherwise."""

from collections.abc import Iterator, Mapping
from typing import Any

from rkd.config.crosschecks import TRAINABLE_TASKS, crosscheck
from rkd.config.problems import KeyPath, Located, Problem, closest, located, moved
from rkd.config.schema import Config
from rkd.config.variants import on_task


def per_task_problems(config: Config) -> Iterator[Located]:
    """Yield the problems of `per_task` in a config that is good otherwise.

    Tasks may be left out of a run, so that --config 'tasks=[mrpc]' is enough to leave them out; variants may not. What
    a task's settings make of the config is checked as if it stood there, and what is wrong is told where they stand.
    """
    known = [*TRAINABLE_TASKS, *config["custom_tasks"]]
    for task, own in config["per_task"].items():
        place: KeyPath = ("per_task", task)
        if task not in known:
            yield located(place, task, f"one of {', '.join(known)}", closest(task, known))
            continue
        unknown = [name for name in own.get("variants", ()) if name not in config["variants"]]
        for name in unknown:
            names = ", ".join(config["variants"])
            yield located((*place, "variants", name), name, f"one of {names}", closest(name, config["variants"]))
        if not unknown:
            apart = {**on_task(config, task), "tasks": [task], "per_task": {}, "ablations": {}}
            for path, problem in crosscheck(apart, frozenset()).items():
                yield _at_setting(place, own, path, problem)


def _at_setting(place: KeyPath, own: Mapping[str, Any], path: KeyPath, problem: Problem) -> Located:
    """Return a problem of the config of a task, at the path of the setting that caused it."""
    inside: Any = own
    for part in path[: 3 if path[0] == "variants" else 2]:
        if not isinstance(inside, Mapping) or part not in inside:
            return moved(problem, place)
        inside = inside[part]
    return moved(problem, (*place, *path))
