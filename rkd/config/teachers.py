"""Sources of the teacher of a variant, and their problems. Standard library only.

By default a variant learns from the fine-tuned teacher of its task and seed. In its section `teacher`, it can override
settings of that teacher's fine-tuning, or name another source:

| key                | the teacher is                                                                              |
|--------------------|---------------------------------------------------------------------------------------------|
| `from`             | the one that the run of another variant, of the same task and seed, ended with; or, as      |
|                    | `soft_labels`, none: those of the data take its place                                       |
| `ensemble`         | the mean of the probabilities of the fine-tuned teachers of all seeds                       |
| `match_entropy_of` | smoothed until its soft labels have the entropy of those that another variant's run ended with |
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rkd.config.problems import KeyPath, Located, Problem, closest, path_text, shown
from rkd.methods.facts import METHODS
from rkd.tasks import TASKS

FROM, ENSEMBLE, MATCH = SOURCES = ("from", "ensemble", "match_entropy_of")
# The value of `from` that names no variant.
SOFT_LABELS = "soft_labels"


def sources(overrides: Mapping[str, Any]) -> dict[str, str]:
    """Return what the overrides of a variant say about the source of its teacher.

    >>> sources({"method": "kd", "teacher": {"from": "reptile"}})
    {'from': 'reptile'}
    """
    return {key: value for key, value in overrides.get("teacher", {}).items() if key in SOURCES}


def left_behind(variants: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the variants whose runs must keep their teacher, because another one asks for it.

    >>> left_behind({"kd": {"method": "kd"}, "again": {"method": "kd", "teacher": {"from": "reptile"}}})
    {'reptile'}
    """
    found = (sources(overrides) for overrides in variants.values())
    return {value for own in found for key, value in own.items() if key != ENSEMBLE and value != SOFT_LABELS}


def source_problems(
    config: Mapping[str, Any], variants: Mapping[str, Mapping[str, Any]], tasks: Mapping[str, Sequence[str]]
) -> Iterator[Located]:
    """Yield the problems of the sources of teachers, in a config that is good otherwise.

    Args:
        config: the config.
        variants: the overrides of the variants to check.
        tasks: the tasks of those that do not run on all.
    """
    able = ", ".join(each.name for each in METHODS.values() if each.logits_only and not each.trains_teacher)
    for name, overrides in variants.items():
        own, facts = sources(overrides), METHODS[overrides["method"]]
        for key, value in own.items():
            place: KeyPath = ("variants", name, "teacher", key)
            soft = (key, value) == (FROM, SOFT_LABELS)
            if key != ENSEMBLE and not soft:
                yield from _other_variant(config["variants"], name, place, value)
            if soft and (without := _without_soft_labels(config, tasks.get(name, config["tasks"]))):
                yield _problem(place, value, f"tasks with soft_labels in custom_tasks: {', '.join(without)} have none")
            if (key != FROM or soft) and (facts.trains_teacher or not facts.logits_only):
                yield _problem(place, value, f"a method that reads nothing but a frozen teacher's logits ({able})")
            if key == MATCH and (scored := _regressions(config, tasks.get(name, config["tasks"]))):
                yield _problem(place, value, f"tasks with one class per text, unlike {', '.join(scored)}")
        if own.get(FROM) == SOFT_LABELS and MATCH in own:
            place = ("variants", name, "teacher", MATCH)
            yield _problem(place, own[MATCH], "no match_entropy_of beside from: soft_labels, which are not changed")
        if FROM in own and (others := [key for key in overrides["teacher"] if key not in (FROM, MATCH)]):
            place = ("variants", name, "teacher", others[0])
            yield _problem(place, overrides["teacher"][others[0]], f"no {others[0]} beside from: that teacher is ready")


def _other_variant(
    variants: Mapping[str, Mapping[str, Any]], name: str, place: KeyPath, other: str
) -> Iterator[Located]:
    """Yield the problem of the name of a variant that must leave a teacher behind."""
    able = [each for each, entry in variants.items() if METHODS[entry["method"]].trains_teacher and not sources(entry)]
    if other == name or other not in able:
        expected = f"a variant whose method trains a fine-tuned teacher ({', '.join(able) or 'the config has none'})"
        yield _problem(place, other, expected, closest(other, able))


def _without_soft_labels(config: Mapping[str, Any], tasks: Sequence[str]) -> list[str]:
    custom = config.get("custom_tasks", {})
    return [task for task in tasks if not custom.get(task, {}).get("soft_labels")]


def _regressions(config: Mapping[str, Any], tasks: Sequence[str]) -> list[str]:
    """Return the tasks whose labels are no classes: scores, or several labels per text."""
    custom = config.get("custom_tasks", {})
    single = {task: bool(entry.get("labels")) and not entry.get("multi_label") for task, entry in custom.items()}
    return [task for task in tasks if (not single[task] if task in custom else TASKS[task].regression)]


def _problem(place: KeyPath, value: Any, expected: str, suggestion: str = "") -> Located:
    return place, Problem(path_text(place), shown(value), expected, suggestion)
