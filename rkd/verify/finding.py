"""Findings of a verification, and the comparisons that its checks share."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.specs.renamed import current
from rkd.utils.files import sha256 as _file_sha256
from rkd.utils.json_values import read_json
from rkd.utils.project import ROOT
from rkd.workflow.code_digest import code_digests

MISMATCH, CHANGED, UNCHECKED = "mismatch", "changed since", "not checked"
SHOWN = 3
# Published results leave these parts out, each as a whole: weights, predictions, logits, prepared data and HTML tables.
_LEFT_OUT = re.compile(
    r"(?P<part>.*/(?:model|teacher|dataset|tokenizer|student-tokenizer))/.*"
    r"|.*/(?:predictions|logits)\.parquet|.*/tables/[^/]*\.html",
    re.DOTALL,
)
_NOTHING = object()  # a key or item that is not there; null is a value


@dataclass(frozen=True)
class Finding:
    """One thing that verification has to say of a file; `kind` is MISMATCH, CHANGED or UNCHECKED."""

    kind: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


Findings = Iterator[Finding]


def finding(kind: str, path: Path, text: str) -> Finding:
    """Return a finding on a file, which is named from the working directory where it lies below it."""
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return Finding(kind, printable(shown.as_posix()), printable(text))


def printable(text: str) -> str:
    """Text of a record as one line: what would break the line, or cannot be printed, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@cache
def object_in(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, with today's keys; None where there is none."""
    try:
        content = current(read_json(path))
    except RkdError:
        return None
    return content if isinstance(content, dict) else None


@cache
def digest(path: Path) -> str:
    """SHA-256 of a file, which is read once in a verification."""
    return _file_sha256(path)


@cache
def installed(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def same_files(folder: Path, recorded: Mapping[str, str], kind: str, who: str) -> Findings:
    """Yield findings on files that are missing or lack the content that `who` recorded.

    A file whose whole part published results leave out cannot be checked; any other one that is not there is as wrong
    as one with other content, and of the same `kind`.
    """
    for name, expected in recorded.items():
        file = folder / name
        if not file.is_file():
            yield finding(UNCHECKED if _left_out(file) else kind, file, "is not there")
        elif (found := digest(file)) != expected:
            yield finding(kind, file, f"sha256 is {found}; {who} recorded {expected}")


def _left_out(file: Path) -> bool:
    place = _LEFT_OUT.fullmatch(file.as_posix())
    return place is not None and not (place["part"] and Path(place["part"]).exists())


def visible_files(folder: Path) -> Iterator[Path]:
    """All files below a folder in order, but for hidden ones and those in hidden folders, as other programs leave."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (path.is_symlink() or not path.is_dir()):
            yield path


def same_code(path: Path, recorded: Mapping[str, str] | None, script: str, *modules: str) -> Findings:
    """Yield a finding if the code that a record names differs from the code here or cannot be compared."""
    try:
        now = code_digests(script, *modules)
    except FileNotFoundError:
        now = {}
    if not recorded or not now:
        yield finding(UNCHECKED, path, "its code: no digests to compare")
        return
    # Files that are no Python code, such as a style or a list of published numbers.
    now |= {name: project_digest(name) for name in recorded.keys() - now.keys() if not name.endswith(".py")}
    if changed := sorted(name for name in {*recorded, *now} if recorded.get(name) != now.get(name)):
        yield finding(CHANGED, path, f"code: {', '.join(changed)}")


def project_digest(name: str) -> str:
    """Twelve hexadecimal digits of a file of the project, "" where there is none."""
    file = ROOT / name
    inside = file.resolve().is_relative_to(ROOT) and file.is_file()
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if inside else ""


def differences(kind: str, file: Path, found: Any, expected: Any, who: str) -> Findings:
    """Yield findings on the places where two JSON values differ."""
    different = [
        finding(kind, file, f"{'.'.join(key)}: found {_told(ours)}; {who} {_told(theirs)}")
        for key, ours, theirs in _different(found, expected)
    ]
    yield from first(kind, file, different)


def first(kind: str, file: Path, findings: list[Finding]) -> Findings:
    """Yield the first few findings on a file, and the number of the others."""
    yield from islice(findings, SHOWN)
    if len(findings) > SHOWN:
        yield finding(kind, file, f"{len(findings) - SHOWN} more places differ")


def _told(value: Any) -> str:
    text = "nothing" if value is _NOTHING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _different(found: Any, expected: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the places where two JSON values differ; numbers may differ in their last digits between machines."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in dict.fromkeys([*found, *expected]):
            yield from _different(found.get(name, _NOTHING), expected.get(name, _NOTHING), (*key, str(name)))
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            yield from _different(*pair, (*key, str(index)))
    elif not equal(found, expected):
        yield key, found, expected


def equal(found: Any, expected: Any) -> bool:
    """Return whether two JSON values or cells are equal, floats except for their last digits."""
    if isinstance(found, float) or isinstance(expected, float):
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (found, expected))
        return numbers and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-12)
    return bool(found == expected) and type(found) is type(expected)
