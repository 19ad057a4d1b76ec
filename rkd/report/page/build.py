"""The report page: what ran, tables, figures, findings and missing runs. Does not import pandas."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import rkd
from rkd.errors import RkdError
from rkd.report.captions import split_text
from rkd.report.names import table_title
from rkd.report.page.findings import read_differences, sentence, summary, verdict
from rkd.report.page.graph import graph
from rkd.report.rendering.grid import Grid
from rkd.report.rendering.html import environment, grid_of
from rkd.runs.history import read_history
from rkd.runs.paths import DATA
from rkd.tasks import define, get, register
from rkd.utils.json_values import read_json
from rkd.workflow.plan import Plan

FIGURES = {
    "forest": ("Differences between variants", "difference of scores by task with intervals, and their average"),
    "learning_curves": ("Learning curves", "dev score by training step, a line per variant with a band over seeds"),
    "teacher_dynamics": (
        "Dynamics of trainable teachers",
        "distance to the student, dev score, KL divergence and entropy of the teacher by training step",
    ),
    "cost": ("Score against training time", "score and seconds of training, a point per variant"),
    "latency": ("Score against latency", "score and latency of one example, a point per variant and the teacher"),
}
_NAMING = ("method", "title")  # keys of a variant that override no setting
_TYPES = {
    "csv": "text/csv",
    "tex": "text/plain",
    "json": "application/json",
    "pdf": "application/pdf",
    "png": "image/png",
}
_SCALE = 0.62  # of all PNG files, so that their letters have one size, about that of the page's
_FAILURE = re.compile(r"^(error: |\w*(Error|Exception|Interrupt)\b)")


class File(NamedTuple):
    """A file embedded in the page."""

    name: str
    uri: str  # a data URI


@dataclass(frozen=True)
class Shown:
    """A table with its grid, or a figure with its image and alternative text."""

    id: str
    title: str
    files: tuple[File, ...]
    grid: Grid | None = None
    image: str = ""
    width: int = 0  # of the image on the page, in pixels
    alt: str = ""


class Missing(NamedTuple):
    """A planned run without a result, with its state and the reason from its log."""

    task: str
    variant: str
    seed: int
    state: str  # "failed", "no result" or "not started"
    reason: str


def page(plan: Plan, results: Path, citation: Path, tables: Sequence[str], figures: Sequence[str]) -> str:
    """Return the self-contained HTML page: it can be moved, mailed and read without a network.

    Args:
        plan: what was to be run.
        results: folder of the store of runs and of the experiments.
        citation: CITATION.cff.
        tables: names of the tables to show; ones that do not exist are left out.
        figures: names of the figures, likewise.

    Raises:
        RkdError: a table's sidecar, comparisons.csv or the citation file is broken.
    """
    for task, entry in plan.config["custom_tasks"].items():
        register(get(task, define(entry)))
    own = results / plan.experiment
    shown = [_table(own / "tables", name) for name in tables if (own / f"tables/{name}.json").exists()]
    drawn = [_figure(own / "figures", name, plan) for name in figures if (own / f"figures/{name}.png").exists()]
    unfinished = missing(plan, results)
    differences = read_differences(own / "tables/comparisons.csv") if "comparisons" in tables else []
    labels = {name: plan.label(name) for name in plan.all_variants}
    nodes, edges = graph(plan, unfinished)
    content = {
        "plan": plan,
        "version": rkd.__version__,
        "titles": [get(task).title for task in plan.tasks],
        "split": split_text(plan.tasks),
        "data": _data(plan),
        "rows": [(labels[name], plan.method(name), _changes(plan, name)) for name in plan.variants],
        "labels": [labels[name] for name in plan.variants],
        "config": yaml.safe_dump(plan.config, sort_keys=False, allow_unicode=True, width=100),
        "tables": [one for one in shown if one.id != "provenance"],
        "provenance": next((one for one in shown if one.id == "provenance"), None),
        "figures": drawn,
        "verdict": verdict(differences, labels),
        "findings": [sentence(one, labels) for one in summary(differences)],
        "warnings": warnings(plan, results),
        "missing": unfinished,
        "planned": len(plan.runs()),
        "nodes": nodes,
        "edges": edges,
        "known": {one.id for one in shown},
        "citations": _citations(citation),
    }
    return environment().get_template("page.html.jinja").render(content)


def sources(plan: Plan, results: Path, tables: Iterable[str], figures: Iterable[str]) -> list[Path]:
    """Return the existing files that a page is made from, with the records of its runs and data.

    Args:
        plan, results, tables, figures: as for `page`.
    """
    own = results / plan.experiment
    unfinished = {(one.task, one.variant, one.seed) for one in missing(plan, results)}
    found = [own / f"tables/{name}.{suffix}" for name in tables for suffix in ("json", "csv", "tex")]
    found += [own / f"figures/{name}.{suffix}" for name in figures for suffix in ("json", "pdf", "png")]
    found += [results / DATA.format(task=task, digest=plan.data_digest(task)) / "manifest.json" for task in plan.tasks]
    for run in plan.runs():
        folder = run.folder(results)
        found += [run.log(own)] if run[:3] in unfinished else [folder / "run.json", folder / "history.jsonl"]
    return [path for path in found if path.exists()]


def missing(plan: Plan, results: Path) -> list[Missing]:
    """Return the planned runs without a run.json, in the order of the plan, with the reason from each log."""
    found = []
    for run in plan.runs():
        if not (run.folder(results) / "run.json").exists():
            found.append(Missing(*run[:3], *_state_and_reason(run.log(results / plan.experiment))))
    return found


def _state_and_reason(log: Path) -> tuple[str, str]:
    """Return the state of a run without a result, and the reason, from its log."""
    if not log.exists():
        return "not started", ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if lines and _FAILURE.match(lines[-1]):
        return "failed", lines[-1][:300]
    return "no result", "the log ends without an error: the run was stopped or is still running"


def warnings(plan: Plan, results: Path) -> list[str]:
    """Return the warnings at the last evaluation of students: one sentence per variant, with the number of runs."""
    counts: dict[str, list[str]] = {}
    total: dict[str, int] = {}
    for run in plan.runs():
        history = run.folder(results) / "history.jsonl"
        if run.variant in plan.variants and history.exists():
            last = read_history(history)[-1]
            total[run.variant] = total.get(run.variant, 0) + 1
            for text in last.get("warnings", []):
                counts.setdefault(run.variant, []).append(text)
    return [
        f"{variant}: {len(texts)} of {total[variant]} runs had a warning at the last evaluation, such as “{texts[0]}”."
        for variant, texts in counts.items()
    ]


def _data(plan: Plan) -> str:
    parts = []
    if plan.glue_tasks:
        spec = plan.data(plan.glue_tasks[0])
        sizes = " / ".join(map(str, spec.synthetic_rows or []))
        parts.append(
            {
                "synthetic": f"synthetic tasks, {sizes} examples (train / dev / test)",
                "hub": f"GLUE from the Hugging Face hub, revision {spec.revision}",
                "glue_dir": f"GLUE from the files in {spec.path}",
            }[spec.source]
        )
    own = [task for task in plan.tasks if get(task).own]
    return "; ".join([*parts, *(f"{get(task).title} from {', '.join(plan.files(task).values())}" for task in own)])


def _changes(plan: Plan, variant: str) -> str:
    """Return the keys of the section student that a variant overrides, with their values."""
    overrides = {key: value for key, value in plan.config["variants"][variant].items() if key not in _NAMING}
    return ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items())


def _table(folder: Path, name: str) -> Shown:
    path = folder / f"{name}.json"
    try:
        grid = grid_of(read_json(path)["printed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RkdError(f"{path}: not the sidecar of a table: {error!r}; expected the key printed") from None
    files = tuple(_files(folder, name, ("csv", "tex", "json")))
    return Shown(name, table_title(name), files, grid=grid)


def _figure(folder: Path, name: str, plan: Plan) -> Shown:
    axis = name.removeprefix("ablation_")
    title, what = FIGURES.get(name, (f"Ablation: {axis}", f"score by {axis}, with intervals over seeds"))
    tasks = plan.tasks if name in FIGURES else plan.axes[axis].tasks
    where = ", ".join(get(task).title for task in tasks)
    (image,) = _files(folder, name, ("png",))
    alt = f"{title}: {what}; {where}. The numbers are in the tables above."
    width = int(_SCALE * int.from_bytes((folder / f"{name}.png").read_bytes()[16:20], "big"))
    return Shown(f"figure-{name}", title, tuple(_files(folder, name, ("pdf",))), image=image.uri, width=width, alt=alt)


def _files(folder: Path, name: str, suffixes: Iterable[str]) -> Iterator[File]:
    for suffix in suffixes:
        path = folder / f"{name}.{suffix}"
        if path.exists():
            content = base64.b64encode(path.read_bytes()).decode("ascii")
            yield File(path.name, f"data:{_TYPES[suffix]};base64,{content}")


def _citations(path: Path) -> list[tuple[str, str]]:
    """Return (title, BibTeX) of the paper and of the software, from CITATION.cff."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        paper = found["preferred-citation"]
        software = {
            "title": f"{{{found['title']}}}",
            "author": " and ".join(map(_author, found["authors"])),
            "version": found["version"],
            "note": "Software",
        }
        article = {
            "title": f"{{{paper['title']}}}",
            "author": " and ".join(map(_author, paper["authors"])),
            "booktitle": paper["collection-title"],
            "year": paper["year"],
            "pages": f"{paper['start']}--{paper['end']}",
            "url": paper["url"],
        }
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise RkdError(f"{path}: not a citation file: {error!r}") from None
    return [
        ("The method", _bibtex("inproceedings", "reptile-kd", article)),
        ("This software", _bibtex("misc", "rkd", software)),
    ]


def _author(person: Mapping[str, str]) -> str:
    return f"{person['family-names']}, {person['given-names']}" if "family-names" in person else f"{{{person['name']}}}"


def _bibtex(kind: str, key: str, fields: Mapping[str, Any]) -> str:
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"
