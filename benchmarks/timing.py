"""Seconds of several ways to do the same work, measured in turn, and what to say about their ratio.

Other work on the machine, its heat and its clock change over minutes and meet all sides of a round alike: the ratio
within a round is steadier than the quotient of two measurements made one after the other.
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
    """Seconds of every side in every round; all sides run once per round, and another one starts each time.

    Args:
        sides: by name, a function of the number of the round.
        rounds: number of rounds, from 1.
        clock: `time.perf_counter`, or `time.process_time` for one thread on a busy machine: other processes' turns on
            the core do not count then.
        device: where they compute: the work that they leave to a GPU counts.

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
    """The quotient of each round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles, the latter interpolated between the values as NumPy does; one value is all three."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def geometric(by_task: Mapping[str, Sequence[float]]) -> Spread:
    """The geometric mean over tasks of their medians, with the quartiles over rounds of each round's geometric mean.

    Args:
        by_task: ratios by task, one per round.
    """
    medians = [statistics.median(values) for values in by_task.values()]
    rounds = [math.exp(statistics.fmean(map(math.log, turn))) for turn in zip(*by_task.values(), strict=True)]
    found = spread(rounds)
    return Spread(math.exp(statistics.fmean(map(math.log, medians))), found.low, found.high)
