"""The schema of the config: what it allows, the problems that it finds, and the number types that it asks for."""

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from rkd.config.problems import (
    KeyPath,
    Located,
    Problem,
    Renamed,
    as_list,
    closest,
    located,
    path_text,
    refuse_section,
    shown,
)
from rkd.methods.facts import METHODS
from rkd.metrics.facts import METRICS
from rkd.specs.renamed import RENAMED, successor
from rkd.utils.escape import has_control

Config = dict[str, Any]
Rule = Mapping[str, Any]

DEPTH = 8  # no config is deeper

# Texts of a custom task's files, whose names of columns and labels may hold line breaks.
_COLUMNS = ("text", "label", "labels")
# Settings that can be tuned: those of training that all rows have.
_TUNED = ("learning_rate", "epochs", "batch_size", "weight_decay", "warmup_ratio", "max_grad_norm")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<exponent>[eE][-+]?[0-9]+)?")
_TYPE_NAMES = {
    "object": "a section of keys",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@functools.cache
def schema() -> dict[str, Any]:
    """Return the parsed JSON Schema of the config (draft 2020-12); do not modify it.

    The names of methods and metrics are those of `rkd.methods.facts` and `rkd.metrics.facts`.
    """
    text = Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    student = content["properties"]["student"]
    variant = content["properties"]["variants"]["additionalProperties"]["properties"]
    variant["method"]["enum"] = list(METHODS)
    custom_task = content["properties"]["custom_tasks"]["additionalProperties"]["properties"]
    for key in ("metrics", "primary_metrics"):
        custom_task[key]["items"]["enum"] = list(METRICS)
    training = content["properties"]["teacher"]["properties"]
    for role in ("student", "teacher"):
        content["properties"]["tune"]["properties"][role]["properties"] = {
            key: {
                "description": rule["description"],
                "x-allowed": "a list of values",
                **{"type": "array", "minItems": 1, "uniqueItems": True, "items": rule},
            }
            for key, rule in training.items()
            if key in _TUNED
        }
    for method, facts in METHODS.items():
        for option in (option for option in facts.options if option not in student["properties"]):
            rule = {"description": f"An option of {method}, which checks it.", "x-allowed": f"what {method} takes"}
            student["properties"][option] = variant[option] = rule
            student["required"].append(option)
    return content


def variant_keys() -> dict[str, Any]:
    """Return the keys that a variant may override, with the rules for their values."""
    rules: dict[str, Any] = schema()["properties"]["variants"]["additionalProperties"]["properties"]
    return {key: rule for key, rule in rules.items() if key not in ("method", "title")}


def axis_keys() -> dict[str, Any]:
    """Return the parameters that an axis of ablation may have, with the rules for their values."""
    teacher = schema()["properties"]["teacher"]["properties"]
    own = {key: rule for key, rule in variant_keys().items() if key != "teacher"}
    return own | {f"teacher.{key}": rule for key, rule in teacher.items()}


def distillation_options() -> list[str]:
    """Return the options that only some methods read: keys of student that teacher lacks."""
    sections = schema()["properties"]
    return [key for key in sections["student"]["properties"] if key not in sections["teacher"]["properties"]]


def allowed(rule: Rule) -> str:
    """Describe the range of a rule in words, for errors and the documentation.

    >>> allowed({"type": "number", "exclusiveMinimum": 0, "maximum": 1})
    'a number above 0 and at most 1'
    """
    if "x-allowed" in rule:
        return str(rule["x-allowed"])
    if "enum" in rule:
        return "one of " + ", ".join(map(str, rule["enum"]))
    words = _TYPE_NAMES[rule["type"]]
    if rule["type"] == "array":
        words += " of at least one" if rule.get("minItems") else ""
        words += ", none of them twice" if rule.get("uniqueItems") else ""
    if rule.get("minProperties"):
        words += ", at least one"
    return f"{words} {_range(rule)}".rstrip()


def _range(rule: Rule) -> str:
    low, high = rule.get("minimum"), rule.get("maximum")
    above, below = rule.get("exclusiveMinimum"), rule.get("exclusiveMaximum")
    if low is not None and (high is not None or below is not None):
        return f"from {low} to {high}" if below is None else f"from {low} to below {below}"
    parts = [("of at least", low), ("above", above), ("at most", high), ("below", below)]
    return " and ".join(f"{text} {bound}" for text, bound in parts if bound is not None)


def schema_problems(value: Any, rule: Rule | None = None) -> dict[KeyPath, Problem]:
    """Return the problems that a rule finds in a value, by path; by default the rule of the whole config."""
    checker = _validator() if rule is None else _validator().evolve(schema=rule)
    problems: dict[KeyPath, Problem] = {}
    for error in checker.iter_errors(value):
        for path, problem in _of_error(error):
            problems.setdefault(path, problem)
    return problems


def checked_keys(rules: Rule, values: Mapping[str, Any]) -> Config:
    """Values with the number types of their rules.

    Raises:
        SectionError: values that the rules refuse, and keys without a rule.

    >>> checked_keys({"seed": {"type": "integer"}}, {"seed": 3.0})
    {'seed': 3}
    """
    given: Config = plain(values)
    refuse_section(schema_problems(given, {"type": "object", "properties": rules, "additionalProperties": False}))
    return {key: number_types(value, rules[key]) for key, value in given.items()}


@functools.cache
def _validator() -> Any:
    def is_number(_: Any, value: Any) -> bool:
        return _finite(value)

    def is_integer(_: Any, value: Any) -> bool:
        return _finite(value) and float(value).is_integer()

    # JSON has no NaN and no infinity, and comparisons with NaN would let it pass every range.
    draft = jsonschema.Draft202012Validator
    types = draft.TYPE_CHECKER.redefine_many({"number": is_number, "integer": is_integer})
    validator = jsonschema.validators.extend(draft, type_checker=types)
    return validator(schema())


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of a float
        return False


# --- values -------------------------------------------------------------------------------------------------


def plain(value: Any, depth: int = DEPTH) -> Any:
    """Convert every mapping to dict and every tuple to list (Snakemake and callers may pass others).

    Deeper levels than any config has are cut (YAML anchors can be circular), and whole numbers beyond the
    range of a float become infinite: both are then refused where they stand, whatever the key.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(item, depth - 1) for key, item in value.items()} if depth else "…"
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value] if depth else "…"
    if isinstance(value, int) and not isinstance(value, bool) and not _finite(value):
        return math.inf
    return value


def read_numbers(config: Config) -> Config:
    """Convert text such as 5e-5, which YAML 1.1 does not read as a number, where the schema asks for a number.

    >>> read_numbers({"checkpoint_minutes": "5e-1", "tracker": "5e-1"})
    {'checkpoint_minutes': 0.5, 'tracker': '5e-1'}
    """

    def read(value: Any, rule: Rule) -> Any:
        if isinstance(value, str) and rule.get("type") in ("number", "integer"):
            match = _NUMBER.fullmatch(value)
            if match and match["exponent"] and math.isfinite(float(value)):
                return float(value)
        return value

    return _mapped_config(config, read)


def with_number_types(config: Config) -> Config:
    """Return a checked config with the schema's number types, also in its ablations."""
    return _mapped_config(config, _number_type)


def number_types(value: Any, rule: Rule) -> Any:
    """Return an allowed value with the number types of its rule."""
    return _mapped(value, rule, _number_type)


def _number_type(value: Any, rule: Rule) -> Any:
    if rule.get("type") == "number":
        return float(value)
    return int(value) if rule.get("type") == "integer" else value


def _mapped_config(config: Config, change: Callable[[Any, Rule], Any]) -> Config:
    """Convert a config's scalars by their rules; values of an axis have the rules of what they override."""
    result: Config = _mapped(config, schema(), change)
    rules, axes = axis_keys(), result.get("ablations")
    for axis in axes.values() if isinstance(axes, dict) else ():
        if not isinstance(axis, dict):
            continue
        if isinstance(axis.get("values"), list):
            key = axis.get("parameter")
            rule = rules.get(key, {}) if isinstance(key, str) else {}
            axis["values"] = [_mapped(value, rule, change) for value in axis["values"]]
        if isinstance(axis.get("parameters"), dict):
            lists = {key: {"items": rule} for key, rule in rules.items()}
            axis["parameters"] = _mapped(axis["parameters"], {"properties": lists}, change)
        if isinstance(axis.get("settings"), dict):
            overrides = {"additionalProperties": {"properties": variant_keys()}}
            axis["settings"] = _mapped(axis["settings"], overrides, change)
    return result


def _mapped(value: Any, rule: Rule, change: Callable[[Any, Rule], Any]) -> Any:
    if isinstance(value, dict):
        known, other = rule.get("properties", {}), rule.get("additionalProperties")
        return {key: _mapped(item, known.get(key) or other or {}, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, rule.get("items", {}), change) for item in value]
    return change(value, rule)


# --- problems -----------------------------------------------------------------------------------------------


def _of_error(error: Any) -> Iterator[Located]:
    """Yield the problems of one jsonschema error: one per unknown, missing or repeated item, else one."""
    path, value, rule = tuple(error.absolute_path), error.instance, error.schema
    if error.validator == "additionalProperties":
        for key in value:
            if key not in rule["properties"]:
                yield (*path, key), _unknown_key((*path, key), value[key], rule["properties"])
    elif error.validator == "required":
        renamed = {RENAMED.get(key) for key in value}  # told where the earlier key stands
        for key in error.validator_value:
            if key not in value and key not in renamed:
                missing, expected = (*path, key), allowed(rule["properties"][key])
                yield missing, Problem(path_text(missing), "no such key", expected, "add it (see config.yaml)")
    elif error.validator == "uniqueItems":
        for index, item in enumerate(value):
            if item in value[:index]:
                yield located((*path, index), item, "every value only once")
    elif error.validator == "minLength":
        yield located(path, value, f"{allowed(rule)} of at least one character")
    else:
        yield located(path, value, allowed(rule), _suggestion(error))


def _suggestion(error: Any) -> str:
    if error.validator == "type":
        return _type_suggestion(error.instance, error.schema["type"])
    if error.validator == "enum":
        return closest(error.instance, map(str, error.validator_value))
    return ""


def _type_suggestion(value: Any, types: str | list[str]) -> str:
    if isinstance(value, str) and types in ("number", "integer"):
        number = value.strip()
        return f"write {number} without quotes" if _NUMBER.fullmatch(number) and math.isfinite(float(number)) else ""
    if types == "array" and (isinstance(value, str) or _finite(value)):
        return f"write {as_list(value)}"
    if "string" in types and _finite(value):
        return "put it in quotes: YAML reads it as a number"
    if "string" in types and isinstance(value, bool):
        return "put it in quotes: YAML reads it as a truth value"
    return ""


def _unknown_key(path: KeyPath, value: Any, known: Rule) -> Problem:
    if key := renamed_key(path[-1], value, known):
        return Renamed(path_text(path), "renamed", key)
    suggestion = closest(path[-1], known)
    homes = [home for home in _homes(path[-1]) if home != path_text(path)]
    if not suggestion and homes:
        suggestion = f"it belongs to {' or '.join(homes)}"
    found, expected = f"this unknown key with {shown(value)}", f"one of the keys {', '.join(known)}"
    return Problem(path_text(path), found, expected, suggestion)


def renamed_key(key: Any, value: Any, known: Rule) -> str:
    """Today's name of a key of an earlier version, with the value if that has changed, too; empty for other keys.

    Args:
        key: the earlier key.
        value: what stands under it.
        known: the keys of the section in which it stands; a key of another section is named with that.

    >>> renamed_key("batch_order", "length-grouped", {"group_by_length": {}})
    'group_by_length: true'
    """
    if key not in RENAMED:
        return ""
    name, today = successor(key, value)
    text = f"{name}: {str(today).lower()}" if isinstance(today, bool) and today is not value else name
    return text if name in known else " or ".join(_homes(name))


def _homes(key: Any) -> list[str]:
    """Return the places in the config where a key of this name exists."""
    sections = schema()["properties"]
    homes = [key] if key in sections else []
    return homes + [f"{name}.{key}" for name in ("teacher", "student") if key in sections[name]["properties"]]


def control_characters(value: Any, path: KeyPath = ()) -> Iterator[Located]:
    """Texts that would break a line of a log or a table: with control characters, in keys as well."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str) and has_control(key):
                where = (*path, key)
                yield where, Problem(path_text(where), "control characters in this key", "printable characters alone")
            yield from control_characters(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from control_characters(item, (*path, index))
    elif isinstance(value, str):
        column = len(path) > 2 and path[0] == "custom_tasks" and path[2] in _COLUMNS
        if has_control(value, allowed="\t\n\r\u2028\u2029" if column else ""):
            yield located(path, value, "text without control characters" + ("" if column else ", on one line"))
