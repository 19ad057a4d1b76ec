"""Settings that a table, a figure or the page tells beside numbers, against those of the runs that gave these."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.runs.paths import Run, store_of
from rkd.specs.jobs import TEACHER
from rkd.specs.renamed import current
from rkd.utils.json_values import parse_json
from rkd.verify.finding import MISMATCH, UNCHECKED, Findings, equal, finding, first, object_in
from rkd.verify.origin import Origin
from rkd.verify.runs import model_content
from rkd.workflow.plan import Plan


def same_settings(path: Path, folder: Path, made: Origin) -> Findings:
    """Yield findings on printed settings that differ from those of the runs behind the numbers.

    Args:
        path: the record of a table, a figure or the page.
        folder: that of its experiment.
        made: its provenance.
    """
    told, root = [], store_of(folder)
    if (text := made.argument("--spec")) is not None:
        told += list(_told_by_spec(root, folder, current(parse_json(text, path.name)), made.runs()))
    if (text := made.argument("--config")) is not None:
        config = current(parse_json(text, path.name))
        try:
            told += list(_told_by_plan(root, Plan.from_json(json.dumps(config))))
        except (RkdError, KeyError, OSError) as error:  # of another version, or of models that are not here
            yield finding(UNCHECKED, path, f"its config makes no plan here: {error}")
    yield from first(MISMATCH, path, [finding(MISMATCH, path, text) for text in dict.fromkeys(told)])


def _told_by_spec(root: Path, folder: Path, spec: Mapping[str, Any], runs: Collection[Run]) -> Iterator[str]:
    """Yield findings on a table's or figure's spec that contradicts its runs."""
    methods = {variant["name"]: variant["method"] for variant in spec["variants"]}
    methods |= {one["variant"]: methods.get(one["row"]) for one in spec.get("tried", ())}
    selections = {key: rule.split("/") for key, rule in spec["selection"].items()}
    students: dict[str, Mapping[str, Any]] = {}
    for place, record in _records(root, runs):
        found, role = record["spec"], "teacher" if place.variant == TEACHER else "student"
        where, model = place.folder(Path()), found["model"]["source"]
        if (rule := found["training"]["selection"]) not in selections[role]:
            yield f"says selection {spec['selection'][role]} of {role}s; {where} has {rule}"
        if role == "student":
            students[model] = found["model"]
            if (method := methods.get(place.variant)) != found["method"]:
                yield f"says method {method} of {place.variant}; {where} has {found['method']}"
        elif not _same_model(spec["teacher_model"], found["model"]):
            yield f"says teacher {spec['teacher_model']}; {where} has {model}"
    # Rows may start from students of their own; but some start from the one that the caption names.
    if students and not any(_same_model(spec["student_model"], model) for model in students.values()):
        yield f"says student {spec['student_model']}; its runs have {', '.join(sorted(students))}"
    for place in runs:
        task = (object_in(place.metrics(folder)) or {}).get("custom_task")
        if task is not None and task != (known := spec.get("custom_tasks", {}).get(place.task)):
            differing = sorted(key for key in {*task, *(known or {})} if task.get(key) != (known or {}).get(key))
            yield f"says other {', '.join(differing)} of {place.task} than {place.metrics(Path())}"


def _same_model(name: str, recorded: Mapping[str, Any]) -> bool:
    """Return True if a model reference names the recorded model, or a local one of the same content."""
    if name == recorded["source"]:
        return True
    try:
        return recorded.get("content") is not None and model_content(name) == recorded["content"]
    except RkdError:
        return False


def _told_by_plan(root: Path, plan: Plan) -> Iterator[str]:
    """Yield findings on the page's config that contradicts the runs."""
    planned = plan.runs()
    if "experiment" not in plan.config:  # of an earlier version, whose folders have no digests
        planned = [run._replace(digest="") for run in planned]
    for place, record in _records(root, planned):
        teacher = place.variant == TEACHER
        spec = asdict(
            plan.teacher_of_digest(place.task, place.digest, place.seed)
            if teacher
            else plan.student(place.task, place.variant, place.seed)
        )
        expected, found = (
            {
                "method": each["method"],
                "model": each["model"]["source"],
                **{f"training.{key}": value for key, value in each["training"].items()},
                **{f"options.{key}": value for key, value in each["options"].items()},
            }
            for each in (spec, record["spec"])
        )
        for key in expected.keys() & found.keys():  # a setting that only one version knows changed nothing
            if not equal(json.loads(json.dumps(expected[key])), found[key]):
                yield f"says {key} {expected[key]}; {place.folder(Path())} has {found[key]}"


def _records(root: Path, runs: Iterable[Run]) -> Iterator[tuple[Run, dict[str, Any]]]:
    """Yield the existing records of runs and of their teachers, each once."""
    seen: set[Run] = set()
    for run in runs:
        places = [run]
        for place in places:
            record = object_in(place.folder(root) / "run.json") if place not in seen else None
            seen.add(place)
            if record is not None and isinstance(record.get("spec"), dict):
                yield place, record
                inputs = record.get("inputs") or {}
                if place.variant != TEACHER and record.get("teacher") and not inputs.get("learns_from"):
                    digest = str(inputs.get("teacher")) if place.digest else ""
                    places.append(Run(place.task, TEACHER, place.seed, digest))
