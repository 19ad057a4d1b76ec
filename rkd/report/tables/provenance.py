"""The table of provenance: commits, versions and machines of the training runs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rkd.report.rendering.grid import Cell, Grid, Note, Section
from rkd.report.tables.base import MISSING
from rkd.runs.paths import run_of
from rkd.runs.record import read_record
from rkd.runs.task import task_of
from rkd.tasks import register

# Runs with equal values of these columns share a line of the printed table.
PLACE = ("commit", "dirty", "python", "torch", "transformers", "machine", "device", "threads")
_NEEDED = (
    *("git", "python", "packages/torch", "packages/transformers", "processor", "device", "threads"),
    *("started", "seconds"),
)
_COLUMNS = ["task", "variant", "seed", *PLACE, "started", "seconds", "file"]


@dataclass(frozen=True)
class Provenance:
    """Training runs, one per row of `runs`.

    The columns are task, variant, seed, those of `PLACE`, started, seconds and file.
    """

    runs: pd.DataFrame
    planned: int

    def frame(self) -> pd.DataFrame:
        """Return one run per row."""
        return self.runs

    def sidecar(self) -> dict[str, object]:
        """Return the run.json files of each line of the printed table."""
        cells = [
            {**dict(zip(PLACE, key, strict=True)), "runs": len(group), "files": group["file"].tolist()}
            for key, group in self._places()
        ]
        return {"caption": self._caption(), "cells": cells}

    def grid(self) -> Grid:
        """Return the printed table: a line per combination of commit, versions and machine."""
        heads = ("Python", "torch", "transformers", "Machine", "Device", "Threads", "Runs", "Hours", "First", "Last")
        lines = tuple(tuple(self._line(key, group)) for key, group in self._places())
        return Grid((("", heads),), (Section("", lines),), self._caption(), tuple(map(Note, self._remarks())), "Commit")

    def _places(self) -> Iterator[tuple[Any, pd.DataFrame]]:
        yield from self.runs.groupby(list(PLACE), sort=False)

    def _line(self, key: tuple[Any, ...], runs: pd.DataFrame) -> Iterator[Cell]:
        found = dict(zip(PLACE, key, strict=True))
        yield Cell(found["commit"][:12] + (" + changes" if found["dirty"] else ""))
        yield from (Cell(str(found[name])) for name in PLACE[2:])
        yield Cell(str(len(runs)))
        yield Cell(f"{runs['seconds'].sum() / 3600:.2f}")
        days = runs["started"].str.slice(0, 10)
        yield from (Cell(days.min()), Cell(days.max()))

    def _caption(self) -> str:
        return "Provenance of the training runs: one line per commit, versions and machine. The CSV lists every run."

    def _remarks(self) -> Iterator[str]:
        if len(self.runs) < self.planned:
            yield f"{self.planned - len(self.runs)} of {self.planned} runs are missing."
        if self.runs["dirty"].any():
            yield "+ changes: the checkout had uncommitted changes; run.json has the digest of every source file."
        if (self.runs["commit"] == MISSING).any():
            yield f"{MISSING}: not run from a git checkout; run.json has the digest of every source file."
        if self.runs["commit"].nunique() > 1:
            yield "Several commits: Snakemake repeats a run only if code that it executes has changed."


def provenance(paths: Iterable[str | Path], planned: int) -> Provenance:
    """Read run.json files into the table of provenance.

    Args:
        paths: run.json files of teachers and students; runs may be missing.
        planned: number of planned runs.

    Raises:
        RkdError: a file is missing, broken, or not in a run's folder.
    """
    return Provenance(pd.DataFrame([_run(str(path)) for path in paths], columns=_COLUMNS), planned)


def _run(file: str) -> dict[str, Any]:
    found = read_record(file, *_NEEDED)
    if "spec" in found:
        register(task_of(found["spec"], file))
    return {
        **run_of(file).columns(),
        "commit": found["git"].get("commit", MISSING),
        "dirty": found["git"].get("dirty", False),
        "python": found["python"],
        "torch": found["packages"]["torch"],
        "transformers": found["packages"]["transformers"],
        "machine": found.get("gpu") or found["processor"],
        "device": found["device"],
        "threads": found["threads"],
        "started": found["started"],
        "seconds": float(found["seconds"]),
        "file": file,
    }
