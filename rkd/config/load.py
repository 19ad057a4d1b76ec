"""Reading and checking of a config: every problem in one go, each with its path, what was found and what is allowed.

The keys, their types and ranges are in schema.yaml beside this file. `rkd.config.crosschecks` looks at several keys
together, at rkd's own names and at the disk. Neither torch nor pandas is imported: the Snakefile is parsed with it.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from rkd.config.ablations import ablation_problems
from rkd.config.crosschecks import crosscheck
from rkd.config.custom_tasks import completed, with_labels
from rkd.config.per_task import per_task_problems
from rkd.config.problems import ConfigError, KeyPath, Problem, path_order, shown
from rkd.config.schema import (
    DEPTH,
    Config,
    control_characters,
    plain,
    read_numbers,
    schema_problems,
    with_number_types,
)
from rkd.config.tuning import ROLES, tuning_problems
from rkd.errors import RkdError
from rkd.models import source as model_source
from rkd.utils.escape import one_line

_SCALAR = re.compile(r"[-+]?[0-9]+(\.[0-9]*([eE][-+][0-9]+)?)?|true|false|null")
_DIGITS = 400  # longer numbers are beyond any range, and Python refuses to read them


def load(config: Mapping[str, Any]) -> Config:
    """Check a merged config and return it in normal form, or raise ConfigError with all its problems.

    Normal form: a new plain dict without the entries that an overlay set to null; numbers
    are float where the schema says number, int where it says integer; `~` at the start of a path is expanded;
    the revision of a model written as `NAME@REVISION` stands in its own key, and that of a model that is not on the hub
    is None; the sha256 of a packaged model that rkd knows is filled in, and so are the defaults of custom tasks.

    >>> load(yaml.safe_load(Path("config.yaml").read_text()))["student"]["alpha"]
    0.5
    """
    problems = check(config)
    if problems:
        raise ConfigError(problems)
    normal = with_number_types(_read(config))
    normal["custom_tasks"] = {name: completed(name, entry) for name, entry in normal["custom_tasks"].items()}
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


def check(config: Mapping[str, Any]) -> list[Problem]:
    """All problems of a merged config, sorted by path; an empty list when it is good.

    Reads the disk where models or data are local, never the network. Never raises, whatever the values are.
    """
    given = _read(config)
    problems: dict[KeyPath, Problem] = schema_problems(given)
    for path, problem in control_characters(given):
        problems.setdefault(path, problem)
    if isinstance(given, dict):
        problems = {**crosscheck(given, frozenset(problems)), **problems}
    if not problems:
        problems = dict(per_task_problems(given))
    if not problems:
        problems = ablation_problems(given) or dict(tuning_problems(given))
    return [problems[path] for path in sorted(problems, key=path_order)]


def _read(config: Any) -> Any:
    """Return the config without the entries that an overlay set to null, and with the labels that are columns."""
    given = plain(config)
    if not isinstance(given, dict):
        return given
    for key in ("variants", "per_task", "ablations", "custom_tasks", "unlabelled"):
        if isinstance(section := given.get(key), dict):
            given[key] = {name: entry for name, entry in section.items() if entry is not None}
    if isinstance(custom := given.get("custom_tasks"), dict):
        given["custom_tasks"] = {name: with_labels(entry) for name, entry in custom.items()}
    if isinstance(tune := given.get("tune"), dict):
        for role in (role for role in ROLES if isinstance(tune.get(role), dict)):
            tune[role] = {key: values for key, values in tune[role].items() if values is not None}
    return read_numbers(given)


def restore_cli_types(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with the types that Snakemake's command line drops.

    `--config 'seeds=[1, 2]'` arrives as a list of two texts: below the top level every text that YAML reads as a
    number, a truth value or null becomes that; at the top level Snakemake misses true, false and null.

    >>> restore_cli_types({"seeds": ["1", "2"]})
    {'seeds': [1, 2]}
    """

    def read(value: Any, depth: int) -> Any:
        if depth > DEPTH:  # YAML anchors can be circular; `check` refuses it
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


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Return the keys of a config file, in YAML or JSON.

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
        found = "an empty file, or comments alone" if content is None else shown(content)
        raise RkdError(f"{file}: found {found}; expected keys and values (KEY: VALUE)")
    keys: dict[str, Any] = plain(content)
    return keys


def _expand_homes(config: Config) -> None:
    """Replace `~` at the start of every path of a config in normal form."""

    def expand_in(section: dict[str, Any], *keys: str) -> None:
        for key in keys:
            if isinstance(section.get(key), str):
                section[key] = os.path.expanduser(section[key])

    expand_in(config, "glue_dir", "teacher_model", "student_model")
    for section in config["custom_tasks"].values():
        expand_in(section, "train", "dev", "test", "unlabelled", "soft_labels")
    expand_in(config["unlabelled"], *config["unlabelled"])
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
        if "student_model" in (parameters := axis.get("parameters", {})):
            parameters["student_model"] = [change(value) or value for value in parameters["student_model"]]
