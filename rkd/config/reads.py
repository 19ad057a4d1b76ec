"""Checks that declare what they read: the values of a config, and the runner that hands them over."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rkd.config.model_facts import Model
from rkd.config.problems import KeyPath, Located, Problem, path_text, shown
from rkd.config.schema import Config, distillation_options

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_NAMES = "names of "


@dataclass(frozen=True)
class Value:
    """A value that a check reads.

    Attributes:
        path: where it stands in the config.
        value: what stands there; None where an optional key is missing.
        model: of `teacher_model` and `student_model`, what the files of the model tell.
    """

    path: KeyPath
    value: Any
    model: Model = field(default_factory=Model)

    def problem(self, expected: str, suggestion: str = "", *, found: str = "") -> Located:
        """Return a problem of this value; `found` is the value itself by default."""
        return self.path, Problem(path_text(self.path), found or shown(self.value), expected, suggestion)


@dataclass(frozen=True)
class Check:
    """A check on several values, and the keys of those that it reads."""

    function: Callable[..., Iterator[Located]]
    keys: tuple[str, ...]
    choices: Mapping[str, Sequence[str]]

    def problems(self, values: "Values") -> Iterator[Located]:
        """All problems that the check finds; it is left out where one of its values has a problem already."""
        names = list(dict.fromkeys(name for key in self.keys for name in _PLACEHOLDER.findall(key)))
        domains = [self.choices[name] if name in self.choices else values.domain(name) for name in names]
        for chosen in itertools.product(*domains):
            given = [values.read(key, dict(zip(names, chosen, strict=True))) for key in self.keys]
            known = [value for value in given if value is not None]
            if len(known) == len(given):
                yield from self.function(*known)


def reads(*keys: str, **choices: Sequence[str]) -> Callable[[Callable[..., Iterator[Located]]], Check]:
    """Make a check of a function that takes the values of these keys, each as a `Value`, and yields their problems.

    The function is called only if all of the values are there and none has a problem of its own, so it can rely on the
    types of the schema. A key is a path with dots, and may have these forms:

    * `teacher.batch_size`: the value there; with `?` at the end it may be missing.
    * `{role}_model`: called once for the `teacher` and once for the `student`.
    * `variants.{variant}.method`, `custom_tasks.{task}.label`, `tasks.{index}`: called for each of them.
    * `variants.{variant}.{option}`: called for each option that only some methods read.
    * `{variant}.layer_map`: the setting that is in effect for a variant, from itself or from the section student.
    * `variants.*.method`: by name those of the values that are there and have no problem.
    * `names of variants`: the keys of a section, whatever stands under them.

    Args:
        keys: what the function reads.
        choices: words for further placeholders, each of which makes a call.

    Example:
        >>> @reads("{role}.epochs", "tasks")
        ... def many_epochs(epochs, tasks):
        ...     if epochs.value > 100 and len(tasks.value) > 1:
        ...         yield epochs.problem("at most 100 for several tasks")
    """

    def declare(function: Callable[..., Iterator[Located]]) -> Check:
        return Check(function, keys, choices)

    return declare


def run(checks: Iterable[Check], values: "Values") -> dict[KeyPath, Problem]:
    """Return the problems that checks find, by path; the first one at each path."""
    found: dict[KeyPath, Problem] = {}
    for check in checks:
        for path, problem in check.problems(values):
            found.setdefault(path, problem)
    return found


class Values:
    """The values of a config, without those that have a problem.

    Args:
        config: the config, of which parts may be missing or wrong.
        bad: the paths of its problems.
        models: the teacher and the student, where their files were read before.
    """

    def __init__(self, config: Config, bad: frozenset[KeyPath], models: dict[str, Model] | None = None) -> None:
        self.config = config
        self.bad = bad
        self._models = {} if models is None else models

    def without(self, paths: Iterable[KeyPath]) -> "Values":
        """Return the same without further values that turned out to be wrong."""
        return Values(self.config, self.bad | frozenset(paths), self._models)

    @cached_property
    def other_students(self) -> dict[str, Config]:
        """The variants with a student of their own: they are checked apart, with it as the config's student."""
        return {name: overrides for name, overrides in self._given.items() if "student_model" in overrides}

    @cached_property
    def variants(self) -> dict[str, Config]:
        """The other variants."""
        return {name: overrides for name, overrides in self._given.items() if "student_model" not in overrides}

    @cached_property
    def _given(self) -> dict[str, Config]:
        found = self.config.get("variants")
        variants = found.items() if isinstance(found, dict) else ()
        return {name: overrides for name, overrides in variants if isinstance(overrides, dict)}

    def domain(self, placeholder: str) -> Sequence[Any]:
        """All that a placeholder of a key stands for."""
        if placeholder == "role":
            return ("teacher", "student")
        if placeholder == "variant":
            return tuple(self.variants)
        if placeholder == "option":
            return distillation_options()
        section = self.config.get({"task": "custom_tasks", "index": "tasks"}[placeholder])
        if placeholder == "index":
            return range(len(section)) if isinstance(section, list) else ()
        return tuple(section) if isinstance(section, dict) else ()

    def read(self, key: str, chosen: Mapping[str, Any]) -> Value | None:
        """Return the value of a key named by `reads`; None if it is missing or has a problem."""
        text, names = key.removeprefix(_NAMES), key.startswith(_NAMES)
        path = self._path(text.removesuffix("?"), chosen)
        if "*" in path:
            return self._each(path)
        if self._is_bad(path, inside=not names):
            return None
        value: Any = self.config
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return Value(path, None) if text.endswith("?") else None
        if names:
            return Value(path, list(value)) if isinstance(value, dict) else None
        if path in (("teacher_model",), ("student_model",)):
            return Value(path, value, self._model(path[0].removesuffix("_model"), value))
        return Value(path, value)

    def _path(self, key: str, chosen: Mapping[str, Any]) -> KeyPath:
        parts: list[Any] = key.split(".")
        if parts[0] == "{variant}":
            variant = chosen["variant"]
            setting = _filled(parts[1], chosen)
            return ("variants", variant, setting) if setting in self.variants[variant] else ("student", setting)
        return tuple(_filled(part, chosen) for part in parts)

    def _each(self, path: KeyPath) -> Value:
        section, _, key = path
        entries = self.variants if section == "variants" else self.config.get(section, {})
        found = {name: self.read(f"{section}.{{name}}.{key}", {"name": name}) for name in entries}
        return Value((section,), {name: value.value for name, value in found.items() if value is not None})

    def _is_bad(self, path: KeyPath, inside: bool) -> bool:
        return any(path[: len(bad)] == bad or (inside and bad[: len(path)] == path) for bad in self.bad)

    def _model(self, role: str, reference: str) -> Model:
        if role not in self._models:
            self._models[role] = Model.read(reference, role)
        return self._models[role]


def _filled(part: str, chosen: Mapping[str, Any]) -> Any:
    """Replace the placeholder in a part of a key; a part that is only a placeholder keeps the value's type."""
    if match := _PLACEHOLDER.fullmatch(part):
        return chosen[match[1]]
    return _PLACEHOLDER.sub(lambda match: str(chosen[match[1]]), part)
