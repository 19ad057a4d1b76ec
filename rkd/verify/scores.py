"""Metrics files against the predictions that they were computed from and the run that made these."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.metrics.file import metrics_file
from rkd.runs.paths import Run, located, store_of
from rkd.runs.predictions import read_predictions
from rkd.specs.base import read
from rkd.specs.metrics import MetricsSpec
from rkd.utils.files import jsonable
from rkd.verify.finding import MISMATCH, UNCHECKED, Findings, differences, digest, finding, object_in
from rkd.verify.runs import first_version

# What a training does not read of a task of one's own, so that its record does not have it.
_NOT_TRAINED = ("title", "metrics")


def check_metrics(path: Path, root: Path) -> Findings:
    """Yield findings on a metrics file: the numbers of its predictions, and their run."""
    recorded = object_in(path)
    if recorded is None:
        yield finding(MISMATCH, path, "is no JSON object")
        return
    located_at = located(path)
    if located_at is None:
        raise RkdError(f"{path}: is not the metrics file of a run")
    place = located_at[1]
    run = place.folder(store_of(root))
    record, predictions = object_in(run / "run.json"), run / "predictions.parquet"
    if record is None:
        yield finding(UNCHECKED, path, "is of no run: its run.json is not there")
    else:
        yield from _same_run(path, recorded, record, place)
    listed, ours = ((record or {}).get("outputs") or {}).get(predictions.name), recorded.get("predictions_sha256")
    if listed and ours and listed != ours:
        yield finding(MISMATCH, path, f"made from predictions with sha256 {ours}; the run's have {listed}")
    if ours is None:
        old = record is not None and first_version(record)
        yield finding(UNCHECKED if old else MISMATCH, path, "does not name its predictions by their SHA-256")
    if not predictions.is_file():
        yield finding(UNCHECKED, predictions, "is not there")
        return
    if ours is not None and digest(predictions) != ours:  # other predictions, perhaps damaged ones, are not read
        told = f"predictions_sha256: found {ours}; that of {predictions.name} is {digest(predictions)}"
        yield finding(MISMATCH, path, told)
        return
    yield from _same_scores(path, recorded, predictions)


def _same_run(path: Path, recorded: Mapping[str, Any], record: Mapping[str, Any], place: Run) -> Findings:
    """Yield findings on a metrics file that contradicts its run's record."""
    spec, data = record["spec"], record["data"]
    expected = {**place.columns(), "method": spec["method"], "synthetic": data["source"] == "synthetic"}
    found = {key: recorded.get(key) for key in expected}
    yield from differences(MISMATCH, path, found, expected, "its run has")
    ours, theirs = (
        task and {key: value for key, value in task.items() if key not in _NOT_TRAINED}
        for task in (recorded.get("custom_task"), spec.get("custom_task"))
    )
    yield from differences(MISMATCH, path, {"custom_task": ours}, {"custom_task": theirs}, "its run has")


def _same_scores(path: Path, recorded: Mapping[str, Any], predictions: Path) -> Findings:
    try:
        frame = read_predictions(predictions)
        names = [field.name for field in fields(MetricsSpec)]
        spec = read(MetricsSpec, {name: recorded[name] for name in names if name in recorded}, "its run")
        made = jsonable(metrics_file(spec, frame))
    except (RkdError, OSError, ValueError, KeyError) as error:
        yield finding(MISMATCH, path, f"its predictions give no metrics: {error}")
        return
    unread = {"predictions_sha256"} | ({"probabilistic"} if "probabilistic" not in made else set())  # no logits
    found = {key: value for key, value in recorded.items() if key not in unread}
    yield from differences(MISMATCH, path, found, made, "its predictions give")
