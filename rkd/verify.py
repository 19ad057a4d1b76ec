"""Do results still match what they say of themselves? Behind `rkd verify`. No torch.

Three links are checked, each by doing the work again:

| of what        | against what                                                                                  |
|----------------|-----------------------------------------------------------------------------------------------|
| files of a run | the SHA-256 that its run.json lists; the spec there against the folder's name                 |
| metrics        | the metrics of predictions.parquet, computed anew                                             |
| tables         | the SHA-256 of their inputs, and the table that their own command makes of these, by its cells |

What contradicts its record is a mismatch. What is no contradiction is told apart: code, data, teachers or packages that
have changed since, and what cannot be checked because a file is not there. The records are not signed: who changes a
file and every record of it goes unseen.
"""

import csv
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from rkd.code_inputs import ROOT, code_digests
from rkd.errors import RkdError
from rkd.metrics import metrics_file
from rkd.report.collect import TEACHER
from rkd.runtime import jsonable, sha256
from rkd.tasks import get

MISMATCH, CHANGED, UNCHECKED = "mismatch", "changed since", "not checked"
_TITLES = {MISMATCH: "does not match", CHANGED: "changed since", UNCHECKED: "not checked"}
# Scripts that a sidecar may name: nothing else is ever run because a results folder says so.
_TABLE_SCRIPT = re.compile(r"workflow_scripts/make_[a-z_]+\.py")
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing that verification has to say of a file; `kind` is MISMATCH, CHANGED or UNCHECKED."""

    kind: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


Findings = Iterator[Finding]


@dataclass(frozen=True)
class Checked:
    """What was verified: numbers of runs, metrics files and tables, and all findings."""

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def mismatches(self) -> list[Finding]:
        """What contradicts its record."""
        return [finding for finding in self.findings if finding.kind == MISMATCH]

    def __str__(self) -> str:
        lines = []
        for kind, title in _TITLES.items():
            # One line for what is the same for many files, such as code that has changed since.
            files: dict[str, list[str]] = defaultdict(list)
            for finding in self.findings:
                if finding.kind == kind:
                    files[finding.text].append(finding.file)
            for text, where in files.items():
                more = f" (and {len(where) - 1} more)" if len(where) > 1 else ""
                lines.append(f"{title}: {where[0]}{more}: {text}")
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        result = f"{len(self.mismatches)} mismatches" if self.mismatches else "no mismatch"
        return "\n".join([*lines, f"verified {counts}: {result}"])


def verify(paths: list[Path]) -> Checked:
    """Verify runs, metrics files and tables.

    Args:
        paths: results folders, folders in them, or single files; of a file that belongs to a run or a table, the whole
            run or table is verified.

    Raises:
        RkdError: a path does not exist or holds nothing that can be verified.
    """
    _sha256.cache_clear()
    units: dict[str, dict[Path, Path]] = {kind: {} for kind in _KINDS}
    for path in paths:
        found = list(_units(path.absolute()))
        if not found:
            raise RkdError(
                f"{path}: {'nothing there can be verified' if path.exists() else 'does not exist'}; expected a results "
                "folder, or a run, a metrics file or a table in one"
            )
        for kind, file, root in found:
            units[kind][file] = root
    findings = [
        finding
        for kind, files in units.items()
        for file, root in files.items()
        for finding in _checked(kind, file, root)
    ]
    return Checked({kind: len(files) for kind, files in units.items()}, tuple(findings))


def _checked(kind: str, file: Path, root: Path) -> Findings:
    """The findings on one record; a record in which things are not of their kind is a finding as well."""
    try:
        yield from _KINDS[kind].check(file, root)
    except (RkdError, OSError, TypeError, AttributeError, KeyError, ValueError) as error:
        yield _finding(MISMATCH, file, f"is no record as this project writes them ({type(error).__name__}: {error})")


def _units(path: Path) -> Iterator[tuple[str, Path, Path]]:
    """The records at or below a path, or the one of the run or table that it belongs to: kind, file, results folder."""
    if path.is_file():
        run = next((folder / "run.json" for folder in path.parents if (folder / "run.json").is_file()), None)
        path = run or path.with_suffix(".json")
    for file in [path] if path.is_file() else sorted(path.rglob("*.json")):
        for kind, (pattern, _) in _KINDS.items():
            if place := pattern.fullmatch(file.as_posix()):
                yield kind, file, Path(place["root"])


# --- runs ---------------------------------------------------------------------------------------------------


def check_run(path: Path, root: Path) -> Findings:
    """Findings on a run.json: the run's outputs and place; whether code, data, teacher and packages are still those."""
    folder, record = path.parent, _json(path)
    if record is None or not isinstance(record.get("spec"), dict):
        yield _finding(MISMATCH, path, "is no run record (a JSON object with a spec)")
        return
    spec = record["spec"]
    if spec.get("own_task"):
        get(str(spec.get("task")), spec["own_task"])  # a task that is not GLUE's is known from here on
    *_, above, row, seed = folder.parts  # students/TASK/VARIANT/seed-N, or teachers/TASK/seed-N
    task, variant = (row, TEACHER) if above == "teachers" else (above, row)
    for key, here in {"task": task, "variant": variant, "seed": int(seed.removeprefix("seed-"))}.items():
        if spec.get(key) != here:
            yield _finding(MISMATCH, path, f"its spec has {key} {spec.get(key)}, its folder {here}")
    if "outputs" not in record:
        yield _finding(UNCHECKED, path, "lists no SHA-256 of outputs")
    yield from _same_files(folder, record.get("outputs", {}), MISMATCH, "run.json")
    data = record.get("data") or {}
    yield from _same_files(root / "data" / str(spec.get("task")), data.get("files", {}), CHANGED, "the run")
    manifest = _json(root / "data" / str(spec.get("task")) / "manifest.json")
    if manifest is not None and (now := manifest.get("sha256")) != data.get("sha256"):
        yield _finding(CHANGED, path, f"data: the manifest's sha256 is {now}, the run's {data.get('sha256')}")
    if record.get("teacher"):
        teacher = root / "teachers" / str(spec.get("task")) / f"seed-{spec.get('seed')}" / "model"
        yield from _same_files(teacher, record["teacher"], CHANGED, "the run")
    yield from _same_code(path, record.get("code"), "workflow_scripts/train.py", f"rkd.methods.{spec.get('method')}")
    for name, version in (record.get("packages") or {}).items():
        if (installed := _installed(name)) != version:
            yield _finding(CHANGED, path, f"package {name}: {installed} is installed, the run had {version}")


def _same_files(folder: Path, recorded: Mapping[str, str], kind: str, who: str) -> Findings:
    """Whether files have the recorded content; `who` recorded it."""
    for name, digest in recorded.items():
        file = folder / name
        if not file.is_file():
            yield _finding(UNCHECKED, file, "is not there")
        elif (found := _sha256(file)) != digest:
            yield _finding(kind, file, f"sha256 is {found}; {who} recorded {digest}")


def _same_code(path: Path, recorded: Mapping[str, str] | None, script: str, *modules: str) -> Findings:
    try:
        now = code_digests(script, *modules)
    except FileNotFoundError:
        now = {}
    if not recorded or not now:
        yield _finding(UNCHECKED, path, "its code: no digests to compare")
    elif changed := sorted(name for name in {*recorded, *now} if recorded.get(name) != now.get(name)):
        yield _finding(CHANGED, path, f"code: {', '.join(changed)}")


# --- metrics ------------------------------------------------------------------------------------------------


def check_metrics(path: Path, root: Path) -> Findings:
    """Findings on a metrics file: the numbers that its predictions give."""
    import pandas as pd

    recorded = _json(path)
    if recorded is None:
        yield _finding(MISMATCH, path, "is no JSON object")
        return
    task, variant, seed = path.parent.parent.name, path.parent.name, path.stem
    run = root / "teachers" / task / seed if variant == TEACHER else root / "students" / task / variant / seed
    record, predictions = _json(run / "run.json") or {}, run / "predictions.parquet"
    listed, ours = (record.get("outputs") or {}).get(predictions.name), recorded.get("predictions_sha256")
    if listed and ours and listed != ours:
        yield _finding(MISMATCH, path, f"made from predictions with sha256 {ours}; the run's have {listed}")
    if not predictions.is_file():
        yield _finding(UNCHECKED, predictions, "is not there")
        return
    try:
        frame = pd.read_parquet(predictions, columns=["split", "idx", "label", "prediction"])
        made = jsonable(metrics_file(recorded, frame))
    except (RkdError, OSError, ValueError, KeyError) as error:
        yield _finding(MISMATCH, path, f"its predictions give no metrics: {error}")
        return
    place = {"task": task, "variant": variant, "seed": int(seed.removeprefix("seed-"))}
    expected = {**made, **place, "predictions_sha256": _sha256(predictions)}
    if ours is None:
        del expected["predictions_sha256"]
    yield from _differences(path, recorded, expected, "its predictions give")


# --- tables -------------------------------------------------------------------------------------------------


def check_table(path: Path, root: Path) -> Findings:
    """Findings on a table, named by its sidecar JSON: the inputs that it was made from, and all that they give."""
    sidecar = _json(path)
    made = (sidecar or {}).get("origin")
    if sidecar is None or (made is not None and not _is_origin(made)):
        yield _finding(
            MISMATCH, path, "is no sidecar of a table (a JSON object; in `origin`, command, inputs and code)"
        )
        return
    if made is None:
        yield _finding(UNCHECKED, path, "does not say how it was made")
        return
    inputs = {file.removeprefix("results/"): digest for file, digest in made["inputs"].items()}
    findings = list(_same_files(root, inputs, MISMATCH, f"{path.name}, made from it,"))
    yield from findings
    yield from _same_code(path, made["code"], made["command"][0])
    if not findings:
        yield from _same_table(path, root, made["command"])


def _is_origin(made: Any) -> bool:
    command = made.get("command") if isinstance(made, dict) else None
    return (
        isinstance(command, list)
        and bool(command)
        and all(isinstance(word, str) for word in command)
        and _TABLE_SCRIPT.fullmatch(command[0]) is not None
        and "--out-dir" in command[:-1]
        and all(isinstance(made.get(key), dict) for key in ("inputs", "code"))
    )


def _same_table(path: Path, root: Path, command: list[str]) -> Findings:
    """The table's files against those that its command makes now, in a folder of its own that sees these results."""
    script, *arguments = command
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "results").symlink_to(root)
        # Whatever the sidecar says, nothing is written elsewhere: of an option's values the last one counts.
        words = [sys.executable, str(ROOT / script), *arguments, "--out-dir", "made"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        made_files = sorted((Path(folder) / "made").glob("*"))
        if result.returncode or not made_files:
            told = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
            yield _finding(MISMATCH, path, f"its command makes no table of its inputs: {told}")
            return
        for made in made_files:
            file = path.with_suffix(made.suffix)
            if not file.is_file():
                yield _finding(UNCHECKED, file, "is not there")
            elif made.suffix == ".csv":
                yield from _same_cells(file, made)
            elif made.suffix == ".json":
                found, expected = _json(file) or {}, _json(made) or {}
                for content in (found, expected):
                    content.pop("origin", None)
                yield from _differences(file, found, expected, "its sources give")
            else:
                yield from _same_lines(file, made)


def _same_cells(file: Path, made: Path) -> Findings:
    with file.open(encoding="utf-8", newline="") as ours, made.open(encoding="utf-8", newline="") as theirs:
        found, expected = list(csv.reader(ours)), list(csv.reader(theirs))
    none: list[str] = []
    different = [
        _finding(MISMATCH, file, f"line {number}, {name}: found {cell}; its sources give {true}")
        for number, (row, made_row) in enumerate(zip_longest(found, expected, fillvalue=none), 1)
        for name, cell, true in zip_longest(expected[0], row, made_row, fillvalue="nothing")
        if not _equal(_number(cell), _number(true))
    ]
    yield from _first(file, different)


def _same_lines(file: Path, made: Path) -> Findings:
    found, expected = (path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (file, made))
    different = [
        _finding(MISMATCH, file, f"line {number}: found {ours!r}; its sources give {theirs!r}")
        for number, (ours, theirs) in enumerate(zip_longest(found, expected), 1)
        if ours != theirs
    ]
    yield from _first(file, different)


class _Kind(NamedTuple):
    """A kind of record: where in a results folder it lies, and how it is checked."""

    pattern: re.Pattern[str]
    check: Callable[[Path, Path], Findings]


_KINDS = {
    "runs": _Kind(re.compile(r"(?P<root>.+)/(?:teachers|students/[^/]+)/[^/]+/seed-\d+/run\.json"), check_run),
    "metrics files": _Kind(re.compile(r"(?P<root>.+)/metrics/[^/]+/[^/]+/seed-\d+\.json"), check_metrics),
    "tables": _Kind(re.compile(r"(?P<root>.+)/tables/[^/]+\.json"), check_table),
}


# --- helpers ------------------------------------------------------------------------------------------------


def _differences(file: Path, found: Any, expected: Any, who: str) -> Findings:
    different = [
        _finding(MISMATCH, file, f"{'.'.join(key)}: found {json.dumps(ours)}; {who} {json.dumps(theirs)}")
        for key, ours, theirs in _different(found, expected)
    ]
    yield from _first(file, different)


def _first(file: Path, findings: list[Finding]) -> Findings:
    yield from islice(findings, _SHOWN)
    if len(findings) > _SHOWN:
        yield _finding(MISMATCH, file, f"{len(findings) - _SHOWN} more places differ")


def _different(found: Any, expected: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Where two JSON values differ; numbers may differ in their last digits, as another machine's do."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in dict.fromkeys([*found, *expected]):
            yield from _different(found.get(name), expected.get(name), (*key, name))
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            yield from _different(*pair, (*key, str(index)))
    elif not _equal(found, expected):
        yield key, found, expected


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(found, float) or isinstance(expected, float):
        numbers = all(isinstance(value, int | float) for value in (found, expected))
        return numbers and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == expected) and type(found) is type(expected)


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def _json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _finding(kind: str, path: Path, text: str) -> Finding:
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return Finding(kind, shown.as_posix(), text)


@cache
def _sha256(path: Path) -> str:
    return sha256(path)


@cache
def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# --- command ------------------------------------------------------------------------------------------------
