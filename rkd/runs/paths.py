"""Paths of a run's files in a folder of results, and the run that a path belongs to.

`results/` holds a store, which all experiments share, and a folder per experiment:

    results/data/TASK-DIGEST/                          prepared data
    results/runs/TASK/VARIANT-DIGEST/seed-SEED/        a training run; the variant of a teacher is "teacher"
    results/EXPERIMENT/metrics/TASK/VARIANT-DIGEST/seed-SEED.json
    results/EXPERIMENT/{tables,figures,report,submission,logs,…}/

A digest covers all settings that decide the content (`rkd.specs.identity`): other settings have another folder.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from rkd.errors import RkdError
from rkd.specs.identity import DIGEST
from rkd.specs.jobs import TEACHER
from rkd.tasks import get

# Templates; names in braces are wildcards of Snakemake. Below results/:
JOB = "{task}/{variant}-{digest}/seed-{seed}"
RUN = f"runs/{JOB}"
CHECKPOINTS = f".checkpoints/{JOB}"
DATA = "data/{task}-{digest}"
# Below results/EXPERIMENT/:
METRICS = f"metrics/{JOB}.json"
TRACKER = f"tracker/{JOB}"
TRIALS = ".trials/{task}.jsonl"  # specs of a task's students: each is tried for a step before the teacher is trained
CLUSTERS = "clusters/{task}.parquet"  # groups of related dev examples
MEASUREMENT = "measurements/{kind}/{task}.json"
TABLES = "tables"
FIGURES = "figures"
PAGE = "report/index.html"
SUBMISSION = "submission/{variant}.zip"
# Folders of results/ that are not experiments; those in the second line are of earlier versions.
STORE = ("data", "runs", "published")
EARLIER = ("teachers", "students", "metrics", "tables", "figures", "report", "logs")

_PLACE = re.compile(
    rf"(?:(?:runs|[^/]+/metrics|metrics)/(?P<task>[^/]+)/(?P<variant>[^/]+)-(?P<digest>{DIGEST})"
    r"|(?:students|metrics)/(?P<old_task>[^/]+)/(?P<old_variant>[^/]+)|teachers/(?P<teacher_task>[^/]+))/seed-(?P<seed>\d+)"
    r"(?:/.*|\.json)?",
    re.DOTALL,
)


def log(rule: str, job: str = "") -> str:
    """Return the template of the log of a rule's job, below the experiment.

    Args:
        rule: the name of the rule.
        job: the part of the path that tells its jobs apart; empty for a rule of one job.

    >>> log("report")
    'logs/report.log'
    """
    return f"logs/{rule}{'/' if job else ''}{job}.log"


def benchmark(rule: str, job: str = "") -> str:
    """Return the file of the resources that a rule's job took; arguments as for `log`."""
    return f"benchmarks/{rule}{'/' if job else ''}{job}.tsv"


class Run(NamedTuple):
    """One run of a workflow: its task, variant (`TEACHER` for a teacher), seed, and the digest of its settings.

    The digest is empty for runs of earlier versions, whose folders have none.

    >>> Run("mrpc", "kd", 1, "0123456789").folder(Path("results"))
    PosixPath('results/runs/mrpc/kd-0123456789/seed-1')
    """

    task: str
    variant: str
    seed: int
    digest: str = ""

    def columns(self) -> dict[str, str | int]:
        """Return task, variant and seed by name, as the columns of a table."""
        return {"task": self.task, "variant": self.variant, "seed": self.seed}

    def folder(self, results: Path) -> Path:
        """Path of the run's folder."""
        if self.digest:
            return results / RUN.format(**self._asdict())
        above = f"teachers/{self.task}" if self.variant == TEACHER else f"students/{self.task}/{self.variant}"
        return results / above / f"seed-{self.seed}"

    def metrics(self, experiment: Path) -> Path:
        """Path of the run's metrics file in an experiment's folder."""
        if self.digest:
            return experiment / METRICS.format(**self._asdict())
        return experiment / "metrics" / self.task / self.variant / f"seed-{self.seed}.json"

    def log(self, experiment: Path) -> Path:
        """Path of the log of the job that trains the run, in an experiment's folder."""
        rule = "finetune_teacher" if self.variant == TEACHER else "train_student"
        if self.digest:
            return experiment / log(rule, JOB.format(**self._asdict()))
        return (
            experiment
            / "logs"
            / rule
            / self.folder(Path()).relative_to(self.folder(Path()).parts[0]).with_suffix(".log")
        )


def located(path: str | os.PathLike[str]) -> tuple[Path, Run] | None:
    """Return the folder of results and the run that a path belongs to, None if it belongs to no run.

    Args:
        path: a run's folder, a path in it, or its metrics file.

    >>> located("results/demo/metrics/mrpc/kd-0123456789/seed-1.json")
    (PosixPath('results'), Run(task='mrpc', variant='kd', seed=1, digest='0123456789'))
    """
    text = Path(path).as_posix()
    for start in (0, *(slash.end() for slash in re.finditer("/", text))):
        if found := _PLACE.fullmatch(text, start):
            task = found["task"] or found["old_task"] or found["teacher_task"]
            variant = found["variant"] or found["old_variant"] or TEACHER
            return Path(text[:start]), Run(task, variant, int(found["seed"]), found["digest"] or "")
    return None


def store_of(experiment: Path) -> Path:
    """Return the folder whose runs/ and data/ an experiment uses: the folder above, or itself if it holds all."""
    alone = any((experiment / name).is_dir() for name in ("runs", "students", "teachers"))
    return experiment if alone else experiment.parent


def runs_in(results: Path) -> list[Run]:
    """Return the runs with a run.json in a folder of results, sorted by their paths."""
    patterns = ("runs/*/*/seed-*", "teachers/*/seed-*", "students/*/*/seed-*")
    records = sorted(record for pattern in patterns for record in results.glob(f"{pattern}/run.json"))
    found = (located(record.relative_to(results)) for record in records)
    return [run for _, run in filter(None, found)]


def run_of(file: str | os.PathLike[str]) -> Run:
    """Return the run that a file in a run's folder belongs to.

    Raises:
        RkdError: the file lies elsewhere, or its task is unknown.

    >>> run_of("results/runs/mrpc/kd-0123456789/seed-1/predictions.parquet")
    Run(task='mrpc', variant='kd', seed=1, digest='0123456789')
    """
    place = located(Path(file).parent)
    if place is None or Path(file).parent.name != f"seed-{place[1].seed}":
        raise RkdError(f"{file}: expected a path like runs/TASK/VARIANT-DIGEST/seed-N/FILE")
    run = place[1]
    return run._replace(task=get(run.task).name)


def folder_of(reference: str | os.PathLike[str]) -> Path | None:
    """Return the run's folder that a reference is, or whose model/ it is; None for a reference to something else.

    >>> folder_of("distilled/student/model")
    PosixPath('distilled/student')
    """
    folder = Path(os.path.expanduser(reference))
    if not folder.is_dir():  # a name on the hub may end in /model
        return None
    places = [folder, *(path.parent for path in (folder.absolute(), folder.resolve()) if path.name == "model")]
    return next((place for place in places if (place / "run.json").is_file()), None)


def check_finished(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder without run.json, the record of a finished run; its content is not read.

    Raises:
        RkdError: no finished run is there; the message names one below, if there is one.
    """
    if not (Path(folder) / "run.json").is_file():
        found = "no run.json" if Path(folder).is_dir() else "no such folder"
        expected = "expected a folder with run.json and model/"
        raise RkdError(f"{folder}: no finished run: found {found}; {expected}{hint(folder)}")


def distilled_record(folder: Path) -> Path:
    """Path of the record of a distillation: that of its student."""
    return folder / "student" / "run.json"


def is_distillation(folder: Path) -> bool:
    """Tell whether `rkd distill` wrote a folder: one of its two main records is there."""
    return distilled_record(folder).is_file() or (folder / "data" / "manifest.json").is_file()


def hint(folder: str | os.PathLike[str]) -> str:
    """End of a message about a folder that is no model or run: the run below it that `rkd distill` left, if any."""
    record = distilled_record(Path(folder))
    return f"; did you mean {str(record.parent)!r}?" if record.is_file() else ""
