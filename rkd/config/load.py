"""Reads and checks a config: every problem in one go, each with its path, what was found and what is allowed.

The keys, their types and ranges are in schema.yaml beside this file; the checks here are those that
look at more than one key, at rkd's own names, or at the disk. Imports neither torch nor pandas: the Snakefile
is parsed with it.
"""

import difflib
import functools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from rkd.config.variants import NAME, NAME_LENGTH, READ_WITH, Cell, expand, without_unread
from rkd.data.reading import SUFFIXES, check_columns
from rkd.errors import RkdError
from rkd.labels import look
from rkd.methods.facts import METHODS, MethodFacts
from rkd.metrics.facts import DEFAULT_OF_LABELS, DEFAULT_OF_SCORES, METRICS
from rkd.models import files
from rkd.models import source as model_source
from rkd.models.files import Facts
from rkd.models.source import ModelSource
from rkd.tasks import TASKS
from rkd.utils.escape import has_control, one_line

Config = dict[str, Any]
KeyPath = tuple[Any, ...]

# Without ax, which has no training data: it is an extra test split of mnli.
TRAINABLE_TASKS = tuple(name for name, task in TASKS.items() if task.trainable)

_A_NAME = (
    "a name of lower-case letters, digits and . _ - that begins with a letter or digit, "
    f"{NAME_LENGTH} characters at most"
)
# Names that stand for something else in the results.
_RESERVED_VARIANTS = {"teacher": "the fine-tuned teacher", "student": "the model that students start from"}
_RESERVED_TASKS = {"average": "the mean over tasks"}

# What stands in the files of a user's own task: there a line break may be part of the name.
_COLUMNS = ("text", "label", "labels")

_SCALAR = re.compile(r"[-+]?[0-9]+(\.[0-9]*([eE][-+][0-9]+)?)?|true|false|null")
_DEPTH = 8  # no config is deeper
_DIGITS = 400  # longer numbers are beyond any range, and Python refuses to read them
_PLAIN_KEY = re.compile(r"[\w.-]+")
_TYPE_NAMES = {
    "object": "a section of keys",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


@dataclass(frozen=True)
class Problem:
    """One problem: the key (`variants.kd.temperature`), what was found, what is allowed and what to do."""

    path: str
    found: str
    expected: str
    suggestion: str = ""

    def __str__(self) -> str:
        line = f"{self.path}: found {self.found}, expected {self.expected}"
        return one_line(f"{line}; {self.suggestion}" if self.suggestion else line)


class ConfigError(RkdError):
    """A config with problems; the message lists all of them, one a line, and `problems` holds them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "The config has 1 problem:" if count == 1 else f"The config has {count} problems:"
        super().__init__("\n".join([head, *(f"- {problem}" for problem in self.problems)]))


class SectionError(RkdError):
    """A part of a config with problems; the message has them on one line, and `problems` holds them by path."""

    def __init__(self, problems: Mapping[KeyPath, Problem]) -> None:
        self.problems = {path: problems[path] for path in sorted(problems, key=_path_order)}
        super().__init__("; ".join(map(str, self.problems.values())))


def load(config: Mapping[str, Any]) -> Config:
    """Check a merged config and return it in normal form, or raise ConfigError with all its problems.

    Normal form: a new plain dict without the variants, ablations and own tasks that an overlay dropped (set to null);
    numbers are float where the schema says number, int where it says integer; `~` at the start of a path is expanded;
    the revision of a model written as `NAME@REVISION` stands in its own key, and that of a model that is not on the hub
    is None; the sha256 of a packaged model that rkd knows is filled in, and so are the defaults of own tasks.

    >>> load(yaml.safe_load(Path("config.yaml").read_text()))["student"]["alpha"]
    0.5
    """
    problems = check(config)
    if problems:
        raise ConfigError(problems)
    normal = _with_number_types(_without_dropped(_plain(config)))
    normal["custom_tasks"] = {name: _own_task(name, entry) for name, entry in normal["custom_tasks"].items()}
    _expand_homes(normal)
    for role in ("teacher", "student"):
        source = model_source.parse(normal[f"{role}_model"])
        if source.kind != "hub":
            normal[f"{role}_revision"] = None
        elif source.revision is not None:
            pinned, normal[f"{role}_model"] = normal[f"{role}_model"], source.location
            normal[f"{role}_revision"] = source.revision
            if role == "student":  # by one name wherever it stands, so that it is known to be the same
                _change_students(normal, {pinned: source.location}.get)
        normal[f"{role}_sha256"] = normal[f"{role}_sha256"] or source.known_sha256()
    return normal


def restore_cli_types(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the types that Snakemake's command line drops.

    `--config 'seeds=[1, 2]'` arrives as a list of two texts: below the top level every text that YAML reads as a
    number, a truth value or null becomes that; at the top level Snakemake misses true, false and null.

    >>> restore_cli_types({"seeds": ["1", "2"]})
    {'seeds': [1, 2]}
    """

    def read(value: Any, depth: int) -> Any:
        if depth > _DEPTH:  # YAML anchors can be circular; `check` refuses it
            return value
        if isinstance(value, Mapping):
            return {key: read(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [read(item, depth + 1) for item in value]
        known = isinstance(value, str) and len(value) < _DIGITS
        if known and (value in ("true", "false", "null") if depth == 1 else _SCALAR.fullmatch(value)):
            return yaml.safe_load(value)
        return value

    # Names of labels and columns are text, whatever they look like, and no part of a command line.
    return {key: value if key == "custom_tasks" else read(value, 1) for key, value in config.items()}


def order_like(config: Mapping[str, Any], first: str | Path) -> dict[str, Any]:
    """The config with its variants and ablations in the order of a file, others after them.

    Snakemake puts what overlays name before all else, and tables have their rows in this order.

    >>> list(order_like({"variants": {"mine": {}, "kd": {}}}, "config.yaml")["variants"])
    ['kd', 'mine']
    """
    base = read_yaml(first)
    result = dict(config)
    for section in ("variants", "ablations"):
        if isinstance(found := result.get(section), Mapping) and isinstance(order := base.get(section), Mapping):
            names = [name for name in order if name in found]
            result[section] = {name: found[name] for name in [*names, *(name for name in found if name not in names)]}
    return result


def read_yaml(file: str | Path) -> dict[str, Any]:
    """The keys of a config file, in YAML or JSON.

    Raises:
        RkdError: the file is missing, unreadable or no YAML, with line and column, or holds something else than keys:
            nothing at all, too, which Snakemake does not take as a config either.

    >>> read_yaml("config.yaml")["seeds"]
    [1, 2]
    """
    try:
        content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise RkdError(f"{file}: cannot be read: {error.strerror or error}; expected a config file") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RkdError(f"{file}{where}: {error.problem or error.context}; expected YAML") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # bytes that are no text, a number of 5,000 digits
        raise RkdError(one_line(f"{file}: {error}; expected YAML in UTF-8")) from None
    if not isinstance(content, dict):
        found = "an empty file, or comments alone" if content is None else _found(content)
        raise RkdError(f"{file}: found {found}; expected keys and values (KEY: VALUE)")
    keys: dict[str, Any] = _plain(content)
    return keys


def check(config: Mapping[str, Any]) -> list[Problem]:
    """All problems of a merged config, sorted by path; an empty list when it is good.

    Reads the disk where models or data are local, never the network. Never raises, whatever the values are.
    """
    plain = _without_dropped(_plain(config))
    problems: dict[KeyPath, Problem] = {}
    for error in _validator().iter_errors(plain):
        for path, problem in _schema_problems(error):
            problems.setdefault(path, problem)
    for path, problem in _control_characters(plain):
        problems.setdefault(path, problem)
    if isinstance(plain, dict):
        for path, problem in _Crosscheck(plain, frozenset(problems)).problems():
            problems.setdefault(path, problem)
    if not problems:
        problems = _ablation_problems(plain)
    return [problems[path] for path in sorted(problems, key=_path_order)]


def checked_keys(rules: Mapping[str, Any], values: Mapping[str, Any]) -> Config:
    """Values with the number types of their rules; SectionError if they are wrong.

    >>> checked_keys({"seed": {"type": "integer"}}, {"seed": 3.0})
    {'seed': 3}
    """
    plain: Config = _plain(values)
    checker = _validator().evolve(schema={"type": "object", "properties": rules, "additionalProperties": False})
    _refuse({path: problem for error in checker.iter_errors(plain) for path, problem in _schema_problems(error)})
    return {key: _numbers(value, rules[key]) for key, value in plain.items()}


def checked_section(section: str, values: Mapping[str, Any], method: str | None = None) -> Config:
    """Some keys of a section (`teacher` or `student`) with the schema's number types; SectionError if they are wrong.

    Args:
        section: its name.
        values: the keys.
        method: the method that reads them, if what is wrong for it alone is to be told, too.

    >>> checked_section("student", {"epochs": 3.0})
    {'epochs': 3}
    """
    normal = checked_keys(schema()["properties"][section]["properties"], values)
    variants = {} if method is None else {method: {"method": method}}
    crossed = _Crosscheck({section: normal, "variants": variants}, frozenset())
    problems = [*crossed._accumulation(), *crossed._repeated_layers(), *crossed._inner_loops()]
    _refuse({path[1:]: Problem(_path_text(path[1:]), *astuple(problem)[1:]) for path, problem in problems})
    return normal


def file_problem(path: KeyPath, file: str) -> Problem | None:
    """What is wrong with the data file at `path` of a config, None if it is there and of a known kind."""
    place = Path(os.path.expanduser(file))
    entry = schema()["properties"]["custom_tasks"]["additionalProperties"]["properties"]
    if place.suffix.lower() not in SUFFIXES:
        return _problem(path, file, entry["train"]["x-allowed"])[1]
    if not os.path.isfile(place):
        hint = "this is no file" if os.path.exists(place) else "there is nothing at this path"
        return _problem(path, file, entry["train"]["x-allowed"], hint)[1]
    return None


def _column_problem(file: str, text: tuple[str, ...], label: str, test: bool) -> str | None:
    """The reason why a data file lacks a task's columns, None where it has them; a test file may have no labels."""
    place = Path(os.path.expanduser(file))
    state = place.stat()
    return _known_column_problem(place, text, label, test, (state.st_mtime_ns, state.st_size))


@functools.cache  # one config is checked once for each student that a variant brings
def _known_column_problem(place: Path, text: tuple[str, ...], label: str, test: bool, _state: Any) -> str | None:
    wanted, optional = (text, (label,)) if test else ((*text, label), ())
    try:
        check_columns(place, wanted, optional)
    except RkdError as error:
        return str(error).removeprefix(str(place)).lstrip(":, ")
    return None


def checked_task(name: str, entry: Mapping[str, Any], *, files: bool = True) -> Config:
    """One entry of `custom_tasks` with all its keys; SectionError if it is wrong.

    Args:
        name: the task's name.
        entry: its keys.
        files: whether its files must be there.
    """
    plain = {"custom_tasks": {name: _plain(entry)}}
    rule = {"type": "object", "properties": {"custom_tasks": schema()["properties"]["custom_tasks"]}}
    checker = _validator().evolve(schema=rule)
    found = {path: problem for error in checker.iter_errors(plain) for path, problem in _schema_problems(error)}
    for path, problem in _Crosscheck(plain, frozenset(found)).custom_tasks(files):
        found.setdefault(path, problem)
    _refuse(found)
    normal: Config = _numbers(plain, rule)
    return _own_task(name, normal["custom_tasks"][name])


def _refuse(problems: Mapping[KeyPath, Problem]) -> None:
    if problems:
        raise SectionError(problems)


@functools.cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the config (draft 2020-12), parsed; not to be changed.

    The names of methods and metrics are those of `rkd.methods.facts` and `rkd.metrics.facts`.
    """
    text = Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    student = content["properties"]["student"]
    variant = content["properties"]["variants"]["additionalProperties"]["properties"]
    variant["method"]["enum"] = list(METHODS)
    own_task = content["properties"]["custom_tasks"]["additionalProperties"]["properties"]
    for key in ("metrics", "primary_metrics"):
        own_task[key]["items"]["enum"] = list(METRICS)
    for method, facts in METHODS.items():
        for option in (option for option in facts.options if option not in student["properties"]):
            rule = {"description": f"An option of {method}, which checks it.", "x-allowed": f"what {method} takes"}
            student["properties"][option] = variant[option] = rule
            student["required"].append(option)
    return content


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


# --- normal form --------------------------------------------------------------------------------------------


def _plain(value: Any, depth: int = _DEPTH) -> Any:
    """The same with dict for every mapping and list for every tuple (Snakemake and callers may pass others).

    Deeper levels than any config has are cut (YAML anchors can be circular), and whole numbers beyond the
    range of a float become infinite: both are then refused where they stand, whatever the key.
    """
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item, depth - 1) for key, item in value.items()} if depth else "…"
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value] if depth else "…"
    if isinstance(value, int) and not isinstance(value, bool) and not _finite(value):
        return math.inf
    return value


def _with_number_types(config: Config) -> Config:
    """A config that has passed the checks with the number types of the schema, also in its ablations."""
    normal: Config = _numbers(config, schema())
    rules = _variant_keys()
    for axis in normal["ablations"].values():
        if "values" in axis:
            axis["values"] = [_numbers(value, rules[axis["parameter"]]) for value in axis["values"]]
        for changes in axis.get("settings", {}).values():
            changes.update({key: _numbers(value, rules[key]) for key, value in changes.items()})
    return normal


def _expand_homes(config: Config) -> None:
    """Replace `~` at the start of every path of a config in normal form."""

    def expand_in(section: dict[str, Any], *keys: str) -> None:
        for key in keys:
            if isinstance(section.get(key), str):
                section[key] = os.path.expanduser(section[key])

    expand_in(config, "glue_dir", "teacher_model", "student_model")
    for section in config["custom_tasks"].values():
        expand_in(section, "train", "dev", "test")
    _change_students(config, os.path.expanduser)


def _change_students(config: Config, change: Callable[[str], str | None]) -> None:
    """Replace the students of variants and ablations by what `change` makes of them; None leaves one as it is."""
    axes = config["ablations"].values()
    settings = [changes for axis in axes for changes in axis.get("settings", {}).values()]
    for changes in (*config["variants"].values(), *settings):
        if "student_model" in changes:
            changes["student_model"] = change(changes["student_model"]) or changes["student_model"]
    for axis in axes:
        if axis.get("parameter") == "student_model":
            axis["values"] = [change(value) or value for value in axis["values"]]


def _without_dropped(config: Any) -> Any:
    """The config without the variants, the ablations and the own tasks that an overlay has set to null."""
    if not isinstance(config, dict):
        return config
    sections = {
        key: config[key] for key in ("variants", "ablations", "custom_tasks") if isinstance(config.get(key), dict)
    }
    kept = {key: {name: e for name, e in section.items() if e is not None} for key, section in sections.items()}
    return {**config, **kept}


def _own_task(name: str, entry: Mapping[str, Any]) -> Config:
    """An own task with all keys, its labels as text."""
    labels = [str(label) for label in entry.get("labels", ())]
    metrics = entry.get("metrics", list(DEFAULT_OF_LABELS if labels else DEFAULT_OF_SCORES))
    defaults = {"title": name, "dev": None, "test": None, "dev_fraction": 0.1, "dev_seed": 0, "scores": None}
    return {
        **defaults,
        **entry,
        "labels": labels,
        "metrics": metrics,
        "primary_metrics": entry.get("primary_metrics", metrics),
    }


def _numbers(value: Any, rule: Mapping[str, Any]) -> Any:
    """`value` with the number types of its schema; `value` has passed the schema."""
    if isinstance(value, dict):
        known, other = rule.get("properties", {}), rule.get("additionalProperties")
        return {key: _numbers(item, known.get(key) or other or {}) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item, rule.get("items", {})) for item in value]
    if rule.get("type") == "number":
        return float(value)
    return int(value) if rule.get("type") == "integer" else value


# --- wording ------------------------------------------------------------------------------------------------


def _path_text(path: KeyPath) -> str:
    text = ""
    for part in path:
        if isinstance(part, int) and not isinstance(part, bool):
            text += f"[{part}]"
        else:
            key = part if isinstance(part, str) and _PLAIN_KEY.fullmatch(part) else _short(repr(part))
            text += f".{key}" if text else key
    return text or "config"


def _path_order(path: KeyPath) -> tuple[tuple[int, str], ...]:
    return tuple((part, "") if isinstance(part, int) else (0, str(part)) for part in path)


def _found(value: Any) -> str:
    """The value as a reader of YAML knows it, on one line and not too long."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"{str(value).lower()} (a truth value)"
    if isinstance(value, str):
        return f"{_short(repr(value))} (text)"
    return _short(repr(value))


def _short(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def allowed(rule: Mapping[str, Any]) -> str:
    """What a schema allows, in words: `a number above 0 and at most 1`."""
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


def _range(rule: Mapping[str, Any]) -> str:
    low, high = rule.get("minimum"), rule.get("maximum")
    above, below = rule.get("exclusiveMinimum"), rule.get("exclusiveMaximum")
    if low is not None and (high is not None or below is not None):
        return f"from {low} to {high}" if below is None else f"from {low} to below {below}"
    parts = [("of at least", low), ("above", above), ("at most", high), ("below", below)]
    return " and ".join(f"{text} {bound}" for text, bound in parts if bound is not None)


def _closest(word: Any, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word)[:64].lower(), list(choices), n=1)
    return f"did you mean {close[0]}?" if close else ""


def _as_yaml_number(text: str) -> str | None:
    """How to write in YAML the number that `text` means (`5e-5` → `5.0e-5`), or None when it means none.

    YAML 1.1 wants a point in the mantissa and a sign in the exponent, else it reads text.
    """
    number = re.compile(r"\s*([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?)(\d+))?\s*", re.IGNORECASE | re.ASCII)
    match = number.fullmatch(text)
    if match is None or not math.isfinite(float(text)):
        return None
    sign, mantissa, exponent_sign, exponent = match.groups()
    mantissa = f"0{mantissa}" if mantissa.startswith(".") else mantissa
    if exponent is None:
        return f"{sign}{mantissa}"
    return f"{sign}{mantissa if '.' in mantissa else f'{mantissa}.0'}e{exponent_sign or '+'}{exponent}"


def _type_suggestion(value: Any, rule: Mapping[str, Any]) -> str:
    types = rule["type"]
    if isinstance(value, str) and types in ("number", "integer"):
        number = _as_yaml_number(value)
        return f"write {number}: YAML reads {value.strip()!r} as text" if number else ""
    if types == "array" and (isinstance(value, str) or _finite(value)):
        return f"write [{value if _PLAIN_KEY.fullmatch(str(value)) else _short(repr(value))}]"
    if "string" in types and _finite(value):
        return "put it in quotes: YAML reads it as a number"
    if "string" in types and isinstance(value, bool):
        return "put it in quotes: YAML reads it as a truth value"
    return ""


# --- problems found by the schema ---------------------------------------------------------------------------


def _schema_problems(error: Any) -> Iterator[tuple[KeyPath, Problem]]:
    """The problems of one jsonschema error: one per unknown, missing or repeated item, else one."""
    path, value, rule = tuple(error.absolute_path), error.instance, error.schema
    if error.validator == "additionalProperties":
        for key in value:
            if key not in rule["properties"]:
                yield (*path, key), _unknown_key((*path, key), value[key], rule["properties"])
    elif error.validator == "required":
        for key in error.validator_value:
            if key not in value:
                missing, expected = (*path, key), allowed(rule["properties"][key])
                yield (
                    missing,
                    Problem(_path_text(missing), "no such key", expected, "add it (see config.yaml)"),
                )
    elif error.validator == "uniqueItems":
        for index, item in enumerate(value):
            if item in value[:index]:
                yield _problem((*path, index), item, "every value only once")
    else:
        yield _problem(path, value, allowed(rule), _suggestion(error))


def _suggestion(error: Any) -> str:
    if error.validator == "type":
        return _type_suggestion(error.instance, error.schema)
    if error.validator == "enum":
        return _closest(error.instance, map(str, error.validator_value))
    return ""


def _unknown_key(path: KeyPath, value: Any, known: Mapping[str, Any]) -> Problem:
    suggestion = _closest(path[-1], known)
    homes = [home for home in _homes(path[-1]) if home != _path_text(path)]
    if not suggestion and homes:
        suggestion = f"it belongs to {' or '.join(homes)}"
    found, expected = f"this unknown key with {_found(value)}", f"one of the keys {', '.join(known)}"
    return Problem(_path_text(path), found, expected, suggestion)


def _homes(key: Any) -> list[str]:
    """Where else in the config a key of this name exists."""
    sections = schema()["properties"]
    homes = [key] if key in sections else []
    return homes + [f"{name}.{key}" for name in ("teacher", "student") if key in sections[name]["properties"]]


def _problem(path: KeyPath, value: Any, expected: str, suggestion: str = "") -> tuple[KeyPath, Problem]:
    return path, Problem(_path_text(path), _found(value), expected, suggestion)


def _control_characters(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Problem]]:
    """Texts that would break a line of a log or a table: with control characters, in keys as well."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str) and has_control(key):
                where = (*path, key)
                yield where, Problem(_path_text(where), "control characters in this key", "printable characters alone")
            yield from _control_characters(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _control_characters(item, (*path, index))
    elif isinstance(value, str):
        column = len(path) > 2 and path[0] == "custom_tasks" and path[2] in _COLUMNS
        if has_control(value, allowed="\t\n\r\u2028\u2029" if column else ""):
            yield _problem(path, value, "text without control characters" + ("" if column else ", on one line"))


# --- problems that need more than one key, rkd's names or the disk ------------------------------------------


@dataclass(frozen=True)
class _Model:
    """What the disk says about the teacher or the student; no facts when it is wrong or on the hub."""

    source: ModelSource | None = None
    facts: Facts = field(default_factory=Facts)
    error: str = ""

    @classmethod
    def read(cls, reference: str | None) -> "_Model":
        try:
            source = model_source.parse(reference) if reference is not None else None
            fields = source.read_config() if source is not None else None
            if source is not None and (folder := source.folder()) is not None:
                files.check_weights(folder)
            return cls(source, files.facts(fields or {}))
        except RkdError as error:
            return cls(error=" ".join(str(error).split()))

    @property
    def kind(self) -> str | None:
        return self.source.kind if self.source else None

    @property
    def folder(self) -> Path | None:
        return self.source.folder() if self.source else None

    @property
    def depth(self) -> int | None:
        if self.source and self.source.kind == "teacher-layers":
            return len(self.source.layers)
        return self.facts.depth


class _Crosscheck:
    """The checks on one config; a value with a problem of its own is left out, so none meets a wrong type."""

    def __init__(self, config: Config, bad: frozenset[KeyPath]) -> None:
        self.config = config
        self.bad = bad
        variants = config.get("variants")
        items = variants.items() if isinstance(variants, dict) else ()
        given = {name: overrides for name, overrides in items if isinstance(overrides, dict)}
        # Variants with a student of their own are checked apart, each with that student in the place of the config's.
        self.other_students = {name: overrides for name, overrides in given.items() if "student_model" in overrides}
        self.variants = {name: overrides for name, overrides in given.items() if name not in self.other_students}
        self.teacher = _Model.read(self.get("teacher_model"))
        if self.teacher.kind == "teacher-layers":
            self.teacher = _Model(error="only a student can be cut from a teacher")
        self.student = _Model.read(self.get("student_model"))

    def problems(self) -> Iterator[tuple[KeyPath, Problem]]:
        yield from self._tasks()
        yield from self.custom_tasks()
        yield from self._glue_dir()
        yield from self._variant_names()
        yield from self._unread_overrides()
        yield from self._accumulation()
        yield from self._references()
        yield from self._revisions()
        yield from self._checksums()
        yield from self._teacher_layers()
        yield from self._vocabularies()
        yield from self._reading()
        yield from self._classifiers()
        yield from self._positions()
        yield from self._widths()
        yield from self._repeated_layers()
        yield from self._layer_maps()
        yield from self._last_layers()
        yield from self._inner_loops()
        for name in self.other_students:
            yield from self._other_student(name)

    def _other_student(self, name: str) -> Iterator[tuple[KeyPath, Problem]]:
        place: KeyPath = ("variants", name, "student_model")
        overrides = dict(self.other_students[name])
        student = overrides.pop("student_model")
        if place in self.bad:
            return
        apart = {
            **self.config,
            **{"student_model": student, "student_revision": None, "student_sha256": None},
            "variants": {name: overrides},
        }
        for path, problem in _Crosscheck(apart, self.bad - {("student_model",)}).problems():
            if path[:2] == ("variants", name):
                yield path, problem
            elif path[0] in ("student_model", "student", "max_length"):
                text = (
                    f"{_found(student)} with {problem.path} {problem.found}"
                    if path[0] != "student_model"
                    else problem.found
                )
                yield place, Problem(_path_text(place), text, problem.expected, problem.suggestion)

    def get(self, *path: Any) -> Any:
        """The value at `path`, or None when it, something above it or something in it is missing or wrong."""
        if any(bad[: len(path)] == path or path[: len(bad)] == bad for bad in self.bad):
            return None
        value: Any = self.config
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return None
            value = value[key]
        return value

    def option(self, variant: str, key: str) -> tuple[KeyPath, Any]:
        """Where the effective option of a variant is written, and its value."""
        path = ("variants", variant, key) if key in self.variants[variant] else ("student", key)
        return path, self.get(*path)

    def facts(self) -> dict[str, MethodFacts]:
        """What is known of the methods of the variants, by variant."""
        methods = {name: self.get("variants", name, "method") for name in self.variants}
        return {name: METHODS[method] for name, method in methods.items() if method in METHODS}

    def readers(self, key: str) -> list[str]:
        """The variants whose method reads a distillation option."""
        return [name for name, facts in self.facts().items() if key in facts.options]

    def _tasks(self) -> Iterator[tuple[KeyPath, Problem]]:
        tasks, own = self.config.get("tasks"), self.config.get("custom_tasks")
        known = [*TRAINABLE_TASKS, *(map(str, own) if isinstance(own, dict) else ())]
        for index, task in enumerate(tasks if isinstance(tasks, list) else ()):
            if isinstance(task, str) and task not in known:
                ax = "ax is predicted by the mnli models: write mnli"
                hint = ax if task == "ax" else _closest(task, known)
                yield _problem(("tasks", index), task, f"one of {', '.join(known)}", hint)

    def custom_tasks(self, files: bool = True) -> Iterator[tuple[KeyPath, Problem]]:
        entries = self.config.get("custom_tasks")
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            path: KeyPath = ("custom_tasks", name)
            yield from _name_problems(path, {**dict.fromkeys(TASKS, "the GLUE task"), **_RESERVED_TASKS})
            if not isinstance(entry, dict):
                continue
            if ("labels" in entry) == ("scores" in entry):
                keys = "both labels and scores" if "labels" in entry else "neither labels nor scores"
                yield path, Problem(_path_text(path), keys, "labels (classification) or scores (regression)")
            else:
                yield from self._own_metrics(path, entry)
            if files:
                yield from self._own_files(path, name in (self.get("tasks") or ()))
            text, label = self.get(*path, "text"), self.get(*path, "label")
            if text and label in text:
                where = (*path, "label")
                yield where, Problem(_path_text(where), repr(label), "another column than those of text")

    def _own_files(self, path: KeyPath, runs: bool) -> Iterator[tuple[KeyPath, Problem]]:
        """Files that are not there; of a task that runs, those without its columns, too."""
        text, label = self.get(*path, "text"), self.get(*path, "label")
        for key in ("train", "dev", "test"):
            file = self.get(*path, key)
            if file is None:
                continue
            if problem := file_problem((*path, key), file):
                yield (*path, key), problem
            elif runs and text and label and (reason := _column_problem(file, tuple(text), label, key == "test")):
                yield _problem((*path, key), file, "a file with the columns of text and label", reason)

    def _own_metrics(self, path: KeyPath, entry: Config) -> Iterator[tuple[KeyPath, Problem]]:
        """Metrics of the other kind of task, a primary_metrics that is not computed, an empty range, equal names."""
        labels, scores = self.get(*path, "labels"), self.get(*path, "scores")
        classes = 0 if "scores" in entry else len(labels or ()) or None
        fits = [name for name, facts in METRICS.items() if facts.suits(classes)]
        for key in ("metrics", "primary_metrics"):
            for index, name in enumerate(self.get(*path, key) or ()):
                if name not in fits:
                    yield _problem((*path, key, index), name, f"one of {', '.join(fits)} for this task")
        computed = self.get(*path, "metrics") or fits
        for index, name in enumerate(self.get(*path, "primary_metrics") or ()):
            if name in fits and name not in computed:
                yield _problem(
                    (*path, "primary_metrics", index), name, f"one of the task's metrics: {', '.join(computed)}"
                )
        if isinstance(scores, list) and scores[0] >= scores[1]:
            yield _problem((*path, "scores"), scores, "a lowest score below the highest")
        names = [look(label) for label in labels or ()]
        for index, name in enumerate(names):
            if name in names[:index]:
                where, first = (*path, "labels", index), labels[names.index(name)]
                found = f"{labels[index]!r}, which is one label with {first!r}"
                yield where, Problem(_path_text(where), found, "every label only once")
            elif not name:
                yield _problem((*path, "labels", index), labels[index], "a name that is not blank")

    def _glue_dir(self) -> Iterator[tuple[KeyPath, Problem]]:
        folder = self.get("glue_dir")
        if folder is not None and not os.path.isdir(os.path.expanduser(folder)):
            there = os.path.exists(os.path.expanduser(folder))
            hint = "this is no folder" if there else "there is nothing at this path"
            yield _problem(("glue_dir",), folder, "an existing folder, or null", hint)

    def _variant_names(self) -> Iterator[tuple[KeyPath, Problem]]:
        for name in self.variants:
            yield from _name_problems(("variants", name), _RESERVED_VARIANTS)

    def _unread_overrides(self) -> Iterator[tuple[KeyPath, Problem]]:
        for name, overrides in self.variants.items():
            method = self.get("variants", name, "method")
            for key in _distillation_options() if method in METHODS else ():
                if key in overrides and key not in METHODS[method].options:
                    reads = ", ".join(METHODS[method].options) or "no distillation option"
                    readers = ", ".join(other for other, facts in METHODS.items() if key in facts.options)
                    expected = f"no {key} here: method {method} reads {reads}"
                    hint = f"remove it, or choose a method that reads it ({readers})"
                    yield _problem(("variants", name, key), overrides[key], expected, hint)

    def _accumulation(self) -> Iterator[tuple[KeyPath, Problem]]:
        keys = ("gradient_accumulation", "batch_size")
        pairs = [[((role, key), self.get(role, key)) for key in keys] for role in ("teacher", "student")]
        pairs += [
            [self.option(name, key) for key in keys]
            for name, overrides in self.variants.items()
            if any(key in overrides for key in keys)
        ]
        for (parts_path, parts), (batch_path, batch) in pairs:
            if parts is None or batch is None or batch % parts == 0:
                continue
            # Blame what the variant overrides: the other value is right for the rows that do not.
            if len(parts_path) >= len(batch_path):
                yield _problem(parts_path, parts, f"a divisor of batch_size {batch}")
            else:
                yield _problem(batch_path, batch, f"a multiple of gradient_accumulation {parts}")

    def _references(self) -> Iterator[tuple[KeyPath, Problem]]:
        for key, model in (("teacher_model", self.teacher), ("student_model", self.student)):
            if model.error:
                allowed = schema()["properties"][key]["x-allowed"]
                yield _problem((key,), self.get(key), allowed, model.error)

    def _revisions(self) -> Iterator[tuple[KeyPath, Problem]]:
        for role, model in (("teacher", self.teacher), ("student", self.student)):
            key, named = f"{role}_revision", model.source.revision if model.source else None
            given = self.get(key)
            if named is not None and given is not None and given != named:
                yield _problem((key,), given, f"null, or {named}, which {role}_model names")

    def _checksums(self) -> Iterator[tuple[KeyPath, Problem]]:
        for role, model in (("teacher", self.teacher), ("student", self.student)):
            key = f"{role}_sha256"
            source, digest = model.source, self.get(key)
            if source is None or (key,) in self.bad:
                continue
            known = source.known_sha256()
            expected = ""
            if source.kind == "package" and known is None and digest is None:
                expected = f"the sha256 of model.safetensors in {source.location}, which rkd does not know"
            elif known is not None and digest not in (None, known):
                expected = f"null, or {known}, which rkd knows for {source.location}"
            elif source.kind == "hub" and digest is not None:
                expected = f"null: a model on the hub is pinned by {role}_revision"
            elif source.kind in ("config", "teacher-layers") and digest is not None:
                expected = f"null: {self.get(f'{role}_model')} has no weights file of its own"
            if expected:
                yield _problem((key,), digest, expected)

    def _teacher_layers(self) -> Iterator[tuple[KeyPath, Problem]]:
        source, depth = self.student.source, self.teacher.depth
        if source is not None and depth is not None and any(layer >= depth for layer in source.layers):
            expected = f"layers from 0 to {depth - 1}: the teacher has {depth}"
            yield _problem(("student_model",), self.get("student_model"), expected)

    def _vocabularies(self) -> Iterator[tuple[KeyPath, Problem]]:
        path, kinds = ("student_model",), (self.teacher.kind, self.student.kind)
        if None in kinds or kinds == ("config", "config") or self.student.kind == "teacher-layers":
            return  # two random initialisations share the vocabulary that is built for them
        if self.teacher.kind == "config":
            expected = "a *.json model config, as the teacher is one: a vocabulary is built for both"
            yield _problem(path, self.get(*path), expected)
        ours, theirs = self.student.facts.vocabulary, self.teacher.facts.vocabulary
        if self.teacher.kind != "config" and ours is not None and theirs is not None and ours != theirs:
            found = f"{_found(self.get(*path))} with vocab_size {ours}"
            expected = f"a model with the teacher's {theirs}: both read the same tokens"
            yield path, Problem(_path_text(path), found, expected)

    def _reading(self) -> Iterator[tuple[KeyPath, Problem]]:
        """What a model cannot read, as its files tell; `rkd.models.loading.check_reading` asks the model."""
        try:
            tokens = self._tokens()
        except RkdError as error:
            allowed = "a model with its tokenizer: all models read what the teacher's writes"
            yield _problem(("teacher_model",), self.get("teacher_model"), allowed, " ".join(str(error).split()))
            return
        built = self.teacher.kind == "config"
        for role, model in (("teacher", self.teacher), ("student", self.student)):
            path, rows = (f"{role}_model",), model.facts.vocabulary
            found = _found(self.get(*path))
            highest = max(tokens.values()) if tokens else 0
            if rows is not None and rows <= highest and model.kind != "config":
                expected = f"more than {highest}: the teacher's tokenizer has ids up to that"
                yield path, Problem(_path_text(path), f"{found} with vocab_size {rows}", expected)
            # The vocabulary that is built is BERT's: padding is token 0, the second text of a pair is of type 1.
            if built and model.facts.pad_token_id not in (None, 0):
                expected = "0, or none: the padding of the vocabulary that is built"
                yield path, Problem(_path_text(path), f"{found} with pad_token_id {model.facts.pad_token_id}", expected)
            if built and model.facts.token_types == 1 and (pair := self._pair()):
                expected = f"at least 2: the examples of {pair} are pairs of texts"
                yield path, Problem(_path_text(path), f"{found} with type_vocab_size 1", expected)
        yield from self._same_tokens(tokens)

    def _tokens(self) -> dict[str, int] | None:
        """The teacher's vocabulary where its files tell it."""
        if (folder := self.teacher.folder) is None:
            return None
        files.check_tokenizer(folder)
        return files.vocabulary(folder)

    def _same_tokens(self, theirs: Mapping[str, int] | None) -> Iterator[tuple[KeyPath, Problem]]:
        folder, path = self.student.folder, ("student_model",)
        try:
            ours = files.vocabulary(folder) if folder is not None else None
        except RkdError as error:
            yield _problem(path, self.get(*path), "a model whose files are whole", " ".join(str(error).split()))
            return
        if ours is not None and theirs is not None and ours != theirs:
            token, index = min(ours.items() ^ theirs.items(), key=lambda item: (item[1], item[0]))
            expected = f"a model with the teacher's vocabulary; the first difference is token {token!r}, id {index}"
            yield _problem(path, self.get(*path), expected)

    def _pair(self) -> str | None:
        """A task of the config whose examples are pairs."""
        for name in self.get("tasks") or ():
            text = self.get("custom_tasks", name, "text")
            if TASKS[name].pair if name in TASKS else isinstance(text, list) and len(text) == 2:
                return str(name)
        return None

    def _classifiers(self) -> Iterator[tuple[KeyPath, Problem]]:
        """Models that were fine-tuned for other labels."""
        for role, model in (("teacher", self.teacher), ("student", self.student)):
            found = files.outputs(model.folder) if model.folder is not None else None
            for name in self.get("tasks") or () if found is not None else ():
                labels = self.get("custom_tasks", name, "labels")
                count = TASKS[name].num_labels if name in TASKS else len(labels or [0])
                if found != count:
                    path = (f"{role}_model",)
                    what = f"{_found(self.get(*path))} with a classifier of {found} outputs"
                    expected = f"one with the {count} of {name}, or a model without a classifier"
                    yield path, Problem(_path_text(path), what, expected)
                    break

    def _positions(self) -> Iterator[tuple[KeyPath, Problem]]:
        length = self.get("max_length")
        for role, model in (("teacher", self.teacher), ("student", self.student)):
            limit = model.facts.positions
            if length is not None and limit is not None and length > limit:
                yield _problem(("max_length",), length, f"at most {limit}, the positions of {role}_model")

    def _widths(self) -> Iterator[tuple[KeyPath, Problem]]:
        ours, theirs = self.student.facts.width, self.teacher.facts.width
        reasons = [f"{name} {facts.same_width}" for name, facts in self.facts().items() if facts.same_width]
        if ours is not None and theirs is not None and ours != theirs and reasons:
            path = ("student_model",)
            found = f"{_found(self.get(*path))} with width {ours}"
            expected = f"the teacher's width {theirs}: {', '.join(reasons)}"
            yield path, Problem(_path_text(path), found, expected)

    def _last_layers(self) -> Iterator[tuple[KeyPath, Problem]]:
        names = [name for name, facts in self.facts().items() if facts.unmatched_layers]
        if self.student.depth == 1 and names:
            found = f"{_found(self.get('student_model'))} with 1 layer"
            expected = f"at least 2 layers: {', '.join(names)} leaves the last one out"
            yield ("student_model",), Problem("student_model", found, expected)

    def _inner_loops(self) -> Iterator[tuple[KeyPath, Problem]]:
        for name in self.readers("outer_target"):
            outer_target = self.option(name, "outer_target")[1]
            for key, default in (("inner_steps", 1), ("inner_batch", "same")):
                path, value = self.option(name, key)
                if outer_target in ("student", "initial") and value not in (None, default):
                    expected = f"{default}: with outer_target {outer_target}, {name} makes no inner update"
                    yield _problem(path, value, expected)

    def _repeated_layers(self) -> Iterator[tuple[KeyPath, Problem]]:
        sections = [("student",), *(("variants", name) for name in self.variants)]
        for path in [(*section, "layer_map") for section in sections]:
            layer_map = self.get(*path)
            layers = [layer for group in layer_map for layer in group] if isinstance(layer_map, list) else []
            if len(set(layers)) < len(layers):
                yield _problem(path, layer_map, "every teacher layer only once: one student layer at most pulls it")

    def _layer_maps(self) -> Iterator[tuple[KeyPath, Problem]]:
        student, teacher = self.student.depth, self.teacher.depth
        if student is None or teacher is None:
            return
        for name in self.readers("layer_map"):
            path, layer_map = self.option(name, "layer_map")
            if layer_map is None:
                continue
            method = self.get("variants", name, "method")
            expected = _fitting_layer_map(layer_map, student, teacher)
            expected = expected or _one_to_one_layer_map(layer_map, student, teacher, method)
            if expected:
                yield _problem(path, layer_map, expected)


def _name_problems(path: KeyPath, reserved: Mapping[str, str]) -> Iterator[tuple[KeyPath, Problem]]:
    """The last key of a path as a name: its spelling, and that it stands for nothing else in the results."""
    name = path[-1]
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        hint = "" if isinstance(name, str) else "put the name in quotes"
        yield path, Problem(_path_text(path), f"the name {_found(name)}", _A_NAME, hint)
    elif name in reserved:
        expected = f"another name: in the results this is {reserved[name]}"
        yield path, Problem(_path_text(path), f"the name {_found(name)}", expected)


def _one_to_one_layer_map(layer_map: str | list[list[int]], student: int, teacher: int, method: str) -> str | None:
    """What is expected instead of this fitting layer map by a method that compares layer with layer."""
    if not METHODS[method].one_to_one:
        return None
    if isinstance(layer_map, list):
        compared = layer_map[: student - METHODS[method].unmatched_layers]
        several = any(len(layers) != 1 for layers in compared)
    else:
        several = layer_map == "both" and teacher > student
    return f"exactly one teacher layer per student layer: {method} compares layer with layer" if several else None


def _ablation_problems(config: Config) -> dict[KeyPath, Problem]:
    """Problems of the ablations of a config that is good otherwise.

    The variants that they make are checked as if they stood in the config, and what is wrong is told where their
    values stand.
    """
    problems: dict[KeyPath, Problem] = dict(_axis_problems(config))
    if problems or not config["ablations"]:
        return problems
    config = _with_number_types(config)
    variants, cells = expand(config)
    for path, problem in _repeated_cells(cells):
        problems.setdefault(path, problem)
    made = {**config, "variants": variants, "ablations": {}}
    for error in _validator().iter_errors(made):
        for path, problem in _schema_problems(error):
            problems.setdefault(path, problem)
    for path, problem in _Crosscheck(made, frozenset(problems)).problems():
        problems.setdefault(path, problem)
    where = {cell.variant: ("ablations", *cell.key) for cell in reversed(cells)}
    return dict(_moved(path, problem, where) for path, problem in problems.items())


def _moved(path: KeyPath, problem: Problem, where: Mapping[str, KeyPath]) -> tuple[KeyPath, Problem]:
    """A problem of a variant that an ablation made, told at the ablation's value."""
    if path[0] != "variants" or path[1] not in where:
        return path, problem
    path = where[path[1]]
    return path, Problem(_path_text(path), problem.found, problem.expected, problem.suggestion)


def _repeated_cells(cells: Iterable[Cell]) -> Iterator[tuple[KeyPath, Problem]]:
    """Values of an axis that make the same run as one before them."""
    first: dict[tuple[str, str], KeyPath] = {}
    for cell in cells:
        path = ("ablations", *cell.key)
        other = first.setdefault((cell.axis, cell.variant), path)
        if other != path:
            yield (
                path,
                Problem(_path_text(path), f"the same run as {_path_text(other)}", "a value that makes another run"),
            )


def _axis_problems(config: Config) -> Iterator[tuple[KeyPath, Problem]]:
    variants = config["variants"]
    for name, axis in config["ablations"].items():
        path: KeyPath = ("ablations", name)
        # Snakemake's targets: ablation_NAME of an axis, and TASK_all of a task.
        target, taken = f"ablation_{name}", [f"{task}_all" for task in config["tasks"]]
        yield from _name_problems(path, {name: f"the target {target} of a task"} if target in taken else {})
        if axis["variant"] not in variants:
            hint = _closest(axis["variant"], variants)
            yield _problem((*path, "variant"), axis["variant"], f"one of {', '.join(variants)}", hint)
        if ("values" in axis) == ("settings" in axis) or ("values" in axis) != ("parameter" in axis):
            keys = ", ".join(key for key in ("parameter", "values", "settings") if key in axis) or "none of them"
            yield path, Problem(_path_text(path), keys, "either parameter and values, or settings")
        elif axis["variant"] in variants:
            overrides = variants[axis["variant"]]
            for index, value in enumerate(axis.get("values", ())):
                yield from _change_problems(config, overrides, {axis["parameter"]: value}, (*path, "values", index))
            for setting, changes in axis.get("settings", {}).items():
                yield from _name_problems((*path, "settings", setting), {})
                yield from _change_problems(config, overrides, changes, (*path, "settings", setting))
        # An axis may name tasks that this run leaves out, so that --config 'tasks=[mrpc]' is enough to leave them out.
        known = [*TRAINABLE_TASKS, *config.get("custom_tasks", ())]
        for index, task in enumerate(axis.get("tasks", ())):
            if task not in known:
                yield _problem((*path, "tasks", index), task, f"one of {', '.join(known)}", _closest(task, known))


def _change_problems(
    config: Config, overrides: Mapping[str, Any], changes: Mapping[str, Any], path: KeyPath
) -> Iterator[tuple[KeyPath, Problem]]:
    """What an axis changes at one of its values, at `path`: a parameter that no variant has, one that nothing would
    read, so that its values would all be one run, or a value that is none of the parameter's.
    """
    method, rules = overrides["method"], _variant_keys()
    whole = {**config["student"], **overrides, **changes}
    for key, value in changes.items():
        at_value = path if path[-2] == "values" else (*path, key)
        at_key = (*path[:-2], "parameter") if path[-2] == "values" else at_value
        if key not in rules:
            yield _problem(at_key, key, f"one of {', '.join(rules)}", _closest(key, rules))
        elif key in _distillation_options() and key not in METHODS[method].options:
            reads = ", ".join(METHODS[method].options) or "no distillation option"
            yield _problem(at_key, key, f"another key: method {method} reads {reads}")
        elif key not in without_unread(whole):
            other, needed = READ_WITH[key]
            expected = f"another key: {key} is read with {other} {needed} alone, here {other} is {whole[other]}"
            yield _problem(at_key, key, expected)
        else:
            for error in _validator().evolve(schema=rules[key]).iter_errors(value):
                for inside, problem in _schema_problems(error):
                    where = (*at_value, *inside)
                    yield where, Problem(_path_text(where), problem.found, problem.expected, problem.suggestion)


def _variant_keys() -> dict[str, Any]:
    """What a variant may override, by name: the rule of its value."""
    rules: dict[str, Any] = schema()["properties"]["variants"]["additionalProperties"]["properties"]
    return {key: rule for key, rule in rules.items() if key != "method"}


def _distillation_options() -> list[str]:
    """The options that only some methods read: those of student that teacher has not."""
    sections = schema()["properties"]
    return [key for key in sections["student"]["properties"] if key not in sections["teacher"]["properties"]]


def _fitting_layer_map(layer_map: str | list[list[int]], student: int, teacher: int) -> str | None:
    """What is expected instead of this layer map at these depths, or None when it fits."""
    depths = f"{student} student and {teacher} teacher layers"
    if student > teacher:
        return f"a student no deeper than its teacher: no map fits {depths}"
    if isinstance(layer_map, list):
        if len(layer_map) != student:
            return f"{student} lists, one per student layer (empty where it is mapped to none)"
        highest = max((layer for layers in layer_map for layer in layers), default=0)
        return f"teacher layers from 0 to {teacher - 1}" if highest >= teacher else None
    if layer_map in ("skip", "both") and teacher % student:
        return f"first, last or a list for {depths}: {layer_map} needs a multiple of the student's depth"
    return None
