"""How sure are the differences? Intervals over seeds, paired comparisons over seeds and examples, Holm's correction.

A comparison of two rows is a fully crossed design: every seed of both rows answers every dev example, so that scores
vary with the seed (initial weights, order of the data) and with the examples that the dev set happens to hold. It is
the design of multi-reader multi-case studies in radiology, where readers (here seeds) judge the same cases (examples)
under two modalities (variants), and we take the variance of the difference apart as Obuchowski and Rockette do. With
d_s the difference of the two variants' scores at seed s, s = 1 … S:

    D  = mean of d_s
    σ² = sample variance of d_s over seeds
    c  = mean covariance, over resampled dev sets, of d_s and d_s' for two different seeds (0 if negative)
    Var(D) = σ²/S + c
    95 % interval: D ± √( t² · σ²/S + z² · c ),  t of Student with S − 1 degrees of freedom, z = 1.96

σ²/S holds what differs from seed to seed; c, what all seeds share, does not shrink with more seeds. c comes from a
bootstrap over examples, which works for any metric (see `rkd.metrics.weighted`). The half-widths of the two parts
are added in quadrature (Howe; Zou and Donner), since σ² rests on S − 1 degrees of freedom and c on hundreds: with c = 0
it is the paired t-test over seeds. p is the level at which the interval just reaches 0.

Alternatives, all simulated (numbers: docs/statistics.md; the main ones: tests/unit/report/test_statistics.py):
a hierarchical bootstrap (seeds, then examples) understates the variance of 5 seeds by a fifth and knows no small-sample
correction (1.96 standard errors instead of Student's 2.78); degrees of freedom estimated from the data (Satterthwaite,
Hillis) call twice as many null differences significant as they should with 2 or 3 seeds.

With one seed, σ² is unknown: the comparison then is about this pair of models only and Var(D) is the variance of d over
resampled examples.

References: Obuchowski and Rockette (1995), Communications in Statistics B 24(2); Howe (1974), Journal of the American
Statistical Association 69; Zou and Donner (2008), Statistics in Medicine 27; Hillis (2007), Statistics in Medicine 26;
Holm (1979), Scandinavian Journal of Statistics 6(2).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from rkd.errors import RkdError
from rkd.metrics import scores as metrics
from rkd.metrics.weighted import resampled_primary_scores
from rkd.report.names import AVERAGE
from rkd.runs.paths import run_of
from rkd.runs.predictions import read_predictions
from rkd.tasks import Task, get, primary_score

LEVEL = 0.95
RESAMPLES = 10_000

Values = NDArray[np.float64]


class Interval(NamedTuple):
    """Scores over seeds: mean, sample standard deviation, number, and the ends of the confidence interval."""

    mean: float
    sd: float
    n: int
    low: float
    high: float


def seed_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Student's t interval of the mean over seeds.

    Runs with different seeds are independent draws from the distribution that we ask about, scores over seeds are close
    to normal, and there are few of them: that is Student's case. The interval says where the mean over infinitely many
    seeds lies *on this dev set*; what another dev set would change is in `compare`.

    Args:
        values: one score per seed.
        level: the chance that such an interval holds the true mean.

    Returns:
        sd, low and high are NaN for fewer than two values, all are NaN if a value is.

    >>> [round(float(number), 2) for number in seed_interval([70.0, 72.0, 74.0])]
    [72.0, 2.0, 3, 67.03, 76.97]
    """
    scores = np.asarray(values, dtype=np.float64)
    n, mean = scores.size, float(scores.mean()) if scores.size else math.nan
    if n < 2:
        return Interval(mean, math.nan, n, math.nan, math.nan)
    sd = float(scores.std(ddof=1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * sd / math.sqrt(n)
    return Interval(mean, sd, n, mean - half, mean + half)


def holm(p: ArrayLike) -> Values:
    """Holm's step-down adjusted p-values: comparing them with 0.05 keeps the chance of any false claim below 0.05.

    Holds whatever the dependence between the tests. NaN (no test) stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    result = np.full(values.shape, np.nan)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]  # NaN is sorted last
    factors = np.arange(order.size, 0, -1)
    result[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return result


@dataclass(frozen=True)
class Predictions:
    """Predictions of one variant on the primary dev split of one task, for several seeds."""

    task: Task
    variant: str
    seeds: tuple[int, ...]  # ascending
    idx: NDArray[np.int64]  # official row numbers, ascending; shape (examples,)
    labels: Values  # shape (examples,)
    predictions: Values  # class ids or scores; shape (seeds, examples)
    files: tuple[str, ...]  # one per seed

    @classmethod
    def read(cls, files: Iterable[str]) -> "Predictions":
        """Read the predictions.parquet files of one variant on one task, one per seed.

        Task, variant and seed come from the paths, as in `rkd.report.inputs.read_histories`.

        Raises:
            RkdError: no file, a file is unreadable or lacks a column or the split, files of different variants or
                tasks, a seed or an example occurs twice, or the runs differ in examples or labels.
        """
        places = sorted(((run_of(str(file)), str(file)) for file in files), key=lambda found: found[0].seed)
        if not places:
            raise RkdError("predictions: no files; expected one per seed")
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
        return cls(
            task,
            first.variant,
            tuple(place.seed for place, _ in places),
            frames[0]["idx"].to_numpy(np.int64),
            frames[0]["label"].to_numpy(np.float64),
            np.array([frame["prediction"].to_numpy(np.float64) for frame in frames]),
            tuple(file for _, file in places),
        )

    def of(self, seeds: Sequence[int]) -> "Predictions":
        """The same with some of the seeds only."""
        chosen = [self.seeds.index(seed) for seed in seeds]
        return replace(
            self,
            seeds=tuple(seeds),
            predictions=self.predictions[chosen],
            files=tuple(self.files[i] for i in chosen),
        )

    @cached_property
    def scores(self) -> Values:
        """Primary score of each seed, fractions, NaN where undefined; shape (seeds,)."""
        found = [metrics.compute(self.task, line, self.labels) for line in self.predictions]
        return np.array([primary_score(self.task, scores) for scores in found])


def pair(variant: Predictions, baseline: Predictions) -> tuple[Predictions, Predictions]:
    """Return both variants with the seeds that both have.

    Raises:
        RkdError: different tasks, no seed in common, or other examples or labels.
    """
    task, other = variant.task, baseline.task
    if task is not other:
        raise RkdError(f"{variant.files[0]} is of {task.name}, {baseline.files[0]} of {other.name}; expected one task")
    common = [seed for seed in variant.seeds if seed in baseline.seeds]
    if not common:
        found = " and ".join(f"{each.variant} with the seeds {_list(each.seeds)}" for each in (variant, baseline))
        raise RkdError(f"{task.name}: found {found}; expected at least one seed in common")
    _same_examples(variant.files[0], variant.idx, variant.labels, baseline.files[0], baseline.idx, baseline.labels)
    return variant.of(common), baseline.of(common)


@dataclass(frozen=True)
class Comparison:
    """The difference between two variants on a task (or on the average of tasks) and how sure it is. Fractions.

    Attributes:
        differences: score of the variant minus score of the baseline, one per seed.
        covariance: of two different seeds' differences over resampled examples; with one seed, the variance of its
            difference.
        sampling_error: standard error of one run of the baseline through the choice of dev examples.
        examples: number of dev examples.
    """

    variant: str
    baseline: str
    task: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    covariance: float
    sampling_error: float
    examples: int
    files: tuple[str, ...] = ()

    @property
    def difference(self) -> float:
        """Mean over seeds; NaN if one seed's is undefined."""
        return float(np.mean(self.differences))

    @property
    def examples_only(self) -> bool:
        """True with one seed: nothing is known of what another seed would change."""
        return len(self.seeds) == 1

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(self._seed_variance / len(self.seeds) + max(self.covariance, 0.0))

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference; 1 for variants that answer alike, NaN where nothing can be tested."""
        if not self.error > 0:
            return 1.0 if self.difference == 0 else math.nan
        smallest = 1e-100
        if self._half_width(smallest) <= abs(self.difference):
            return 0.0
        log_p = brentq(lambda x: self._half_width(math.exp(x)) - abs(self.difference), math.log(smallest), 0.0)
        return math.exp(log_p)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Confidence interval of the difference; NaN where nothing can be tested."""
        if not self.error > 0 and self.difference != 0:
            return math.nan, math.nan
        half = self._half_width(1 - level)
        return self.difference - half, self.difference + half

    def _half_width(self, p: float) -> float:
        """Of the interval that leaves out the truth with chance `p`."""
        z, by_seed = float(ndtri(p / 2)), 0.0
        if not self.examples_only:
            by_seed = float(stdtrit(len(self.seeds) - 1, p / 2)) * math.sqrt(self._seed_variance / len(self.seeds))
        return math.hypot(by_seed, z * math.sqrt(max(self.covariance, 0.0)))

    @property
    def _seed_variance(self) -> float:
        return 0.0 if self.examples_only else float(np.var(self.differences, ddof=1))


def compare(variant: Predictions, baseline: Predictions, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare two variants on the seeds and dev examples that both have; see the module's docstring.

    Args:
        variant, baseline: what `Predictions.read` returns.
        resamples: bootstrap samples of the dev examples, for the covariance c.
        seed: of the resampling, so that a table is the same whenever it is built.

    Raises:
        RkdError: as `pair`.
    """
    variant, baseline = pair(variant, baseline)
    both = np.vstack([variant.predictions, baseline.predictions])
    boot = resampled_primary_scores(variant.task, variant.labels, both, resamples, np.random.default_rng(seed))
    defined = boot[:, ~np.isnan(boot).any(axis=0)]
    n, count = variant.labels.size, len(variant.seeds)
    covariance = sampling_variance = math.nan
    if defined.shape[1] > resamples / 2 and n > 1:
        # n / (n − 1): a bootstrap variance divides by the number of examples, as the standard deviation of a sample.
        scale = n / (n - 1)
        sampling_variance = scale * float(defined[count:].var(axis=1, ddof=1).mean())
        table = scale * np.cov(defined[:count] - defined[count:]).reshape(count, count)
        covariance = float(table.sum() - np.trace(table)) / (count * (count - 1)) if count > 1 else float(table[0, 0])
    return Comparison(
        variant.variant,
        baseline.variant,
        variant.task.name,
        variant.seeds,
        tuple((variant.scores - baseline.scores).tolist()),
        covariance,
        math.sqrt(sampling_variance),
        n,
        variant.files + baseline.files,
    )


def average(comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison of the mean over tasks: seed by seed, while the tasks' examples are independent.

    Args:
        comparisons: of the same two variants and the same seeds, one per task.
    """
    if len({(found.variant, found.baseline, found.seeds) for found in comparisons}) != 1:
        raise RkdError("average: found comparisons of different variants or seeds; expected the same for every task")
    first, tasks = comparisons[0], len(comparisons)
    return Comparison(
        first.variant,
        first.baseline,
        AVERAGE,
        first.seeds,
        tuple(np.mean([found.differences for found in comparisons], axis=0).tolist()),
        sum(found.covariance for found in comparisons) / tasks**2,
        math.sqrt(sum(found.sampling_error**2 for found in comparisons)) / tasks,
        sum(found.examples for found in comparisons),
        tuple(file for found in comparisons for file in found.files),
    )


def _read(task: Task, file: str) -> pd.DataFrame:
    """Examples of the primary dev split, sorted by idx."""
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


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
