"""Checks of what depends on several values, on rkd's own names, or on the disk."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from rkd.config.custom_tasks import TASK_CHECKS
from rkd.config.model_checks import MODEL_CHECKS, OWN, readable
from rkd.config.names import name_problems, value_problems
from rkd.config.problems import (
    KeyPath,
    Located,
    Problem,
    closest,
    moved,
    path_text,
    refuse_section,
    shown,
)
from rkd.config.reads import Value, Values, reads, run
from rkd.config.schema import Config, checked_keys, schema
from rkd.config.teachers import SOFT_LABELS
from rkd.methods.facts import METHODS
from rkd.runs.paths import EARLIER, STORE
from rkd.tasks import TASKS

# Without ax, which has no training data: it is an extra test split of mnli.
TRAINABLE_TASKS = tuple(name for name, task in TASKS.items() if task.trainable)

# Names that stand for something else in the results.
_OTHER_FOLDERS = {
    **dict.fromkeys(STORE, "a folder that all experiments share"),
    **dict.fromkeys(EARLIER, "a folder of earlier versions"),
}
_RESERVED = {
    "teacher": "the fine-tuned teacher",
    "student": "the model that students start from",
    SOFT_LABELS: "soft labels from the data",
}


def crosscheck(config: Config, bad: frozenset[KeyPath]) -> dict[KeyPath, Problem]:
    """Return the problems of a config that a schema cannot express, by path.

    Args:
        config: the config.
        bad: the paths of the problems that are known already; what stands there is not looked at.
    """
    values = Values(config, bad)
    unreadable = run([readable], values)
    found = {**run(CHECKS, values.without(unreadable)), **unreadable}
    for name, overrides in values.other_students.items():
        for path, problem in _other_student(values, name, overrides):
            found.setdefault(path, problem)
    for path, problem in (*_other_teachers(values), *_repeated_titles(config, bad)):
        found.setdefault(path, problem)
    return found


def checked_section(section: str, values: Mapping[str, Any], method: str | None = None) -> Config:
    """Return some keys of a section (`teacher` or `student`) with the schema's number types.

    Args:
        section: its name.
        values: the keys.
        method: the method that reads them, if what is wrong for it alone is to be told, too.

    Raises:
        SectionError: all that is wrong with them.

    >>> checked_section("student", {"epochs": 3.0})
    {'epochs': 3}
    """
    normal = checked_keys(schema()["properties"][section]["properties"], values)
    variants = {} if method is None else {method: {"method": method}}
    problems = run(SECTION_CHECKS, Values({section: normal, "variants": variants}, frozenset()))
    refuse_section(dict(moved(problem, path[1:]) for path, problem in problems.items()))
    return normal


def _other_student(values: Values, name: str, overrides: Config) -> Iterator[Located]:
    """Yield the problems of a variant that replaces the config's student with its own."""
    place: KeyPath = ("variants", name, "student_model")
    if place in values.bad:
        return
    student = overrides["student_model"]
    if values.config.get("student_tokenizer") == OWN:
        expected = "no other student: with student_tokenizer own, the data have the tokens of one"
        yield place, Problem(path_text(place), shown(student), expected)
        return
    apart = {
        **values.config,
        **{"student_model": student, "student_revision": None, "student_sha256": None},
        "variants": {name: {key: value for key, value in overrides.items() if key != "student_model"}},
    }
    for path, problem in crosscheck(apart, values.bad - {("student_model",)}).items():
        if path[:2] == ("variants", name):
            yield path, problem
        elif path[0] == "student_model":
            yield moved(problem, place)
        elif path[0] in ("student", "max_length"):
            found = f"{shown(student)} with {problem.path} {problem.found}"
            yield place, Problem(path_text(place), found, problem.expected, problem.suggestion)


def _other_teachers(values: Values) -> Iterator[Located]:
    """Yield the problems of the variants that override settings of their teacher."""
    general = values.read("teacher", {})
    for name, overrides in {**values.variants, **values.other_students}.items():
        place: KeyPath = ("variants", name, "teacher")
        method = values.read("variants.{name}.method", {"name": name})
        own = values.read("variants.{name}.teacher", {"name": name}) if "teacher" in overrides else None
        if own is None or method is None:
            continue
        if not METHODS[method.value].needs_teacher:
            yield own.problem(f"no teacher here: method {method.value} learns from none")
        elif general is not None:
            settings = {"teacher": {**general.value, **own.value}, "variants": {}}
            for path, problem in run(SECTION_CHECKS, Values(settings, frozenset())).items():
                yield moved(problem, (*place, *path[1:]) if path[1] in own.value else place)


def _repeated_titles(config: Config, bad: frozenset[KeyPath]) -> Iterator[Located]:
    """Yield titles of variants that another variant has as title or name: rows and legends would be ambiguous."""
    variants = config.get("variants")
    given = variants.items() if isinstance(variants, dict) else ()
    entries = {name: entry for name, entry in given if isinstance(entry, dict)}
    shown_as = {name: entry.get("title", name) for name, entry in entries.items()}
    shown_as["the teacher"] = "Teacher"
    for name, entry in entries.items():
        path: KeyPath = ("variants", name, "title")
        others = [other for other, title in shown_as.items() if other != name and title == entry.get("title")]
        if "title" in entry and path not in bad and others:
            yield path, Problem(path_text(path), shown(entry["title"]), f"another title: {others[0]} has this one")


@reads("tasks.{index}", "names of custom_tasks?")
def known_task(task: Value, custom: Value) -> Iterator[Located]:
    """Report a task that neither GLUE nor the config has."""
    known = [*TRAINABLE_TASKS, *map(str, custom.value or ())]
    if task.value not in known:
        ax = "ax is predicted by the mnli models: write mnli"
        hint = ax if task.value == "ax" else closest(task.value, known)
        yield task.problem(f"one of {', '.join(known)}", hint)


@reads("glue_dir")
def glue_folder(folder: Value) -> Iterator[Located]:
    """Report a folder that is not there."""
    if folder.value is not None and not os.path.isdir(place := os.path.expanduser(folder.value)):
        hint = "this is not a folder" if os.path.exists(place) else "there is nothing at this path"
        yield folder.problem("an existing folder, or null", hint)


@reads("experiment")
def experiment_name(name: Value) -> Iterator[Located]:
    """Report an invalid name, and the name of another folder in the results."""
    yield from value_problems(name.path, name.value, _OTHER_FOLDERS)


@reads("names of variants.{variant}")
def variant_name(overrides: Value) -> Iterator[Located]:
    """Report an invalid name, and one that has another meaning in the results."""
    yield from name_problems(overrides.path, _RESERVED)


@reads("variants.{variant}.method", "variants.{variant}.{option}")
def read_option(method: Value, option: Value) -> Iterator[Located]:
    """Report an option that the method of the variant does not read."""
    key = option.path[-1]
    if key not in METHODS[method.value].options:
        reads = ", ".join(METHODS[method.value].options) or "no distillation option"
        readers = ", ".join(other for other, facts in METHODS.items() if key in facts.options)
        expected = f"no {key} here: method {method.value} reads {reads}"
        yield option.problem(expected, f"remove it, or choose a method that reads it ({readers})")


def _divides(parts: Value, batch: Value) -> Iterator[Located]:
    """Report a batch that cannot be computed in equal parts."""
    if batch.value % parts.value == 0:
        return
    # Blame what the variant overrides: the other value is right for the rows that do not.
    if len(parts.path) >= len(batch.path):
        yield parts.problem(f"a divisor of batch_size {batch.value}")
    else:
        yield batch.problem(f"a multiple of gradient_accumulation {parts.value}")


def _once(layer_map: Value) -> Iterator[Located]:
    """Report a teacher layer that several student layers would pull."""
    layers = [layer for group in layer_map.value for layer in group] if isinstance(layer_map.value, list) else []
    if len(set(layers)) < len(layers):
        yield layer_map.problem("every teacher layer only once: one student layer at most pulls it")


@reads("{variant}.method", "{variant}.outer_target", "{variant}.{key}", key=("inner_steps", "inner_batch"))
def inner_loop(method: Value, target: Value, setting: Value) -> Iterator[Located]:
    """Report a setting of the inner loop where there is none."""
    default = {"inner_steps": 1, "inner_batch": "same"}[setting.path[-1]]
    unread = target.value in ("student", "initial") and "outer_target" in METHODS[method.value].options
    if unread and setting.value != default:
        variant = method.path[1]
        yield setting.problem(f"{default}: with outer_target {target.value}, {variant} makes no inner update")


@reads("{variant}.method", "{variant}.{option}")
def positive(method: Value, option: Value) -> Iterator[Located]:
    """Report a zero where a method needs a positive value."""
    if option.path[-1] in METHODS[method.value].positive and option.value is not None and option.value <= 0:
        yield option.problem(f"a number above 0 for method {method.value}")


SECTION_CHECKS = (
    reads("{role}.gradient_accumulation", "{role}.batch_size")(_divides),
    reads("{variant}.gradient_accumulation", "{variant}.batch_size")(_divides),
    reads("student.layer_map")(_once),
    reads("{variant}.layer_map")(_once),
    inner_loop,
    positive,
)
CHECKS = (
    known_task,
    *TASK_CHECKS,
    experiment_name,
    glue_folder,
    variant_name,
    read_option,
    *SECTION_CHECKS,
    *MODEL_CHECKS,
)
