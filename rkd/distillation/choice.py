"""Several learning rates: a student for each, and the one that is best on held-out rows."""

import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rkd.runs.history import read_history
from rkd.specs.jobs import RunSpec
from rkd.utils.files import atomic_path, sha256

log = logging.getLogger("rkd")

TRIES = "tries"


def tries(spec: RunSpec, rates: tuple[float, ...]) -> dict[str, RunSpec]:
    """Return the run for each learning rate by its folder within that of the distillation; none without rates.

    >>> list(tries(spec, (1e-4, 2e-4)))
    ['tries/learning_rate-0.0001', 'tries/learning_rate-0.0002']
    """
    return {
        f"{TRIES}/learning_rate-{rate}": replace(spec, training={**spec.training, "learning_rate": rate})
        for rate in rates
    }


def choose(folder: Path, tried: Mapping[str, RunSpec]) -> None:
    """Copy the best of the finished tries to student/, by the score or the loss on held-out rows at its best epoch."""
    found = {part: _best(folder / part, spec.training["selection"]) for part, spec in tried.items()}
    best = max(found, key=lambda part: found[part])
    rates = [spec.training["learning_rate"] for spec in tried.values()]
    chosen = tried[best].training["learning_rate"]
    shown = ", ".join(f"{tried[part].training['learning_rate']}: {score:.4f}" for part, score in found.items())
    edge = "; it is the end of the list: try more" if len(rates) > 1 and chosen in (min(rates), max(rates)) else ""
    log.info("learning_rate %s chosen by held-out rows (%s)%s", chosen, shown, edge)
    record = folder / "student" / "run.json"
    if not (record.is_file() and sha256(record) == sha256(folder / best / "run.json")):
        with atomic_path(folder / "student") as temporary:
            shutil.copytree(folder / best, temporary, dirs_exist_ok=True)


def _best(run: Path, selection: str) -> float:
    """Return the best held-out score of a run's epochs, or the lowest held-out loss with its sign changed."""
    key, sign = ("held_out_loss", -1) if selection == "held-out-loss" else ("held_out", 1)
    scores = [line.get(key) for line in read_history(run / "history.jsonl") if line["epoch"]]
    return max((sign * score for score in scores if score is not None), default=-math.inf)
