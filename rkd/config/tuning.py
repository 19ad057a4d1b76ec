"""The candidates of tuning: every row of the main table gets the same number of tries. Standard library only."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rkd.config.crosschecks import crosscheck
from rkd.config.problems import KeyPath, Located, Problem, moved, path_text
from rkd.config.schema import Config, with_number_types
from rkd.config.variants import Overrides, changed
from rkd.specs.jobs import TEACHER

ROLES = ("teacher", "student")


@dataclass(frozen=True)
class Candidate:
    """Values to try for a row.

    Attributes:
        row: the row, a variant or `TEACHER`.
        name: the variant that stands for it in paths and rules.
        values: the values by parameter.
        changes: what they change of the row's overrides. The epoch is chosen on held-out training examples, as the
            values will be.
    """

    row: str
    name: str
    values: dict[str, Any]
    changes: Overrides


def candidates(config: Mapping[str, Any]) -> list[Candidate]:
    """Return the candidates of every row, in the order of the config.

    >>> [candidate.name for candidate in candidates(config)][:2]
    ['teacher.tune.learning_rate-0.0002', 'teacher.tune.learning_rate-0.0005']
    """
    found = []
    for row in (TEACHER, *config["variants"]):
        tried = config.get("tune", {}).get("teacher" if row == TEACHER else "student", {})
        for chosen in itertools.product(*tried.values()) if tried else ():
            values = dict(zip(tried, chosen, strict=True))
            label = ".".join(f"{key}-{value}" for key, value in values.items())
            name = f"{row}.tune.{re.sub(r'[^a-z0-9_.]+', '-', label.lower())}"
            settings = {**values, "selection": "held-out"}
            found.append(Candidate(row, name, values, {"teacher": settings} if row == TEACHER else settings))
    return found


def tuning_problems(config: Config) -> Iterator[Located]:
    """Yield the problems of `tune` in a config that is good otherwise."""
    config = with_number_types(config)
    place: KeyPath = ("tune", "seed")
    if (seed := config["tune"]["seed"]) in config["seeds"]:
        expected = "another seed than those of seeds: scores of a run that was chosen among others are optimistic"
        yield place, Problem(path_text(place), str(seed), expected)
    rows = candidates(config)
    students = {one.name: changed(config["variants"][one.row], one.changes) for one in rows if one.row != TEACHER}
    teachers = [{**config["teacher"], **one.changes["teacher"]} for one in rows if one.row == TEACHER]
    if students:
        yield from _problems({**config, "variants": students}, "student", "variants")
    for teacher in teachers:
        yield from _problems({**config, "teacher": teacher}, "teacher", "teacher")


def _problems(config: Config, role: str, section: str) -> Iterator[Located]:
    """Yield the problems of the candidates in a section, at the values to try."""
    for path, problem in crosscheck({**config, "ablations": {}, "per_task": {}}, frozenset()).items():
        if path[0] == section:
            yield moved(problem, ("tune", role, *path[2 if section == "variants" else 1 :]))
