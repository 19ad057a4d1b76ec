"""Interleaved timing of several implementations, and statistics of their ratios.

Load, temperature and clock rate of the machine change over minutes, so they affect all sides of a round equally. Ratios
within a round vary less than ratios of separate measurements.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

Seconds = dict[str, list[float]]


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float


def paired(
    sides: Mapping[str, Callable[[int], object]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    device: str = "cpu",
) -> Seconds:
    """Measure the seconds of every side in every round. All sides run once per round, in rotating order.

    Args:
        sides: functions by name; each takes the number of the round.
        rounds: number of rounds, at least 1.
        clock: `time.perf_counter`, or `time.process_time` for one thread on a busy machine, which excludes the time of
            other processes.
        device: device of the computation; GPUs are synchronised, so that their work is included.

    >>> seconds = paired({"a": lambda turn: sum(range(1000)), "b": lambda turn: sum(range(2000))}, rounds=5)
    >>> spread(ratios(seconds["b"], seconds["a"])).median
    2.0...
    """
    names = list(sides)
    seconds: Seconds = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            _wait_for(device)
            started = clock()
            sides[name](turn)
            _wait_for(device)
            seconds[name].append(clock() - started)
    return seconds


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(values: Sequence[float]) -> Spread:
    """Compute median and quartiles, interpolated as in NumPy; a single value is all three."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def geometric(by_task: Mapping[str, Sequence[float]]) -> Spread:
    """Compute the geometric mean of the tasks' medians, with quartiles of the rounds' geometric means.

    Args:
        by_task: ratios by task, one per round.
    """
    medians = [statistics.median(values) for values in by_task.values()]
    rounds = [math.exp(statistics.fmean(map(math.log, turn))) for turn in zip(*by_task.values(), strict=True)]
    found = spread(rounds)
    return Spread(math.exp(statistics.fmean(map(math.log, medians))), found.low, found.high)
