"""Verification of what `rkd distill` wrote: a student, perhaps a teacher, and their data."""

from pathlib import Path

from rkd.methods.facts import METHODS
from rkd.verify.data import check_data
from rkd.verify.finding import (
    CHANGED,
    MISMATCH,
    UNCHECKED,
    Findings,
    digest,
    finding,
    object_in,
    same_code,
    visible_files,
)
from rkd.verify.runs import check_record, same_teacher

# The folders in that of a distillation; tables are the DataFrames that it was given.
PARTS = ("data", "tables", "teacher", "student")


def check_distillation(path: Path, root: Path) -> Findings:
    """Yield findings on a distillation: student, teacher and data, by their records, and the user's files."""
    data, teacher = root / "data", root / "teacher"
    own_teacher = (teacher / "run.json").is_file()  # one that was fine-tuned here
    for file in (path, *([teacher / "run.json"] if own_teacher else [])):
        record = object_in(file)
        if record is None or not isinstance(record.get("spec"), dict):
            yield finding(MISMATCH, file, "is no run record (a JSON object with a spec)")
            continue
        method, code = record["spec"].get("method"), record.get("code") or {}
        modules = [f"rkd.methods.{method}"] if method in METHODS else []
        ours = {name: known for name, known in code.items() if not name.startswith("method ")}
        yield from check_record(file, record, data)
        yield from same_code(file, ours, "rkd/training/job.py", *modules)
        for name in code.keys() - ours.keys():
            yield finding(UNCHECKED, file, f"code: {name} is not of this project")
        if recorded := record.get("teacher"):
            yield from same_teacher(file, teacher, recorded, CHANGED if own_teacher else MISMATCH)
            known = {f"model/{name}" for name in recorded}
            for each in () if own_teacher else visible_files(teacher):
                if each.relative_to(teacher).as_posix() not in known:
                    yield finding(MISMATCH, each, f"{file.parent.name}/{file.name} does not list it")
    if (data / "manifest.json").is_file():
        yield from check_data(data / "manifest.json", root)
        yield from _same_tables(data / "manifest.json")
    else:
        yield finding(MISMATCH, data / "manifest.json", "is not there")


def _same_tables(path: Path) -> Findings:
    """Yield findings on the user's files that are not those which were prepared."""
    own = (object_in(path) or {}).get("custom_task") or {}
    for entry in own["files"].values():
        file = Path(entry["path"]).absolute()
        if not file.is_file():
            yield finding(UNCHECKED, file, "is not there")
        elif digest(file) != entry["sha256"]:
            yield finding(CHANGED, file, f"sha256 is {digest(file)}; {path.name} recorded {entry['sha256']}")
