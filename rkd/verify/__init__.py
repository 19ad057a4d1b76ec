"""Do results still match what they say of themselves? Behind `rkd verify`. No torch.

Verification looks for change, not for files that happen to be there: sets of files and of keys are compared with those
that there should be, and what results say twice is compared with itself.

| of what               | against what                                                                               |
|-----------------------|--------------------------------------------------------------------------------------------|
| a run                 | its run.json: SHA-256 of all files, the folder's name, what the record says twice;         |
|                       | all other runs: none ends in the same history, nor in the weights or predictions of        |
|                       | another seed or task                                                                       |
| a metrics file        | the metrics of predictions.parquet, computed anew; method, data and task of the run        |
| a prepared task       | its manifest.json: SHA-256 of all files and of what it says; its folder's name              |
| a distillation        | what `rkd distill` wrote: student, teacher and data, as those of results                    |
| tables, figures, page | SHA-256 of files and inputs, settings of the runs shown, what their own command makes now  |

A file in one of these folders that no record lists is a mismatch, as is one that contradicts its record. Two other
kinds of finding are no contradiction: code, data, teachers or packages that have changed since, and what cannot be
checked because a file is not there. The records are not signed: a change to a file and to every record of it goes
unseen.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rkd.errors import RkdError
from rkd.runs.paths import distilled_record, is_distillation, store_of
from rkd.specs.identity import DIGEST
from rkd.verify.data import check_data
from rkd.verify.distillations import PARTS, check_distillation
from rkd.verify.finding import (
    CHANGED,
    MISMATCH,
    UNCHECKED,
    Finding,
    Findings,
    digest,
    finding,
    object_in,
    same_files,
    visible_files,
)
from rkd.verify.made import check_made
from rkd.verify.origin import MADE, origin_in
from rkd.verify.runs import check_run, model_content, same_outcomes
from rkd.verify.scores import check_metrics

__all__ = ["CHANGED", "MISMATCH", "UNCHECKED", "Checked", "Finding", "verify"]

_TITLES = {MISMATCH: "does not match", CHANGED: "changed since", UNCHECKED: "not checked"}
_FOLDERS = ("runs", "teachers", "students", "metrics", "data", *MADE)
# What damage to a record can lead a check to; anything else is an error of the check.
_DAMAGE = (RkdError, OSError, TypeError, AttributeError, LookupError, ValueError, ArithmeticError, RecursionError)


class _Kind(NamedTuple):
    """A kind of result: which record and folder of results a file of one belongs to, and how it is checked."""

    place: Callable[[Path], tuple[Path, Path] | None]
    check: Callable[[Path, Path], Findings]
    lost: str = MISMATCH  # the kind of finding where the record is not there


def _kind(unit: str, rest: str, record: str, check: Callable[[Path, Path], Findings], lost: str = MISMATCH) -> _Kind:
    files = re.compile(f"(?P<root>.+)/(?P<unit>{unit}){rest}", re.DOTALL)

    def place(file: Path) -> tuple[Path, Path] | None:
        found = files.fullmatch(file.as_posix())
        return found and (Path(found["root"]) / record.format(found["unit"]), Path(found["root"]))

    return _Kind(place, check, lost)


def _in_distillation(file: Path) -> tuple[Path, Path] | None:
    for part in file.parents:
        if part.name in PARTS and is_distillation(part.parent):
            return distilled_record(part.parent), part.parent
    return None


# In this order: a variant may be called `tables`, and a model hold any file.
_KINDS = {
    "runs": _kind(
        rf"(?:runs/[^/]+/[^/]+-{DIGEST}|teachers/[^/]+|students/[^/]+/[^/]+)/seed-\d+", "/.+", "{}/run.json", check_run
    ),
    "metrics files": _kind(r"metrics/[^/]+/[^/]+/seed-\d+", r"\.json", "{}.json", check_metrics),
    "prepared tasks": _kind(
        "data/[^/]+", r"/(?:manifest\.json|(?:dataset|tokenizer|student-tokenizer)/.+)", "{}/manifest.json", check_data
    ),
    "tables": _kind("tables/[^/]+", r"\.(?:json|csv|md|tex|html)", "{}.json", check_made),
    # Results from before figures and pages had records have none; where the page has one, it names those of figures.
    "figures": _kind("figures/[^/]+", r"\.(?:json|pdf|png)", "{}.json", check_made, UNCHECKED),
    "pages": _kind("report/index", r"\.(?:json|html)", "{}.json", check_made, UNCHECKED),
    "distillations": _Kind(_in_distillation, check_distillation),
}


@dataclass(frozen=True)
class Checked:
    """The result of a verification: the number of runs, metrics files and so on, and all findings."""

    counts: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def mismatches(self) -> list[Finding]:
        """Return the findings that contradict a record."""
        return [one for one in self.findings if one.kind == MISMATCH]

    def __str__(self) -> str:
        lines = []
        for kind, title in _TITLES.items():
            # One line for what is the same for many files, such as code that has changed since.
            files: dict[str, list[str]] = defaultdict(list)
            for one in self.findings:
                if one.kind == kind:
                    files[one.text].append(one.file)
            for text, where in files.items():
                more = f" (and {len(where) - 1} more)" if len(where) > 1 else ""
                lines.append(f"{title}: {where[0]}{more}: {text}")
        counts = ", ".join(
            f"{count} {what if count != 1 else what[:-1]}" for what, count in self.counts.items() if count
        )
        found = len(self.mismatches)
        result = f"{found} mismatch{'es' if found > 1 else ''}" if found else "no mismatch"
        return "\n".join([*lines, f"verified {counts}: {result}"])


class _Unit(NamedTuple):
    """One run, metrics file, table, … to verify, and the folder of results that it is in."""

    kind: str
    record: Path
    root: Path


def verify(paths: Iterable[Path]) -> Checked:
    """Verify results: runs, metrics files, prepared data, tables, figures and the page, and what `rkd distill` wrote.

    Args:
        paths: results folders, folders in them, or single files; of a file that belongs to a run or a table, the whole
            run or table is verified, and of one in a folder that `rkd distill` wrote all that it wrote there.

    Raises:
        RkdError: a path does not exist or holds nothing that can be verified.

    >>> print(verify([Path("results")]))
    verified 20 runs, 20 metrics files, 2 prepared tasks, 5 tables, 4 figures, 1 page: no mismatch
    """
    for known in (digest, object_in, model_content):  # files may have changed since an earlier verification
        known.cache_clear()
    paths = list(paths)
    units: dict[_Unit, None] = {}
    for path in paths:
        found = dict.fromkeys(unit for file in _files(path.absolute()) if (unit := _unit(file)) is not None)
        if not found:
            raise RkdError(
                f"{path}: {'nothing there can be verified' if path.exists() else 'does not exist'}; expected a results "
                "folder, or a run, a metrics file or a table in one, or a folder that rkd distill wrote"
            )
        units |= found
    findings = [
        *(one for unit in units for one in _checked(unit)),
        *_strays([path.absolute() for path in paths], {unit.root for unit in units}),
        *_witnesses(units),
        *same_outcomes({unit.record for unit in units if unit.kind == "runs"}, sorted({unit.root for unit in units})),
    ]
    counts = {kind: sum(unit.kind == kind for unit in units) for kind in _KINDS}
    return Checked(counts, tuple(dict.fromkeys(findings)))


def _files(path: Path) -> Iterable[Path]:
    return visible_files(path) if path.is_dir() else [path] if path.exists() else []


def _unit(file: Path) -> _Unit | None:
    """Return the unit that a file belongs to, or None if it is not a part of results."""
    for name, kind in _KINDS.items():
        if place := kind.place(file):
            return _Unit(name, *place)
    return None


def _checked(unit: _Unit) -> Findings:
    """Yield the findings on one unit, among them a missing or damaged record."""
    kind, record = _KINDS[unit.kind], unit.record
    if not record.exists():
        yield finding(kind.lost, record, "is not there, but files that it should describe are")
        return
    yield from _whatever_it_holds(record, kind.check(record, unit.root))


def _whatever_it_holds(record: Path, findings: Findings) -> Findings:
    """Yield the findings on a record; one more if it holds something that no check expects."""
    try:
        yield from findings
    except _DAMAGE as error:
        yield finding(MISMATCH, record, f"is no record as this project writes them ({type(error).__name__}: {error})")


def _strays(paths: Iterable[Path], roots: Iterable[Path]) -> Findings:
    """Yield findings on files in the folders of results that belong to nothing there."""
    for root in sorted(roots):
        for file in (file for name in _FOLDERS for file in visible_files(root / name)):
            if any(file.is_relative_to(path) for path in paths) and (
                (unit := _unit(file)) is None or unit.root != root
            ):
                yield finding(MISMATCH, file, "belongs to no run, metrics file, prepared task, table, figure or page")


def _experiments(root: Path) -> set[Path]:
    """Return the folders of experiments that use the runs of a folder."""
    return {root, *(folder.parent for name in MADE for folder in store_of(root).glob(f"*/{name}"))}


def _witnesses(units: Mapping[_Unit, None]) -> Findings:
    """Yield findings on files that a table, a figure or the page which is not verified itself was made from."""
    for root in sorted({each for unit in units for each in _experiments(unit.root)}):
        for record in (file for name in MADE for file in sorted((root / name).glob("*.json"))):
            unit = _unit(record)
            if unit is not None and unit not in units and (made := origin_in(record)) is not None:
                store = store_of(root)
                ours = {name: known for name, known in made.sources(root).items() if _unit(store / name) in units}
                same = same_files(store, ours, MISMATCH, f"{record.name}, made from it,")
                yield from _whatever_it_holds(record, same)
