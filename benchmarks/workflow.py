"""Overhead of the workflow beyond training steps, in a clone of this checkout at its last commit."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.data import ROOT
from benchmarks.report import Goal, Row
from benchmarks.timing import Spread, spread
from rkd.errors import RkdError

DEFAULT, DRY_RUN, REDRAW, LARGE_PLAN = Goal("≤", 100.0), Goal("≤", 5.0), Goal("≤", 10.0), Goal("≤", 25.0)
SEEDS = 50
STYLE = "rkd/report/figures/rkd.mplstyle"


def rows(folder: Path, dry_runs: int = 3) -> tuple[list[Row], dict[str, list[float]]]:
    """Plan the paper's config, run the default config and redraw its figures.

    Args:
        folder: an empty folder for the clone.

    Raises:
        RkdError: git or Snakemake fails; the message ends with its output.
    """
    _run(["git", "clone", "--quiet", str(ROOT), str(folder)], ROOT)
    paper = ("--dry-run", "--configfile", "configs/paper.yaml")
    planned = [snakemake(folder, *paper) for _ in range(dry_runs)]
    large = snakemake(folder, *paper, "--config", f"seeds={list(range(1, SEEDS + 1))}")
    wall = snakemake(folder)
    redrawn = redraw(folder)
    cores = len(os.sched_getaffinity(0))
    histories = histories_in(folder)
    around = 1 - sum(map(step_seconds, histories)) / (wall * cores)
    beside = 1 - sum(map(training_seconds, histories)) / (wall * cores)
    name = f"Default run ({len(histories)} trainings), fraction of its time"
    return [
        Row("Default run", _single(wall), "s", DEFAULT, note=f"{cores} cores"),
        Row(f"{name} outside training steps", _single(around), "%"),
        Row(f"{name} outside training steps and dev evaluations", _single(beside), "%"),
        Row("Dry run of the paper's plan", spread(planned), "s", DRY_RUN, rounds=dry_runs),
        Row(f"Dry run of the paper's plan with {SEEDS} seeds", _single(large), "s", LARGE_PLAN),
        Row("Tables and figures after a change of their style", _single(redrawn), "s", REDRAW),
    ], {"dry_run": planned, "large_dry_run": [large], "default": [wall], "redraw": [redrawn]}


def histories_in(folder: Path) -> list[Path]:
    """Return the histories of all trainings in a checkout's results."""
    return list((folder / "results" / "runs").rglob("history.jsonl"))


def figure_in(folder: Path) -> Path:
    """Return the figure of learning curves of the one experiment in a checkout's results."""
    [figure] = (folder / "results").glob("*/figures/learning_curves.png")  # published ones lie deeper
    return figure


def redraw(folder: Path) -> float:
    """Measure `snakemake tables figures` after a change of the figures' style in a finished folder."""
    style = folder / STYLE
    figure = figure_in(folder)
    before = figure.stat().st_mtime_ns
    style.write_text(style.read_text(encoding="utf-8") + "\nfigure.dpi: 99\n", encoding="utf-8")
    seconds = snakemake(folder, "tables", "figures")
    if figure.stat().st_mtime_ns == before:
        raise RkdError(f"benchmark: {figure} was not drawn again after a change of {STYLE}")
    return seconds


def training_seconds(history: Path) -> float:
    """Return the seconds from a run's first to its last evaluation: training steps and evaluations."""
    return _seconds(history)[-1]


def step_seconds(history: Path) -> float:
    """Return the seconds of training steps alone, assuming that each evaluation takes as long as the first.

    This slightly underestimates the steps of kd: only its first evaluation also evaluates the teacher.
    """
    seconds = _seconds(history)
    return max(0.0, seconds[-1] - len(seconds) * seconds[0])


def snakemake(folder: Path, *arguments: str) -> float:
    """Measure a call of Snakemake in a checkout, with that checkout's library."""
    started = time.perf_counter()
    _run([str(Path(sys.executable).with_name("snakemake")), "--cores", "all", *arguments], folder)
    return time.perf_counter() - started


def _run(command: list[str], folder: Path) -> None:
    # Jobs use the interpreter on PATH and the library of their folder.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        end = (result.stdout + result.stderr)[-2000:]
        raise RkdError(f"benchmark: {' '.join(command)} failed in {folder}: {end}")


def _seconds(history: Path) -> list[float]:
    lines: Iterable[str] = history.read_text(encoding="utf-8").splitlines()
    return [float(json.loads(line)["seconds"]) for line in lines]


def _single(value: float) -> Spread:
    return spread([value])
