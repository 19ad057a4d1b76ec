"""Run the benchmarks, print the table and write it to results/benchmarks.

make benchmark                          # steps, memory, prediction, GPU: under 10 minutes on two quiet cores
make benchmark ARGS=--quick             # the same with less work: under a minute, too short to check goals
make benchmark ARGS=--workflow          # a complete default run in a clone and its overhead: about 6 minutes
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers.utils import logging as transformers_logging

from benchmarks import data, gpu, memory, prediction, report, steps, workflow
from benchmarks.report import Row
from rkd.training import precision
from rkd.utils.provenance import Stopwatch, provenance
from rkd.utils.script import run_script
from rkd.utils.torch_setup import reuse_memory, seed_everything

Found = tuple[list[Row], Any]
MEMORY_TASKS = ("cola", "mrpc", "rte")  # short, middle and long


def main() -> None:
    arguments = _parser().parse_args()
    started, load = Stopwatch(), os.getloadavg()
    reuse_memory()  # both sides benefit
    seed_everything(0, arguments.threads)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()

    rows: list[Row] = []
    samples: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in _sections(arguments, Path(folder)).items():
            print(f"{name} …", file=sys.stderr, flush=True)
            found, samples[name] = measure()
            # Short steps are mostly overhead, so goals do not apply to them.
            rows += [replace(row, goal=None) for row in found] if arguments.quick else found

    made = provenance(started, "cpu", arguments.threads)
    facts = _facts(arguments, made, load)
    name = "workflow" if arguments.workflow else "benchmark"
    record = {"arguments": {key: str(value) for key, value in vars(arguments).items()}, **made}
    report.write(arguments.out, name, rows, facts, {**record, "samples": samples})
    print((arguments.out / f"{name}.md").read_text(encoding="utf-8"))


def _sections(arguments: argparse.Namespace, folder: Path) -> dict[str, Callable[[], Found]]:
    """Return the measurements by name, in order."""
    if arguments.workflow:
        return {"workflow": lambda: workflow.rows(folder / "clone")}
    quick, threads = arguments.quick, arguments.threads
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    rounds = arguments.rounds or (1 if quick else 3)
    batch_size = 4 if quick else 32
    tasks: Sequence[str] = ("cola",) if quick else data.TASKS
    in_memory = ("cola",) if quick else MEMORY_TASKS
    remembered = memory.SIDES[:2] if quick else memory.SIDES
    predicted = ("cola",) if quick else prediction.TASKS
    return {
        "tokenising": lambda: ([], data.tokenise(folder, _glue(arguments), tasks)),
        "steps": lambda: steps.real_data(folder, tasks, batch_size, rounds, clock),
        "steps without padding": lambda: steps.equal_padding(
            rounds, 2 if quick else 8, clock, (1, 2) if quick else (6, 12)
        ),
        "MPNet": lambda: steps.own_forward(folder, rounds, batch_size, clock, 1 if quick else 12),
        "memory": lambda: memory.rows(folder, in_memory, batch_size, threads, remembered),
        "prediction": lambda: prediction.throughput(folder, predicted, 128 if quick else 512, rounds, clock),
        "GPU": lambda: gpu.rows(rounds),
    }


def _glue(arguments: argparse.Namespace) -> Path | None:
    return None if arguments.synthetic else Path(arguments.glue)


def _facts(arguments: argparse.Namespace, provenance: dict[str, Any], load: tuple[float, ...]) -> dict[str, str]:
    """Collect the facts shown above the table."""
    git = provenance["git"]
    packages = ", ".join(f"{name} {provenance['packages'][name]}" for name in ("torch", "transformers", "snakemake"))
    commit = git.get("commit", "unknown")[:12] + (" with uncommitted changes" if git.get("dirty") else "")
    bf16 = "bf16" if precision.has_bf16(torch.device("cpu")) else "no bf16"
    features = f"{torch.backends.cpu.get_cpu_capability()}, {bf16}"
    facts = {
        "command": f"`python -m benchmarks {shlex.join(sys.argv[1:])}`".replace(" `", "`"),
        "commit": commit,
        "date": f"{provenance['started']}, {provenance['seconds']:.0f} s",
        "machine": f"{provenance['processor']} ({features}), {os.cpu_count()} cores, {provenance['system']}",
        "load": f"{load[0]:.1f} at the start, {os.getloadavg()[0]:.1f} at the end (processes; this one included)",
        "versions": f"Python {provenance['python']}, {packages}",
    }
    if arguments.workflow:
        return facts
    clock = "processor time of this process" if arguments.clock == "cpu" else "wall time"
    facts |= {"threads": str(arguments.threads), "clock": clock}
    facts["data"] = "**synthetic sentences of rkd, not GLUE**" if arguments.synthetic else "official GLUE files"
    if arguments.quick:
        facts["quick"] = "**small batches and few of them: shows that the benchmark runs, not whether goals are met**"
    return facts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, under a minute")
    parser.add_argument("--workflow", action="store_true", help="the workflow's rows instead of the others")
    parser.add_argument("--glue", default=data.default_glue(), help="official GLUE TSV folders (%(default)s)")
    parser.add_argument("--synthetic", action="store_true", help="synthetic sentences instead of GLUE")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads (%(default)s)")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of every comparison (3, quick 1)")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, for a busy machine and --threads 1 (%(default)s)",
    )
    parser.add_argument("--out", type=Path, default=data.ROOT / "results/benchmarks", help="folder to write to")
    return parser


if __name__ == "__main__":
    run_script(main)
