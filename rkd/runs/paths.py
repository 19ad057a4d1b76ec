"""Paths of a run's files in a folder of results, and the run that a path belongs to."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from rkd.errors import RkdError
from rkd.specs.jobs import TEACHER
from rkd.tasks import get

_PLACE = re.compile(
    r"(?:(?:students|metrics)/(?P<task>[^/]+)/(?P<variant>[^/]+)|teachers/(?P<teacher_task>[^/]+))/seed-(?P<seed>\d+)"
    r"(?:/.*|\.json)?",
    re.DOTALL,
)


class Run(NamedTuple):
    """One run of a workflow: its task, variant (`TEACHER` for a teacher) and seed.

    >>> Run("mrpc", "kd", 1).folder(Path("results"))
    PosixPath('results/students/mrpc/kd/seed-1')
    """

    task: str
    variant: str
    seed: int

    def folder(self, results: Path) -> Path:
        """Path of the run's folder."""
        is_teacher = self.variant == TEACHER
        above = f"teachers/{self.task}" if is_teacher else f"students/{self.task}/{self.variant}"
        return results / above / f"seed-{self.seed}"

    def metrics(self, results: Path) -> Path:
        """Path of the run's metrics file."""
        return results / "metrics" / self.task / self.variant / f"seed-{self.seed}.json"

    def log(self, results: Path) -> Path:
        """Path of the log of the job that trains the run."""
        is_teacher = self.variant == TEACHER
        above = f"finetune_teacher/{self.task}" if is_teacher else f"train_student/{self.task}/{self.variant}"
        return results / "logs" / above / f"seed-{self.seed}.log"

    @property
    def teacher(self) -> "Run":
        """The run of the teacher with the same task and seed."""
        return Run(self.task, TEACHER, self.seed)


def located(path: str | os.PathLike[str]) -> tuple[Path, Run] | None:
    """Return the folder of results and the run that a path belongs to, None if it belongs to no run.

    Args:
        path: a run's folder, a path in it, or its metrics file.

    >>> located("results/metrics/mrpc/kd/seed-1.json")
    (PosixPath('results'), Run(task='mrpc', variant='kd', seed=1))
    """
    text = Path(path).as_posix()
    for start in (0, *(slash.end() for slash in re.finditer("/", text))):
        if found := _PLACE.fullmatch(text, start):
            run = Run(found["task"] or found["teacher_task"], found["variant"] or TEACHER, int(found["seed"]))
            return Path(text[:start]), run
    return None


def runs_in(results: Path) -> list[Run]:
    """Return the runs with a run.json in a folder of results, sorted by their paths."""
    records = sorted((*results.glob("teachers/*/seed-*/run.json"), *results.glob("students/*/*/seed-*/run.json")))
    found = (located(record.relative_to(results)) for record in records)
    return [run for _, run in filter(None, found)]


def run_of(file: str | os.PathLike[str]) -> Run:
    """Return the run that a file in a run's folder belongs to.

    Raises:
        RkdError: the file lies elsewhere, or its task is unknown.

    >>> run_of("results/students/mrpc/kd/seed-1/predictions.parquet")
    Run(task='mrpc', variant='kd', seed=1)
    """
    place = located(Path(file).parent)
    if place is None or Path(file).parent.name != f"seed-{place[1].seed}":
        raise RkdError(f"{file}: expected a path like students/TASK/VARIANT/seed-N/FILE or teachers/TASK/seed-N/FILE")
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
