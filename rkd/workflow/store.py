"""The store of runs: list what there is, find what no config plans, keep the small files of an experiment."""

import csv
import shlex
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rkd.errors import RkdError
from rkd.runs.history import read_history
from rkd.runs.metrics import read_metrics
from rkd.runs.paths import CHECKPOINTS, DATA, METRICS, RUN, STORE, Run, located, runs_in
from rkd.runs.record import read_record
from rkd.utils.files import atomic_write_text, staged
from rkd.utils.json_values import read_json
from rkd.workflow.plan import Plan

# Larger predictions are not kept: they belong into an archive, not into Git.
LARGEST = 5 << 20


@dataclass(frozen=True)
class StoredRun:
    """A run in the store.

    Attributes:
        settings: the settings in which the runs of its task and variant differ, by dotted name.
        score: the primary score on dev, a fraction; None if it is undefined or unknown.
        started: the time of the start, ISO 8601.
    """

    task: str
    variant: str
    seed: int
    digest: str
    settings: dict[str, Any]
    score: float | None
    started: str
    folder: str

    def __str__(self) -> str:
        score = "    –" if self.score is None else f"{100 * self.score:5.1f}"
        settings = ", ".join(f"{key} {value}" for key, value in self.settings.items())
        name = f"{self.task} {self.variant} seed {self.seed}"
        return f"{score}  {self.started[:16]}  {self.digest or 'earlier':10}  {name}{': ' * bool(settings)}{settings}"


def stored_runs(results: Path) -> list[StoredRun]:
    """Return the finished runs in a folder of results, sorted by task, variant, digest and seed.

    A run whose record is damaged is an error: `rkd verify` says more about it.
    """
    runs = sorted(runs_in(results), key=lambda run: (run.task, run.variant, run.digest, run.seed))
    records = {run: read_record(run.folder(results) / "run.json", "spec") for run in runs}
    settings = {run: dict(_flat(_deciding(records[run]["spec"]))) for run in runs}
    alike: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        alike[run.task, run.variant].append(run)
    found = []
    for run in runs:
        others = [settings[other] for other in alike[run.task, run.variant]]
        differing = {
            key: settings[run].get(key)
            for key in dict.fromkeys(key for other in others for key in other)
            if len({str(other.get(key)) for other in others}) > 1
        }
        started = str(records[run].get("started", ""))
        folder = run.folder(results)
        found.append(StoredRun(*run, differing, _score(run, results), started, folder.as_posix()))
    return found


def _deciding(spec: Mapping[str, Any]) -> dict[str, Any]:
    model = spec["model"]["source"]
    return {"method": spec["method"], "model": model, **spec["training"], **spec["options"]}


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _score(run: Run, results: Path) -> float | None:
    """Return the score in a metrics file of any experiment, else that of the last evaluation."""
    for experiment in (results, *sorted(folder.parent for folder in results.glob("*/metrics"))):
        if (file := run.metrics(experiment)).is_file():
            score: float | None = read_metrics(file)["primary_score"]
            return score
    history = run.folder(results) / "history.jsonl"
    if not history.is_file():
        return None
    last: float | None = read_history(history)[-1].get("primary_score")
    return last


@dataclass(frozen=True)
class Unplanned:
    """A folder of the store, or a metrics file, that no config plans, and its size in bytes."""

    folder: Path
    size: int

    def __str__(self) -> str:
        return f"{self.size / 2**20:8.1f} MiB  {self.folder}"


def unplanned(results: Path, plans: Iterable[Plan]) -> list[Unplanned]:
    """Return the folders of runs, checkpoints and data, and the metrics of the plans' experiments, that no plan uses.

    Results of earlier versions are not listed.
    """
    used: set[Path] = set()
    patterns = {"runs/*/*/*", ".checkpoints/*/*/*", "data/*"}
    for plan in plans:
        runs = [run._asdict() for run in (*plan.runs(), *plan.all_tuning_runs())]
        templates = (RUN, CHECKPOINTS, f"{plan.experiment}/{METRICS}")
        used |= {results / template.format(**run) for run in runs for template in templates}
        used |= {results / DATA.format(task=task, digest=plan.data_digest(task)) for task in plan.tasks}
        patterns.add(f"{plan.experiment}/metrics/*/*/*")
    found = sorted(place for pattern in patterns for place in results.glob(pattern))
    return [Unplanned(place, _size(place)) for place in found if place not in used]


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in (folder, *folder.rglob("*")) if not file.is_dir())


def remove(found: Iterable[Unplanned], locks: Path = Path(".snakemake/locks")) -> None:
    """Remove folders and files, and the folders above them that are then empty.

    Raises:
        RkdError: Snakemake is running in the working directory.
    """
    if locks.is_dir() and any(locks.iterdir()):
        raise RkdError(f"{locks}: Snakemake is running here; expected none (after a crash: snakemake --unlock)")
    for each in found:
        if each.folder.is_dir():
            shutil.rmtree(each.folder)
        else:
            each.folder.unlink()
        for above in each.folder.parents[:2]:
            if above.name in (*STORE, ".checkpoints", "metrics") or any(above.iterdir()):
                break
            above.rmdir()


_README = """\
# {name}

(What is compared, and why. Then the findings.)

```console
$ {command}
```

| | |
|---|---|
| code | {commits} |
| machine | {machines} |
| started, last run started | {first}, {last} (UTC) |
| training time | {hours:.1f} h in {runs} runs, one after the other |

`report/index.html` shows everything on one page. Weights and logits{left_out} are not kept; the
command makes them again.
`rkd verify results/published/{name}` compares the files with their records.
"""


def keep(name: str, results: Path, command: str = "") -> Path:
    """Copy the small files of an experiment to results/published/NAME, with a README to fill in.

    Kept are tables, figures, report, clusters, metrics, the records and histories of its runs, the manifests of its
    data, and predictions of up to 5 MiB. Weights and logits are not kept.

    Args:
        name: the experiment.
        results: the folder of results.
        command: the command that made it, for the README.

    Returns:
        The new folder.

    Raises:
        RkdError: there is no such experiment, or the folder exists.
    """
    source, target = results / name, results / "published" / name
    index = source / "tables" / "provenance.csv"
    if name in STORE or not index.is_file():
        known = sorted(each.parent.parent.name for each in results.glob("*/tables/provenance.csv")) or ["none"]
        raise RkdError(f"{source}: has no tables/provenance.csv; expected a finished experiment: {', '.join(known)}")
    if target.exists():
        raise RkdError(f"{target}: exists; expected a new folder: move it away, nothing is overwritten")
    with index.open(encoding="utf-8", newline="") as file:
        places = [located(line["file"]) for line in csv.DictReader(file)]
    runs = [place[1] for place in places if place is not None]
    records = {run: read_record(run.folder(results) / "run.json", "spec") for run in runs}
    files: dict[Path, Path] = {}
    for part in ("tables", "figures", "report", "clusters"):
        # The report holds the tables as HTML.
        found = [path for path in (source / part).glob("*") if path.suffix != ".html" or part == "report"]
        files |= {path: path.relative_to(source) for path in found}
    files |= {path: path.relative_to(source) for path in source.glob("tuned*.yaml")}
    files |= {path: path.relative_to(results) for path in _of_tuning(source / "tables", results)}
    large = False
    for run, record in records.items():
        ours = [run.folder(results) / part for part in ("run.json", "history.jsonl", "predictions.parquet")]
        digest = (record.get("inputs") or {}).get("data")
        ours.append(results / DATA.format(task=run.task, digest=digest) / "manifest.json")
        small = [path for path in ours if path.is_file() and path.stat().st_size <= LARGEST]
        large |= any(path.is_file() and path not in small for path in ours)
        files |= {path: path.relative_to(results) for path in small}
        if (scored := run.metrics(source)).is_file():
            files[scored] = scored.relative_to(source)
    with staged(target, last="README.md") as temporary:
        for path, relative in files.items():
            (temporary / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, temporary / relative)
        atomic_write_text(temporary / "README.md", _readme(name, list(records.values()), command, large))
    return target


def _of_tuning(tables: Path, results: Path) -> Iterator[Path]:
    """Yield the records and histories of the runs behind the tables of tuning."""
    for table in tables.glob("tune*.json"):
        for file in read_json(table)["origin"]["inputs"]:
            history = results / PurePosixPath(file).relative_to("results")
            yield from (history, history.with_name("run.json"))


def _readme(name: str, records: Sequence[Mapping[str, Any]], command: str, large: bool) -> str:
    commits, machines = set(), set()
    for each in records:
        git = each.get("git") or {}
        commits.add(str(git.get("commit", "unknown"))[:12] + " + changes" * bool(git.get("dirty")))
        machines.add(f"{each.get('gpu') or each.get('processor', 'unknown')}, {each.get('threads', '?')} threads")
    started = sorted(str(each.get("started", "unknown")) for each in records)
    return _README.format(
        name=name,
        command=command or f"snakemake --cores all --configfile configs/{shlex.quote(name)}.yaml",
        commits=", ".join(sorted(commits)),
        machines="; ".join(sorted(machines)),
        first=started[0],
        last=started[-1],
        hours=sum(float(each.get("seconds", 0)) for each in records) / 3600,
        runs=len(records),
        left_out=", and large predictions," if large else "",
    )
