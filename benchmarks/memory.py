"""Peak memory of a training step beyond models and optimizer states, each side in a separate process.

The number that is compared with the goal covers tensors. torch's profiler reports every allocation and release of the
CPU allocator, from before the method is built to the end of its second step. The result is the peak of the running sum
minus the optimizer states, which the first step creates. Models were allocated before. Gradients, graphs, copies of the
student and state between steps are therefore included. The number is reproducible under any load of the machine. The
workspace of the matrix libraries is not included.

    python -m benchmarks.memory SIDE FOLDER TASK[,TASK…] BATCH_SIZE THREADS
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.data import ROOT, WIDTH, Batch, pad_to, random_batches, splits_of
from benchmarks.report import Goal, Row
from benchmarks.sides import Pair, build, minilm
from benchmarks.timing import geometric
from rkd.errors import RkdError
from rkd.tasks import get
from rkd.utils.torch_setup import seed_everything

GOAL, METADISTIL = Goal("≤", 1 / 3), Goal(">", 1.0)
SIDES = ("literal", "reptile", "metadistil")
Record = dict[str, float]


def rows(
    folder: Path, tasks: Sequence[str], batch_size: int, threads: int, sides: Sequence[str] = SIDES
) -> tuple[list[Row], dict[str, Record]]:
    """Measure each side in a separate process and compare them."""
    records = {side: in_own_process(side, folder, tasks, batch_size, threads) for side in sides}
    name = f"Peak memory of a step above models and optimizer states, MiniLM 6 → 3, {batch_size} examples"
    found = [_row(f"{name}, Reptile, {get(task).title}", records, [task], "reptile", "literal") for task in tasks]
    found.append(_row(f"{name}, Reptile, geometric mean", records, tasks, "reptile", "literal", GOAL))
    if "metadistil" in sides:
        found.append(_row(f"{name}, MetaDistil against Reptile", records, tasks, "metadistil", "reptile", METADISTIL))
    return found, records


def in_own_process(side: str, folder: Path, tasks: Sequence[str], batch_size: int, threads: int) -> Record:
    """Return the MiB beyond models and optimizer states, by task."""
    command = [sys.executable, "-m", __spec__.name, side, str(folder), ",".join(tasks), str(batch_size), str(threads)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RkdError(f"benchmark: {' '.join(command)} failed: {result.stderr[-2000:]}")
    record: Record = json.loads(result.stdout.splitlines()[-1])
    return record


def measure(side: str, pair: Pair, batch: Batch) -> float:
    """Return the peak MiB of tensors in two steps, beyond the pair and the optimizer states."""
    gc.collect()
    with allocations() as sizes:
        method = _two_steps(side, pair, batch)
    return (peak(sizes) - optimizer_bytes(method)) / 2**20


@contextmanager
def allocations() -> Iterator[list[int]]:
    """Collect the bytes of every allocation (positive) and release (negative) of torch on the CPU, in order."""
    sizes: list[int] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        yield sizes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    ordered = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    sizes += [event["args"]["Bytes"] for event in ordered]


def peak(sizes: Sequence[int]) -> int:
    """Return the maximum of the running sum.

    >>> peak([3, -2, 4, -5])
    5
    """
    total = largest = 0
    for size in sizes:
        total += size
        largest = max(largest, total)
    return largest


def optimizer_bytes(method: Any) -> int:
    """Return the size of the AdamW states of student and teacher."""
    optimizers = [getattr(method, name) for name in ("student_optimizer", "teacher_optimizer") if hasattr(method, name)]
    states = [getattr(optimizer, "adamw", optimizer).state for optimizer in optimizers]
    tensors = [value for state in states for one in state.values() for value in one.values()]
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))


def _two_steps(side: str, pair: Pair, batch: Batch) -> Any:
    method = build(side, pair, batch, copies=False)
    for _ in range(2):
        method.step(batch)
    return method


def _row(
    name: str,
    records: dict[str, Record],
    tasks: Sequence[str],
    above: str,
    below: str,
    goal: Goal | None = None,
) -> Row:
    """Compare two sides over tasks; medians are the maximum over tasks."""
    value = geometric({task: [records[above][task] / records[below][task]] for task in tasks})
    medians = {side: max(records[side][task] for task in tasks) for side in (above, below)}
    return Row(name, value, "×", goal, medians, "MiB")


def main() -> None:
    side, folder, tasks, batch_size, threads = sys.argv[1:]
    seed_everything(0, int(threads))
    record = {}
    for task in tasks.split(","):
        [batch] = random_batches(splits_of(Path(folder), task)["train"], int(batch_size), 1)
        record[task] = measure(side, minilm(task), pad_to(batch, WIDTH) if side == "literal" else batch)
    print(json.dumps(record))


if __name__ == "__main__":
    main()
