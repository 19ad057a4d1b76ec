"""Predictions of one variant: reading them from files, and pairing them with those of another variant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.runs.clusters import read_clusters
from rkd.runs.paths import run_of
from rkd.runs.predictions import read_predictions
from rkd.tasks import Task, get, primary_score

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Predictions of one variant on the primary split of one task, for several seeds."""

    task: Task
    variant: str
    seeds: tuple[int, ...]  # ascending
    idx: NDArray[np.int64]  # official row numbers, ascending; shape (examples,)
    labels: Values  # shape (examples,)
    predictions: Values  # class ids or scores; shape (seeds, examples)
    files: tuple[str, ...]  # one per seed
    clusters: NDArray[np.int64] | None = None  # cluster ids, shape (examples,); None if examples are independent

    @classmethod
    def read(cls, files: Iterable[str], clusters: Mapping[str, str | Path] | None = None) -> "Predictions":
        """Read the predictions.parquet files of one variant on one task, one per seed.

        Task, variant and seed come from the paths, as in `rkd.report.inputs.read_histories`.

        Args:
            files: paths of predictions.parquet.
            clusters: files with the clusters of dev examples, by task; see `rkd.runs.clusters`.

        Raises:
            RkdError: files is empty; a file is unreadable or lacks a column or the split; files belong to different
                variants or tasks; a seed or an example occurs twice; runs differ in examples or labels; or an example
                has no cluster.
        """
        places = sorted(((run_of(str(file)), str(file)) for file in files), key=lambda found: found[0].seed)
        if not places:
            raise RkdError("predictions: no files; expected one file per seed")
        (first, first_file), *others = places
        for (place, file), (before, _) in zip(others, places, strict=False):
            if (place.task, place.variant) != (first.task, first.variant):
                raise RkdError(f"{first_file} and {file} are of different variants or tasks; expected those of one")
            if place.seed == before.seed:
                raise RkdError(f"{file}: seed {place.seed} occurs twice; expected each run once")
        task = get(first.task)
        frames = [_read(task, file) for _, file in places]
        for (_, file), frame in zip(others, frames[1:], strict=True):
            _same_examples(first_file, frames[0]["idx"], frames[0]["label"], file, frame["idx"], frame["label"])
        idx, cluster_file = frames[0]["idx"].to_numpy(np.int64), (clusters or {}).get(task.name)
        return cls(
            task,
            first.variant,
            tuple(place.seed for place, _ in places),
            idx,
            frames[0]["label"].to_numpy(np.float64),
            np.array([frame["prediction"].to_numpy(np.float64) for frame in frames]),
            tuple(file for _, file in places),
            None if cluster_file is None else read_clusters(cluster_file, task.primary_split, idx),
        )

    def of(self, seeds: Sequence[int]) -> "Predictions":
        """Return the predictions of some of the seeds."""
        chosen = [self.seeds.index(seed) for seed in seeds]
        return replace(
            self,
            seeds=tuple(seeds),
            predictions=self.predictions[chosen],
            files=tuple(self.files[i] for i in chosen),
        )

    @cached_property
    def scores(self) -> Values:
        """Primary score of each seed, shape (seeds,). Fractions; NaN where undefined."""
        found = [metrics.compute(self.task, line, self.labels) for line in self.predictions]
        return np.array([primary_score(self.task, scores) for scores in found])


def pair(variant: Predictions, baseline: Predictions) -> tuple[Predictions, Predictions]:
    """Return both variants with the seeds that both have.

    Raises:
        RkdError: tasks, examples, labels or clusters differ, or there is no common seed.
    """
    task, other = variant.task, baseline.task
    if task is not other:
        raise RkdError(f"{variant.files[0]} is of {task.name}, {baseline.files[0]} of {other.name}; expected one task")
    common = [seed for seed in variant.seeds if seed in baseline.seeds]
    if not common:
        found = " and ".join(f"{each.variant} with the seeds {_list(each.seeds)}" for each in (variant, baseline))
        raise RkdError(f"{task.name}: found {found}; expected at least one seed in common")
    _same_examples(variant.files[0], variant.idx, variant.labels, baseline.files[0], baseline.idx, baseline.labels)
    if not _same_clusters(variant.clusters, baseline.clusters):
        raise RkdError(f"{variant.files[0]} and {baseline.files[0]} do not pair: other clusters; expected the same")
    return variant.of(common), baseline.of(common)


def _read(task: Task, file: str) -> pd.DataFrame:
    """Return the examples of the primary split, sorted by idx."""
    split = task.primary_split
    frame = read_predictions(file, ["split", "idx", "label", "prediction"])
    rows = frame[frame["split"] == split].sort_values("idx", ignore_index=True)
    if rows.empty:
        found = ", ".join(map(str, frame["split"].unique())) or "no rows"
        raise RkdError(f"{file}: no split '{split}'; found {found}")
    if repeated := int(rows["idx"].duplicated().sum()):
        raise RkdError(f"{file}: {repeated} examples of {split} occur more than once")
    if unlabelled := int(rows["label"].isna().sum()):
        raise RkdError(f"{file}: {unlabelled} examples of {split} have no label; expected a label each")
    return rows


def _same_examples(
    first: str, idx_a: ArrayLike, labels_a: ArrayLike, other: str, idx_b: ArrayLike, labels_b: ArrayLike
) -> None:
    a, b = np.asarray(idx_a), np.asarray(idx_b)
    if a.size != b.size:
        raise RkdError(f"{first} and {other} do not pair: {a.size} and {b.size} examples; expected the same ones")
    if (differing := np.flatnonzero(a != b)).size:
        where = differing[0]
        raise RkdError(f"{first} and {other} do not pair: idx {a[where]} and {b[where]}; expected the same examples")
    if (differing := np.flatnonzero(np.asarray(labels_a) != np.asarray(labels_b))).size:
        raise RkdError(
            f"{first} and {other} do not pair: other labels for {differing.size} examples, the first is idx "
            f"{a[differing[0]]}; expected the same data"
        )


def _same_clusters(a: NDArray[np.int64] | None, b: NDArray[np.int64] | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
