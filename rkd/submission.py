"""A submission to the GLUE server: eleven TSV files in a zip, built from predictions and validated.

    python -m rkd.submission validate FILE.zip

checks any zip. If the server would refuse it, the command prints the reasons and exits with code 1. Needs no torch.
"""

import math
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.runs.paths import Run, run_of
from rkd.runs.predictions import read_predictions
from rkd.tasks import TASKS, Task, get
from rkd.utils.command_line import ArgumentParser
from rkd.utils.files import atomic_path, atomic_write_text
from rkd.utils.script import run_script

HEADER = "index\tprediction"
SCORES = (0.0, 5.0)  # range of STS-B
FILLED = "FILLED.txt"
_COLUMNS = ("split", "idx", "label", "prediction")
_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date for every member, so that the same predictions give the same bytes
# What zipfile raises for damaged files. RuntimeError: encrypted, or an unknown compression method.
_UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
_TRAINED = [task for task in TASKS.values() if task.trainable]


@dataclass(frozen=True)
class Member:
    """A file of the zip, with the predictions of one test split."""

    task: Task
    split: str
    name: str  # "MNLI-m.tsv"

    @property
    def rows(self) -> int:
        """The number of rows of the official test split."""
        return self.task.splits[self.split].rows


MEMBERS = tuple(
    sorted(
        (Member(task, split, name) for task in _TRAINED for split, name in task.submission.items()),
        key=lambda m: m.name,
    )
)


@dataclass(frozen=True)
class Chosen:
    """The run chosen for a task, with its dev score."""

    file: str
    run: Run
    primary_score: float


def choose(files: Iterable[str], seed: int | None = None) -> dict[str, Chosen]:
    """Choose one run per task: that of `seed`, else the run with the best dev primary score (ties: the lowest seed).

    The server accepts one set of predictions. The paper and most entries choose the best seed on dev. Its dev score is
    then optimistic; its test score is not.

    Args:
        files: predictions.parquet files of one variant, any tasks and seeds.
        seed: use this seed for every task.

    Returns:
        Task name → run, in the order of the registry.

    Raises:
        RkdError: the files are of different variants, a run occurs twice, or a task has no run with the seed.
    """
    by_task: dict[str, list[Chosen]] = {}
    for file in map(str, files):
        run = run_of(file)
        if seed is None or run.seed == seed:
            by_task.setdefault(run.task, []).append(Chosen(file, run, _dev_primary_score(file, run.task)))
        else:
            by_task.setdefault(run.task, [])
    runs = [chosen.run for found in by_task.values() for chosen in found]
    if len({run.variant for run in runs}) > 1:
        names = ", ".join(sorted({run.variant for run in runs}))
        raise RkdError(f"submission: predictions of the variants {names}; expected those of one")
    if len(set(runs)) < len(runs):
        raise RkdError("submission: a run occurs twice; expected each task and seed once")
    if missing := [task for task, found in by_task.items() if not found]:
        raise RkdError(f"submission: no predictions of {missing[0]} with seed {seed}")
    ranked = {task: sorted(found, key=lambda one: one.run.seed) for task, found in by_task.items()}
    return {task.name: max(ranked[task.name], key=_rank) for task in _TRAINED if task.name in ranked}


def build(chosen: Mapping[str, Chosen], out: str | Path, fill_missing: bool = False) -> list[str]:
    """Write the zip and, if files were filled, a note `<zip name>.FILLED.txt` beside it.

    Args:
        chosen: what `choose` returns.
        out: path of the zip.
        fill_missing: write a constant answer (class 0, or 2.5 for STS-B) for tasks without a run instead of raising.
            Their scores on the server are meaningless.

    Returns:
        Names of the filled files.

    Raises:
        RkdError: a task has no run and `fill_missing` is False, or predictions are invalid.
    """
    missing = [member for member in MEMBERS if member.task.name not in chosen]
    if missing and not fill_missing:
        raise RkdError(
            f"submission: no predictions for {', '.join(member.name for member in missing)}; the server requires all "
            f"{len(MEMBERS)} files; run those tasks or fill them (--fill-missing)"
        )
    frames: dict[str, pd.DataFrame] = {name: read_predictions(one.file, _COLUMNS) for name, one in chosen.items()}
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for member in MEMBERS:
            if member in missing:
                text = _tsv(range(member.rows), [_constant(member.task)] * member.rows)
            else:
                text = _predicted(member, frames[member.task.name], chosen[member.task.name].file)
            info = zipfile.ZipInfo(member.name, _DATE)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, text)
    names = [member.name for member in missing]
    note = Path(out).with_name(f"{Path(out).stem}.{FILLED}")
    note.unlink(missing_ok=True)
    if names:
        lines = [f"{name}: no run of this task; filled with a constant answer" for name in names]
        atomic_write_text(note, "\n".join(lines) + "\n")
    return names


def validate(path: str | Path) -> list[str]:
    """Return the reasons why the GLUE server would refuse a zip; empty if it would accept it.

    Checks the set of files, the headers, the official numbers of rows, the indices 0 … n − 1 in order, the label names
    and the range of scores.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                return [f"{broken}: damaged (its checksum is wrong)"]
            names = archive.namelist()
            expected = [member.name for member in MEMBERS]
            problems = [f"{name}: missing" for name in expected if name not in names]
            problems += [f"{name}: not a file of a submission" for name in names if name not in expected]
            problems += [f"{name}: occurs more than once" for name in expected if names.count(name) > 1]
            for member in MEMBERS:
                if names.count(member.name) == 1:
                    problems += [f"{member.name}: {reason}" for reason in _check(member, archive.read(member.name))]
    except _UNREADABLE as error:
        return [f"not a readable zip file: {error}"]
    return problems


def _check(member: Member, content: bytes) -> list[str]:
    """Return the problems of one file, the first of each kind."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return [f"not UTF-8 text: {error}"]
    problems = []
    if ends := text.count("\r"):
        problems.append(f"{ends} carriage returns, as in Windows line ends; expected lines that end in \\n alone")
    header, *lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if header != HEADER:
        problems.append(f"header is {header!r}; expected {HEADER!r}")
    if len(lines) != member.rows:
        problems.append(f"{len(lines)} rows; expected {member.rows}")
    cells = [line.split("\t") for line in lines]
    if ragged := [n for n, cell in enumerate(cells) if len(cell) != 2]:
        return [*problems, f"line {ragged[0] + 2} has {len(cells[ragged[0]])} columns; expected 2"]
    for n, (index, _) in enumerate(cells):
        if index != str(n):
            problems.append(f"line {n + 2} has index {index!r}; expected {n} (0 to {member.rows - 1} in order)")
            break
    valid = _is_score if member.task.regression else set(member.task.file_labels).__contains__
    for n, (_, prediction) in enumerate(cells):
        if not valid(prediction):
            problems.append(f"line {n + 2} has prediction {prediction!r}; expected {_allowed(member.task)}")
            break
    return problems


def _allowed(task: Task) -> str:
    return f"a number from {SCORES[0]:g} to {SCORES[1]:g}" if task.regression else " or ".join(task.file_labels)


def _is_score(text: str) -> bool:
    try:
        score = float(text)
    except ValueError:
        return False
    return SCORES[0] <= score <= SCORES[1]


def _predicted(member: Member, frame: pd.DataFrame, file: str) -> str:
    rows = frame[frame["split"] == member.split].sort_values("idx")
    if rows.empty:
        found = ", ".join(map(str, frame["split"].unique())) or "no rows"
        raise RkdError(f"{file}: no split '{member.split}' for {member.name}; found {found}")
    if repeated := int(rows["idx"].duplicated().sum()):
        raise RkdError(f"{file}: {repeated} examples of {member.split} occur more than once")
    predictions = rows["prediction"].to_numpy(dtype=np.float64)
    if not np.isfinite(predictions).all():
        raise RkdError(f"{file}: predictions of {member.split} are NaN or infinite")
    return _tsv(rows["idx"], map(_writer(member.task), predictions))


def _writer(task: Task) -> Callable[[float], str]:
    """Return a function that formats a prediction for the task's file."""
    if task.regression:
        return lambda score: f"{min(max(score, SCORES[0]), SCORES[1]):.3f}"

    def label(prediction: float) -> str:
        if prediction not in range(task.num_labels):
            raise RkdError(f"{task.name}: prediction {prediction:g}; expected a class id below {task.num_labels}")
        return task.file_labels[int(prediction)]

    return label


def _constant(task: Task) -> str:
    return f"{sum(SCORES) / 2:.3f}" if task.regression else task.file_labels[0]


def _tsv(indices: Iterable[int], predictions: Iterable[str]) -> str:
    lines = [f"{index}\t{prediction}" for index, prediction in zip(indices, predictions, strict=True)]
    return "\n".join([HEADER, *lines]) + "\n"


def _dev_primary_score(file: str, task: str) -> float:
    return float(metrics.from_predictions(get(task), read_predictions(file, _COLUMNS))["primary_score"])


def _rank(chosen: Chosen) -> float:
    return -math.inf if math.isnan(chosen.primary_score) else chosen.primary_score


def submit(files: Iterable[str], out: str | Path, seed: int | None = None, fill_missing: bool = False) -> list[str]:
    """Choose, write and check a submission, and return its problems.

    Prints the content to stdout and the problems to stderr.
    """
    chosen = choose(files, seed)
    reason = "best on dev" if seed is None else "requested"
    for task, one in chosen.items():
        print(f"{task}: seed {one.run.seed} ({reason}; dev {100 * one.primary_score:.2f}), {one.file}")
    for name in build(chosen, out, fill_missing):
        print(f"{name}: no run of this task; FILLED with a constant answer, its score is meaningless")
    problems = validate(out)
    for problem in problems:
        print(f"{out}: {problem}", file=sys.stderr)
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 if the zip is valid, 1 if not. `RkdError` if it is missing."""
    options = ArgumentParser(prog="python -m rkd.submission", description="Check a GLUE submission.")
    commands = options.add_subparsers(required=True, metavar="validate")
    commands.add_parser("validate", help="check a zip").add_argument("zip", help="the file to check")
    path = options.parse_args(arguments).zip
    if not Path(path).is_file():
        raise RkdError(f"{path}: found no file; expected the zip of a submission")
    problems = validate(path)
    print("\n".join(f"{path}: {problem}" for problem in problems) or f"{path}: valid, {len(MEMBERS)} files")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(lambda: sys.exit(main()))
