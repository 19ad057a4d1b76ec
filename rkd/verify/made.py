"""Tables, figures and the page against their records, their sources, and what their own command makes of these.

The record is the JSON file beside them. Its `origin` (see `rkd.report.provenance`) names command,
inputs, code and outputs.
"""

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from rkd.errors import RkdError
from rkd.specs.renamed import current
from rkd.specs.report import TEACHER
from rkd.verify.earlier import current_command
from rkd.verify.finding import (
    CHANGED,
    MISMATCH,
    UNCHECKED,
    Finding,
    Findings,
    differences,
    digest,
    equal,
    finding,
    first,
    object_in,
    same_code,
    same_files,
)
from rkd.verify.runs import Place
from rkd.workflow.code_digest import ROOT
from rkd.workflow.plan import Plan

MADE = ("tables", "figures", "report")  # the folders of what has such a record
_RESULTS = "results/"


class _Kind(NamedTuple):
    """What a folder of tables, figures or the page holds."""

    script: re.Pattern[str]  # nothing else is ever run because a record says so
    suffixes: tuple[str, ...]  # of the files beside the record
    option: str  # of the script, which says where it writes
    value: str  # of that option in the workflow, by the record's stem


_KINDS = {
    "tables": _Kind(
        re.compile(r"workflow_scripts/make_(?!report|submission)[a-z_]+\.py"),
        (".csv", ".md", ".tex", ".html"),
        "--out-dir",
        "results/tables",
    ),
    "figures": _Kind(re.compile(r"workflow_scripts/plot_[a-z_]+\.py"), (".pdf", ".png"), "--out", "results/figures/{}"),
    "report": _Kind(re.compile(r"workflow_scripts/make_report\.py"), (".html",), "--out", "results/report/{}.html"),
}
_BINARY = (".pdf", ".png")
_SECONDS = 900  # for one command: no record can hold up the verification
_SHOWN = 40  # characters of a line on each side of the first difference
_RUN = re.compile(r"(?:students|metrics)/([^/]+)/([^/]+)/seed-(\d+)\b.*|teachers/([^/]+)/seed-(\d+)/.*")


class Origin(NamedTuple):
    """How a table, a figure or the page was made, as its record tells it."""

    command: list[str]
    inputs: dict[str, str]  # SHA-256 by file
    code: dict[str, str]
    outputs: dict[str, str] | None  # SHA-256 by name; None where the record is older than that

    @classmethod
    def of(cls, section: str, record: Mapping[str, Any]) -> "Origin | None":
        """The origin in a record of `section`, None where there is none that can be checked."""
        made, kind = record.get("origin"), _KINDS[section]
        if not isinstance(made, dict):
            return None
        command, outputs = made.get("command"), made.get("outputs")
        if not isinstance(command, list) or not command:
            return None
        whole = (
            # @FILE would read arguments from any file; a record has them in its place.
            all(isinstance(word, str) and not word.startswith("@") for word in command)
            and kind.script.fullmatch(command[0]) is not None
            and kind.option in command[:-1]
            and all(isinstance(made.get(key), dict) for key in ("inputs", "code"))
            and (outputs is None or isinstance(outputs, dict))
        )
        return cls(current_command(command), made["inputs"], made["code"], outputs) if whole else None

    @property
    def sources(self) -> dict[str, str]:
        """The inputs in the folder of results, by their path in it."""
        return {file.removeprefix(_RESULTS): known for file, known in self.inputs.items() if file.startswith(_RESULTS)}

    @property
    def project_files(self) -> dict[str, str]:
        """The other inputs, such as a style, which come with the code."""
        return {file: known for file, known in self.inputs.items() if not file.startswith(_RESULTS)}

    def argument(self, option: str) -> str | None:
        """What follows an option of the command, None where it has no such option."""
        return self.command[self.command.index(option) + 1] if option in self.command[:-1] else None

    def runs(self) -> dict[Place, None]:
        """The runs that the inputs are of."""
        places = (_RUN.fullmatch(file) for file in self.sources)
        return {
            Place(found[1] or found[4], found[2] or TEACHER, int(found[3] or found[5])): None
            for found in places
            if found is not None
        }


def origin_in(record: Path) -> Origin | None:
    """The origin that a file tells, None where there is none."""
    return Origin.of(record.parent.name, object_in(record) or {})


def check_made(path: Path, root: Path) -> Findings:
    """Findings on a table, a figure or the page, named by its record."""
    section, record = path.parent.name, object_in(path)
    # The first version's tables did not say how they were made, nor what was printed.
    if section == "tables" and record is not None and not {"origin", "printed"} & record.keys():
        yield finding(UNCHECKED, path, "does not say how it was made")
        return
    made = None if record is None else Origin.of(section, record)
    if record is None or made is None:
        yield finding(MISMATCH, path, "is no record: expected a JSON object with `origin` (command, inputs and code)")
        return
    kind = _KINDS[section]
    if (found := made.argument(kind.option)) != (expected := kind.value.format(path.stem)):
        yield finding(MISMATCH, path, f"its command writes to {found}; it lies in {expected}")
    yield from _same_outputs(path, made, kind)
    sources = list(same_files(root, made.sources, MISMATCH, f"{path.name}, made from it,"))
    code = [
        *same_code(path, made.code, made.command[0]),
        *same_files(ROOT, made.project_files, CHANGED, f"{path.name}, made with it,"),
    ]
    yield from sources
    yield from code
    yield from _same_settings(path, root, made)
    if not sources:
        yield from _same_again(path, root, record, made, CHANGED if code else MISMATCH)


def _same_outputs(path: Path, made: Origin, kind: _Kind) -> Findings:
    """Findings on the files beside a record, by the SHA-256 there."""
    if made.outputs is None:
        yield finding(UNCHECKED, path, "does not name the SHA-256 of the files beside it")
        return
    names = {path.with_suffix(suffix).name for suffix in kind.suffixes}
    if names != made.outputs.keys():
        told = ", ".join(made.outputs) or "none"
        yield finding(MISMATCH, path, f"outputs: found {told}; expected {', '.join(sorted(names))}")
    yield from same_files(path.parent, made.outputs, MISMATCH, path.name)


# --- settings -----------------------------------------------------------------------------------------------


def _same_settings(path: Path, root: Path, made: Origin) -> Findings:
    """Findings on settings that are told beside numbers but are not those of the runs which gave them."""
    told = []
    if (text := made.argument("--spec")) is not None:
        told += list(_told_by_spec(root, current(json.loads(text)), made.runs()))
    if (text := made.argument("--config")) is not None:
        try:
            told += list(_told_by_plan(root, Plan(current(json.loads(text)))))
        except (RkdError, KeyError, OSError) as error:  # of another version, or of models that are not here
            yield finding(UNCHECKED, path, f"its config makes no plan here: {error}")
    yield from first(MISMATCH, path, [finding(MISMATCH, path, text) for text in dict.fromkeys(told)])


def _told_by_spec(root: Path, spec: Mapping[str, Any], runs: Iterable[Place]) -> Iterator[str]:
    """What a table's or figure's spec says that its runs do not."""
    methods = {variant["name"]: variant["method"] for variant in spec["variants"]}
    selections = {key: rule.split("/") for key, rule in spec["selection"].items()}
    students = set()
    for place, record in _records(root, runs):
        found, role = record["spec"], "teacher" if place.variant == TEACHER else "student"
        where, model = place.folder(Path()), found["model"]["source"]
        if (rule := found["training"]["selection"]) not in selections[role]:
            yield f"says selection {spec['selection'][role]} of {role}s; {where} has {rule}"
        if role == "student":
            students.add(model)
            if (method := methods.get(place.variant)) != found["method"]:
                yield f"says method {method} of {place.variant}; {where} has {found['method']}"
        elif model != spec["teacher_model"]:
            yield f"says teacher {spec['teacher_model']}; {where} has {model}"
    # Rows may start from students of their own; but some start from the one that the caption names.
    if students and spec["student_model"] not in students:
        yield f"says student {spec['student_model']}; its runs have {', '.join(sorted(students))}"
    for place in runs:
        task = (object_in(place.metrics(root)) or {}).get("custom_task")
        if task is not None and task != (known := spec.get("custom_tasks", {}).get(place.task)):
            differing = sorted(key for key in {*task, *(known or {})} if task.get(key) != (known or {}).get(key))
            yield f"says other {', '.join(differing)} of {place.task} than {place.metrics(Path())}"


def _told_by_plan(root: Path, plan: Plan) -> Iterator[str]:
    """What the page's config says that the runs do not."""
    planned = [Place(*run) for run in plan.runs()]
    for place, record in _records(root, planned):
        teacher = place.variant == TEACHER
        spec = asdict(plan.teacher(place.task, place.seed) if teacher else plan.student(*place))
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


def _records(root: Path, runs: Iterable[Place]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The records of those runs that have one, and of the teachers that they learned from, each once."""
    seen: set[Place] = set()
    for run in runs:
        for place in (run, Place(run.task, TEACHER, run.seed)):
            record = object_in(place.folder(root) / "run.json") if place not in seen else None
            seen.add(place)
            if record is not None and isinstance(record.get("spec"), dict):
                yield place, record


# --- made again ---------------------------------------------------------------------------------------------


def _same_again(path: Path, root: Path, record: Mapping[str, Any], made: Origin, kind: str) -> Findings:
    """Findings on files that are not what their command makes now, in a folder of its own that sees these results.

    Args:
        kind: of what differs without being known by its SHA-256: other code makes other files.
    """
    section = _KINDS[path.parent.name]
    with tempfile.TemporaryDirectory() as folder:
        problem = _made_again(Path(folder), root, made, section.option)
        files = sorted((Path(folder) / "made").glob("*"))
        if problem or not files:
            yield finding(kind, path, f"its command makes nothing of its inputs: {problem or 'no file'}")
            return
        for new in files:
            file = path.with_name(new.name)
            if not file.is_file():
                if new.name not in (made.outputs or {}):
                    yield finding(UNCHECKED, file, "is not there")
            elif new.suffix == ".json":
                yield from _same_record(file, record, object_in(new) or {}, kind)
            elif new.suffix in _BINARY:
                # The last bits of a drawing depend on the machine and its libraries.
                if digest(file) != digest(new) and _as_recorded(file, made):
                    yield finding(CHANGED, file, "is drawn in another way here, of the same sources")
            else:
                # What was recorded with a table, or is a number that no record names, tells on its own.
                told = MISMATCH if made.outputs is None and new.suffix == ".csv" else kind
                told = told if made.outputs is None or _as_recorded(file, made) else MISMATCH
                yield from (_same_cells if new.suffix == ".csv" else _same_lines)(told, file, new)


def _as_recorded(file: Path, made: Origin) -> bool:
    return (made.outputs or {}).get(file.name) == digest(file)


def _made_again(folder: Path, root: Path, made: Origin, option: str) -> str:
    """Run a record's command in `folder`, where `made` gets its files; returns what went wrong."""
    (folder / "results").symlink_to(root)
    citation = made.argument("--citation")
    if citation is not None and PurePosixPath(citation).name == citation:
        (folder / citation).symlink_to(ROOT / citation)
    # Whatever the record says, nothing is written elsewhere: of an option's values the last one counts.
    name = "" if option == "--out-dir" else f"/{PurePosixPath(made.argument(option) or '').name}"
    return _run([str(ROOT / made.command[0]), *made.command[1:], option, f"made{name}"], folder)


def _run(words: list[str], folder: Path) -> str:
    """Run a script of this project with its arguments; returns what went wrong, "" where nothing did."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    run: dict[str, Any] = {"cwd": folder, "env": environment, "timeout": _SECONDS, "input": ""}
    for option in {"--spec", "--config"} & {*words[:-1]}:  # one of them, and perhaps too long for an argument
        place = words.index(option) + 1
        words, run["input"] = [*words[:place], "-", *words[place + 1 :]], words[place]
    try:
        result = subprocess.run(
            [sys.executable, *words], **run, capture_output=True, text=True, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {_SECONDS} s"
    if result.returncode:
        return (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
    return ""


def _same_record(file: Path, found: Mapping[str, Any], expected: Mapping[str, Any], kind: str) -> Findings:
    """Findings on a record but for what `check_made` has seen of its origin: command, code and outputs."""
    ours, theirs = ({**each, "origin": _read_by(each["origin"], found["origin"])} for each in (found, expected))
    yield from differences(kind, file, ours, theirs, "its sources give")


def _read_by(made: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an origin that is compared: names of keys, and inputs; older records have no files of the project."""
    inputs = {
        name: known if name.startswith(_RESULTS) else ""
        for name, known in made["inputs"].items()
        if name.startswith(_RESULTS) or "outputs" in recorded
    }
    return {**{key: "" for key in made if key != "outputs"}, "inputs": inputs}


# What tables of earlier versions call today's "primary_score".
RENAMED_CELLS = {"headline": "primary_score"}


def _same_cells(kind: str, file: Path, made: Path) -> Findings:
    with (
        file.open(encoding="utf-8", errors="replace", newline="") as ours,
        made.open(encoding="utf-8", newline="") as theirs,
    ):
        found, expected = list(csv.reader(ours)), list(csv.reader(theirs))
    none: list[str] = []
    different = [
        finding(kind, file, f"line {number}, {name}: found {cell}; its sources give {true}")
        for number, (row, made_row) in enumerate(zip_longest(found, expected, fillvalue=none), 1)
        for name, cell, true in zip_longest(expected[0], row, made_row, fillvalue="nothing")
        if not equal(_number(RENAMED_CELLS.get(cell, cell)), _number(true))
    ]
    yield from first(kind, file, different)


def _number(cell: str) -> float | str:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if number - number == 0 else cell  # a row may be called nan


def _same_lines(kind: str, file: Path, made: Path) -> Findings:
    found, expected = (path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (file, made))
    different: list[Finding] = [
        finding(kind, file, f"line {number}: found {_near(ours, theirs)}; its sources give {_near(theirs, ours)}")
        for number, (ours, theirs) in enumerate(zip_longest(found, expected), 1)
        if ours != theirs
    ]
    yield from first(kind, file, different)


def _near(line: str | None, other: str | None) -> str:
    """The part of a line in which it begins to differ from another."""
    if line is None:
        return "no such line"
    pairs = enumerate(zip(line, other or "", strict=False))
    start = next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(line), len(other or "")))
    shown = line[max(0, start - _SHOWN) : start + _SHOWN]
    return f"{'…' * (start > _SHOWN)}{shown!r}{'…' * (start + _SHOWN < len(line))}"
