"""Forecast of a workflow: its jobs and the time of its trainings. Behind `rkd plan`. No torch."""

import functools
import math
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rkd.config.load import load, read_yaml, restore_cli_types
from rkd.data.reading import count_rows
from rkd.errors import RkdError
from rkd.methods.facts import METHODS
from rkd.models.source import parse
from rkd.runs.history import read_history
from rkd.runs.manifest import read_manifest
from rkd.runs.paths import DATA, runs_in
from rkd.runs.record import read_record
from rkd.specs.jobs import TEACHER, ModelSpec, RunSpec
from rkd.tasks import get
from rkd.utils.escape import one_line
from rkd.utils.project import ROOT
from rkd.workflow.plan import Plan

FLOPS_PER_SECOND = 5e10
TOKENS = 32
_CHATTER = re.compile(r"Using workflow specific profile|Config file .+ is extended by|Building DAG|host: |usage: ")
_JOB = re.compile(r"^(?:local)?rule (\w[\w.-]*):\n((?:    .*\n|\n(?=    ))*)", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """A job that Snakemake would start."""

    rule: str
    wildcards: dict[str, str]


@dataclass(frozen=True)
class Training:
    """A training that would run: its steps and seconds, and what the seconds are based on."""

    task: str
    variant: str
    seed: int
    steps: int | None
    seconds: float | None
    basis: str  # "measured", "measured on other tasks", "assumed", or why there is no estimate


def planned_jobs(arguments: Sequence[str]) -> list[Job]:
    """Return the jobs of a dry run of Snakemake in the working directory, with its own arguments.

    Raises:
        RkdError: there is no workflow, or it refuses the config.
    """
    snakefile = str(_workflow() / "Snakefile")
    command = [sys.executable, "-m", "snakemake", "--snakefile", snakefile]
    command += ["--dry-run", "--nocolor", "--cores", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode:
        raise RkdError(_reason(output))
    return [Job(rule, _wildcards(body)) for rule, body in _JOB.findall(output)]


def _workflow() -> Path:
    """Return the folder of the workflow: the working directory if it is one, else that of this package."""
    for folder in (Path(), ROOT):
        if (folder / "Snakefile").is_file() and (folder / "config.yaml").is_file():
            return folder
    raise RkdError(f"{Path.cwd()}: no Snakefile is here; expected the folder of the workflow")


def _reason(output: str) -> str:
    """Why Snakemake ended: the workflow's own error, or the first one that Snakemake names."""
    if told := re.search(r"^error: (.*(?:\n- .*)*)", output, re.MULTILINE):
        return told[1]
    lines = [line for line in output.splitlines() if line.strip() and not _CHATTER.match(line)]
    first = next((i for i, line in enumerate(lines) if re.match(r"\w*(Error|Exception)\b|\S+: error: ", line)), 0)
    return "snakemake: " + one_line(" ".join(lines[first : first + 4]) or "it ended without a word")


def _wildcards(body: str) -> dict[str, str]:
    found = re.search(r"^    wildcards: (.*)$", body, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in found[1].split(", ")) if found else {}


def merged_config(files: Iterable[Path], changes: Mapping[str, Any]) -> Plan:
    """Return the plan of config.yaml with overlays and single keys over it, as Snakemake merges them."""
    from snakemake.utils import update_config

    config = read_yaml(_workflow() / "config.yaml")
    for overlay in (*map(read_yaml, files), changes):
        update_config(config, overlay)
    return Plan(load(restore_cli_types(config)))


def estimate(plan: Plan, jobs: Iterable[Job], results: Path, flops_per_second: float) -> list[Training]:
    """Estimate steps and seconds of every training among the jobs.

    Seconds per step are the median of finished runs with the same method, models, batch size and precision, those of
    the same task before others; without any, FLOPs (2 · parameters · tokens forward, twice that backward) at
    `flops_per_second`.

    Args:
        results: the results folder.
        flops_per_second: what this machine is assumed to do where nothing was measured.
    """
    measured = _measured(results)
    rows_of = functools.cache(lambda task: _rows(plan, task, results))
    found = []
    for job in jobs:
        if job.rule not in ("finetune_teacher", "train_student", "train_student_and_teacher"):
            continue
        task, seed = job.wildcards["task"], int(job.wildcards["seed"])
        variant = job.wildcards.get("variant", TEACHER)
        teacher = plan.teacher_of_digest(task, job.wildcards.get("digest", ""), seed) if variant == TEACHER else None
        spec = teacher or plan.student(task, variant, seed)
        rows = rows_of(task)
        steps = None if rows is None else spec.training["epochs"] * math.ceil(rows / spec.training["batch_size"])
        seconds, basis = _seconds_per_step(plan, spec, measured, flops_per_second)
        if steps is None:
            basis, seconds = "number of rows unknown", None
        found.append(Training(task, variant, seed, steps, steps * seconds if steps and seconds else None, basis))
    return found


def summary(jobs: Sequence[Job], trainings: Sequence[Training], flops_per_second: float) -> dict[str, Any]:
    """All numbers of a plan: jobs by rule, the trainings, and seconds by basis, as of one training at a time."""
    by_basis: dict[str, float] = defaultdict(float)
    for training in trainings:
        by_basis[training.basis] += training.seconds or 0.0
    return {
        "jobs": dict(Counter(job.rule for job in jobs)),
        "total": len(jobs),
        "trainings": [asdict(training) for training in trainings],
        "seconds": sum(by_basis.values()),
        "seconds_by_basis": dict(by_basis),
        "without_estimate": sum(training.seconds is None for training in trainings),
        "assumed": {"flops_per_second": flops_per_second, "tokens_per_example": TOKENS},
    }


def format_summary(found: Mapping[str, Any]) -> str:
    """Summarise a forecast in words."""
    if not found["total"]:
        return "nothing to do"
    jobs = ", ".join(
        f"{count} {rule}" for rule, count in sorted(found["jobs"].items(), key=lambda item: (-item[1], item[0]))
    )
    lines = [f"{found['total']} jobs: {jobs}"]
    count = len(found["trainings"])
    if count:
        estimated = count - found["without_estimate"]
        share = f"{count}" if estimated in (0, count) else f"{estimated} of {count}"
        time = f"about {_duration(found['seconds'])}, one at a time" if estimated else "no estimate"
        lines.append(f"{share} trainings: {time}")
        for basis, seconds in found["seconds_by_basis"].items():
            known = [training["seconds"] is not None for training in found["trainings"] if training["basis"] == basis]
            lines.append(f"  {len(known)} {basis}: {_duration(seconds) if all(known) else 'no estimate'}")
        if "assumed" in found["seconds_by_basis"]:
            assumed = found["assumed"]
            lines.append(
                f"  assumed: {assumed['flops_per_second']:.0e} FLOP/s, {assumed['tokens_per_example']} tokens per "
                "example, evaluations left out; off by a factor of several on another machine"
            )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _rows(plan: Plan, task: str, results: Path) -> int | None:
    """Training rows of a task: as prepared, else as planned."""
    manifest = results / DATA.format(task=task, digest=plan.data_digest(task)) / "manifest.json"
    if manifest.is_file():
        return int(read_manifest(manifest)["splits"]["train"]["rows"])
    if plan.is_synthetic(task):
        return int(plan.config["synthetic_rows"]["train"])
    if task not in plan.config["custom_tasks"]:
        return get(task).splits["train"].rows
    files = plan.files(task)
    rows = count_rows(Path(files["train"]).expanduser())
    share = 0.0 if "validation" in files else plan.config["custom_tasks"][task]["dev_fraction"]
    return rows - round(share * rows)


_Key = tuple[Any, ...]


def _key(spec: Mapping[str, Any]) -> _Key:
    training = spec["training"]
    return (spec["method"], spec["model"]["source"], training["batch_size"], training.get("precision", "fp32"))


def _measured(results: Path) -> dict[_Key, dict[str, list[float]]]:
    """Seconds per step of all finished runs, by what decides them and by task."""
    found: dict[_Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in (run.folder(results) for run in runs_in(results)):
        try:
            spec, last = read_record(folder / "run.json", "spec")["spec"], read_history(folder / "history.jsonl")[-1]
            found[_key(spec)][spec["task"]].append(last["seconds"] / last["step"])
        except (RkdError, KeyError, TypeError, ZeroDivisionError):
            continue  # a record of another version or a broken one is no measurement
    return found


def _seconds_per_step(
    plan: Plan, spec: RunSpec, measured: Mapping[_Key, Mapping[str, list[float]]], flops_per_second: float
) -> tuple[float | None, str]:
    by_task = measured.get(_key(asdict(spec)), {})
    if spec.task in by_task:
        return statistics.median(by_task[spec.task]), "measured"
    if by_task:
        return statistics.median(value for values in by_task.values() for value in values), "measured on other tasks"
    facts = METHODS[spec.method]
    if facts.passes is None:
        return None, "cost of the method unknown"
    student = _parameters(spec.model)
    teacher = _parameters(plan.teacher(spec.task, spec.seed).model) if facts.needs_teacher else 0.0
    if student is None or teacher is None:
        return None, "size of the model unknown"
    forward, backward, teacher_forward, teacher_backward = facts.passes
    weights = student * (forward + 2 * backward) + teacher * (teacher_forward + 2 * teacher_backward)
    tokens = spec.training["batch_size"] * min(TOKENS, plan.config["max_length"])
    return 2 * weights * tokens / flops_per_second, "assumed"


def _parameters(model: ModelSpec) -> float | None:
    """Parameters of the transformer layers, 12 · width² each, from the model's config; None where it is on the hub."""
    source = parse(model.source)
    if source.kind == "teacher-layers":
        whole, depth = _shape(model.layers_of) if model.layers_of else (None, None)
        return 12.0 * whole**2 * len(source.layers) if whole and depth else None
    width, depth = _shape(model)
    return 12.0 * width**2 * depth if width and depth else None


def _shape(model: ModelSpec) -> tuple[int | None, int | None]:
    config = parse(model.source).read_config() or {}
    return config.get("hidden_size") or config.get("dim"), config.get("num_hidden_layers") or config.get("n_layers")
