"""Fetch all that a config takes from the Hugging Face hub, and check it. Behind `rkd fetch`. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass

from rkd.models import hub
from rkd.tasks import get
from rkd.workflow.plan import Plan


@dataclass(frozen=True)
class Fetched:
    """A part of a config that is in the cache now.

    Attributes:
        name: the repository.
        kind: "model" or "dataset".
        part: of a data set, the task and split that were read.
        revision: the commit.
        pinned: whether the config names that commit; else it was the newest one.
        files: number of files.
        bytes: of them together.
        folder: where they lie.
    """

    name: str
    kind: str
    part: str | None
    revision: str
    pinned: bool
    files: int
    bytes: int
    folder: str

    def __str__(self) -> str:
        what = f"{self.name} ({self.part})" if self.part else self.name
        newest = "" if self.pinned else ", the newest: name it in the config to keep to it"
        return f"{what}: {self.files} files, {self.bytes / 2**20:.1f} MiB, commit {self.revision}{newest}"


def fetch(plan: Plan) -> Iterator[Fetched]:
    """Fetch models and data of a plan one after the other; what is in the cache is checked alone.

    Every file is compared with the digest that the hub names, and GLUE's splits with the official release, as the jobs
    do it again when they read them. A terminal shows a progress bar for each file.

    Raises:
        RkdError: the first thing that cannot be had, or is not what it should be.

    Example:
        >>> for each in fetch(merged_config([Path("configs/cpu.yaml")], {})):
        ...     print(each)
        sentence-transformers/all-MiniLM-L6-v2: 6 files, 87.3 MiB, commit 1110a243fdf4706b3f48f1d95db1a4f5529b4d41
        …
    """
    for spec in plan.hub_models:
        found = hub.snapshot(spec.source, spec.revision)
        yield _told(found, "model", None, pinned=spec.revision == found.commit)
    for task in (get(name) for name in plan.tasks if plan.data(name).source == "hub"):
        from rkd.data.hub import files_of, read_splits  # seconds of imports, for those who need them

        for split in task.splits:
            read_splits(task, [split], plan.data(task.name).revision)
            found = files_of(task, split, plan.data(task.name).revision)
            yield _told(found, "dataset", f"{task.name}, {split}", pinned=True)


def _told(found: hub.Snapshot, kind: str, part: str | None, *, pinned: bool) -> Fetched:
    size = sum((found.folder / file).stat().st_size for file in found.sha256)
    return Fetched(found.name, kind, part, found.commit, pinned, len(found.sha256), size, str(found.folder))
