"""Tables, figures and the page against their records, their sources, and what their own command makes of these.

The record is the JSON file beside them. Its `origin` (see `rkd.report.provenance`) names command,
inputs, code and outputs.
"""

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from rkd.runs.paths import store_of
from rkd.utils.project import ROOT
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
from rkd.verify.origin import RESULTS, SECTIONS, Origin, Section
from rkd.verify.settings import same_settings

_BINARY = (".pdf", ".png")
_SECONDS = 900  # for one command: no record can hold up the verification
_SHOWN = 40  # characters of a line on each side of the first difference


def check_made(path: Path, root: Path) -> Findings:
    """Yield findings on a table, a figure or the page, named by its record."""
    section, record = path.parent.name, object_in(path)
    # The first version's tables did not say how they were made, nor what was printed.
    if section == "tables" and record is not None and not {"origin", "printed"} & record.keys():
        yield finding(UNCHECKED, path, "does not say how it was made")
        return
    made = None if record is None else Origin.of(section, record)
    if record is None or made is None:
        yield finding(MISMATCH, path, "is no record: expected a JSON object with `origin` (command, inputs and code)")
        return
    kind, store = SECTIONS[section], store_of(root)
    name = made.experiment if store == root else root.name
    expected = kind.value.format(experiment=name and f"{name}/", stem=path.stem)
    if (found := made.argument(kind.option)) != expected:
        yield finding(MISMATCH, path, f"its command writes to {found}; it lies in {expected}")
    yield from _same_outputs(path, made, kind)
    sources = list(same_files(store, made.sources(root), MISMATCH, f"{path.name}, made from it,"))
    code = [
        *same_code(path, made.code, made.command[0]),
        *same_files(ROOT, made.project_files, CHANGED, f"{path.name}, made with it,"),
    ]
    yield from sources
    yield from code
    yield from same_settings(path, root, made)
    if not sources:
        yield from _same_again(path, root, record, made, CHANGED if code else MISMATCH)


def _same_outputs(path: Path, made: Origin, kind: Section) -> Findings:
    """Yield findings on the files beside a record, by the SHA-256 there."""
    if made.outputs is None:
        yield finding(UNCHECKED, path, "does not name the SHA-256 of the files beside it")
        return
    names = {path.with_suffix(suffix).name for suffix in kind.suffixes}
    if names != made.outputs.keys():
        told = ", ".join(made.outputs) or "none"
        yield finding(MISMATCH, path, f"outputs: found {told}; expected {', '.join(sorted(names))}")
    yield from same_files(path.parent, made.outputs, MISMATCH, path.name)


def _same_again(path: Path, root: Path, record: Mapping[str, Any], made: Origin, kind: str) -> Findings:
    """Yield findings on files that differ from what their command makes now, in a separate folder.

    Args:
        kind: of what differs without being known by its SHA-256: other code makes other files.
    """
    section = SECTIONS[path.parent.name]
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
                if new.suffix == ".csv":
                    yield from _same_cells(told, file, new, kind)
                else:
                    yield from _same_lines(told, file, new)


def _as_recorded(file: Path, made: Origin) -> bool:
    return (made.outputs or {}).get(file.name) == digest(file)


def _made_again(folder: Path, root: Path, made: Origin, option: str) -> str:
    """Run a record's command in `folder`, where `made` gets its files; returns what went wrong."""
    _link_results(folder / "results", root, made.experiment)
    citation = made.argument("--citation")
    if citation is not None and PurePosixPath(citation).name == citation:
        (folder / citation).symlink_to(ROOT / citation)
    # Whatever the record says, nothing is written elsewhere: of an option's values the last one counts.
    name = "" if option == "--out-dir" else f"/{PurePosixPath(made.argument(option) or '').name}"
    return _run([str(ROOT / made.command[0]), *made.command[1:], option, f"made{name}"], folder)


def _link_results(place: Path, root: Path, experiment: str) -> None:
    """Make the results of an experiment appear where its commands expect them."""
    store = store_of(root)
    if store != root or not experiment:
        place.symlink_to(store)
        return
    place.mkdir()
    for name, target in {experiment: root, **{name: root / name for name in ("runs", "data")}}.items():
        (place / name).symlink_to(target)


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
    """Yield findings on a record, except on command, code and outputs, which `check_made` covers."""
    ours, theirs = ({**each, "origin": _read_by(each["origin"], found["origin"])} for each in (found, expected))
    yield from differences(kind, file, ours, theirs, "its sources give")


def _read_by(made: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compared part of a provenance: names of keys, and inputs; older records lack project files."""
    inputs = {
        name: known if name.startswith(RESULTS) else ""
        for name, known in made["inputs"].items()
        if name.startswith(RESULTS) or "outputs" in recorded
    }
    return {**{key: "" for key in made if key != "outputs"}, "inputs": inputs}


# Words in tables of earlier versions, by what they are called today.
RENAMED_CELLS = {"headline": "primary_score", "published": "literature"}


_LITERATURE = "literature"


def _same_cells(kind: str, file: Path, made: Path, literature: str) -> Findings:
    """Yield findings on a CSV file that differs from the one that its sources give.

    Args:
        literature: kind of the findings on rows of published numbers, which come from a file of the project.
    """
    with (
        file.open(encoding="utf-8", errors="replace", newline="") as ours,
        made.open(encoding="utf-8", newline="") as theirs,
    ):
        found, expected = list(csv.reader(ours)), list(csv.reader(theirs))
    for told, published in ((kind, False), (literature, True)):
        rows, made_rows = (
            [(number, row) for number, row in enumerate(table, 1) if _of_literature(row) is published]
            for table in (found, expected)
        )
        none: tuple[int, list[str]] = (len(found) + 1, [])
        different = [
            finding(told, file, f"line {number}, {name}: found {cell}; its sources give {true}")
            for (number, row), (_, made_row) in zip_longest(rows, made_rows, fillvalue=none)
            for name, cell, true in zip_longest(expected[0], row, made_row, fillvalue="nothing")
            if not (equal(_number(cell), _number(true)) or RENAMED_CELLS.get(cell) == true)
        ]
        yield from first(told, file, different)


def _of_literature(row: list[str]) -> bool:
    return _LITERATURE in {RENAMED_CELLS.get(cell, cell) for cell in row[1:2]}


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
    """Return the part of a line around its first difference from another."""
    if line is None:
        return "no such line"
    pairs = enumerate(zip(line, other or "", strict=False))
    start = next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(line), len(other or "")))
    shown = line[max(0, start - _SHOWN) : start + _SHOWN]
    return f"{'…' * (start > _SHOWN)}{shown!r}{'…' * (start + _SHOWN < len(line))}"
