"""A small folder of results as the workflow leaves it, in seconds: runs without a training, the rest by its scripts."""

import contextlib
import hashlib
import io
import json
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from rkd.config.load import load
from rkd.utils.files import digests, write_json
from rkd.utils.provenance import PACKAGES
from rkd.verify.finding import digest
from rkd.workflow.code_digest import code_digests
from rkd.workflow.plan import Plan
from tests.helpers import ROOT

READ_BY_THE_PAGE = (
    *(f"demo/tables/{name}.{suffix}" for name in ("main", "provenance") for suffix in ("json", "csv", "tex")),
    *(f"demo/figures/learning_curves.{suffix}" for suffix in ("json", "pdf", "png")),
)


def plan(**changes: Any) -> Plan:
    """The plan of kd and reptile on CoLA, with one seed; `changes` are those of the config."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    variants = {name: config["variants"][name] for name in ("kd", "reptile")}
    models = {key: str(ROOT / config[key]) for key in ("teacher_model", "student_model")}
    small = {"tasks": ["cola"], "seeds": [1], "variants": variants, "ablations": {}}
    return Plan(load({**config, **models, **small, **changes}))


_PLAN = plan()
EXPERIMENT = "demo"
DATA = f"data/cola-{_PLAN.data_digest('cola')}"
RUNS = {name: _PLAN.run("cola", name, 1).folder(Path()).as_posix() for name in ("teacher", "kd", "reptile")}
METRICS = {name: _PLAN.run("cola", name, 1).metrics(Path(EXPERIMENT)).as_posix() for name in RUNS}
TEACHER, KD = RUNS["teacher"], RUNS["kd"]
KD_METRICS = METRICS["kd"]


def build(folder: Path) -> None:
    """Write results/ into a folder: prepared data, three runs, their metrics, two tables, a figure and the page."""
    planned, results = plan(), folder / "results"
    prepare(results / DATA)
    for number, (variant, place) in enumerate(RUNS.items()):
        write_run(results / place, planned, variant, number)
    histories, records = ([f"results/{run}/{name}" for run in RUNS.values()] for name in ("history.jsonl", "run.json"))
    metrics = [f"results/{path}" for path in METRICS.values()]
    with working_in(folder):
        for variant, place in RUNS.items():
            spec, out = planned.metrics("cola", variant, 1).json(), f"results/{METRICS[variant]}"
            script(
                "compute_metrics.py",
                "--spec",
                spec,
                "--predictions",
                f"results/{place}/predictions.parquet",
                "--out",
                out,
            )
        report = planned.report().json()
        script("make_main_table.py", "--spec", report, "--out-dir", "results/demo/tables", "--metrics", *metrics)
        script("make_provenance.py", "--planned", "3", "--out-dir", "results/demo/tables", "--runs", *records)
        out = ("--out", "results/demo/figures/learning_curves")
        curves = ("--histories", *histories[1:], "--teacher-metrics", metrics[0])
        script("plot_learning_curves.py", "--spec", report, *out, *curves)
        Path("CITATION.cff").write_bytes((ROOT / "CITATION.cff").read_bytes())
        told = (
            "--tables",
            "main",
            "provenance",
            "--figures",
            "learning_curves",
            "--out",
            "results/demo/report/index.html",
        )
        config = planned.page()
        script("make_report.py", "--config", config, "--results", "results", "--citation", "CITATION.cff", *told)


def prepare(folder: Path) -> None:
    """A prepared task: a vocabulary of three words, and in place of Arrow files some bytes."""
    (folder / "dataset").mkdir(parents=True)
    (folder / "dataset/data.arrow").write_bytes(bytes(range(50)))
    (folder / "tokenizer").mkdir()
    vocabulary = {"[UNK]": 0, "a": 1, "b": 2}
    Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")).save(str(folder / "tokenizer/tokenizer.json"))
    manifest: dict[str, Any] = {
        "task": "cola",
        "source": "synthetic",
        "path": None,
        "revision": None,
        "hub_name": None,
        "seed": 0,
        "synthetic": True,
        "splits": {"train": {"rows": 9, "sha256": "a" * 64}, "validation": {"rows": 40, "sha256": "b" * 64}},
        "tokenizer": {
            "reference": "configs/models/tiny.json",
            "revision": None,
            "class": "BertTokenizer",
            "vocab_size": 3,
            "sha256": digest_of(vocabulary),
        },
        "max_length": 128,
    }
    files = digests(folder, "dataset", "tokenizer")
    write_json(folder / "manifest.json", {**manifest, "sha256": manifest_digest(manifest), "files": files})


def manifest_digest(manifest: dict[str, Any]) -> str:
    """What a manifest's sha256 is of: all that decides a training."""
    parts = {key: manifest[key] for key in ("task", "splits", "max_length", "synthetic")}
    tokenizer = {key: manifest["tokenizer"][key] for key in ("class", "vocab_size", "sha256")}
    return digest_of({**parts, "tokenizer": tokenizer})


def digest_of(content: Any) -> str:
    """SHA-256 of the canonical JSON of a manifest's part."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_run(folder: Path, planned: Plan, variant: str, seed: int, task: str = "cola") -> None:
    """A run as training leaves it, with random predictions; prepared data and teacher are those beside it."""
    root = folder.parents[len(Path(KD).parts) - 1]
    data, teacher = root / DATA.replace("cola", task), root / TEACHER.replace("cola", task)
    spec = planned.teacher(task, 1) if variant == "teacher" else planned.student(task, variant, 1)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"split": "validation", "idx": range(40), "label": rng.integers(0, 2, 40).astype(float)})
    frame["prediction"] = np.where(rng.random(40) < 0.8, frame["label"], 1 - frame["label"])
    frame.to_parquet(folder / "predictions.parquet", index=False)
    evaluations = [{"epoch": at, "step": 5 * at, "primary_score": 0.1 + 0.2 * at + 0.01 * seed} for at in range(2)]
    (folder / "history.jsonl").write_text("".join(json.dumps(each) + "\n" for each in evaluations))
    (folder / "model").mkdir()
    (folder / "model/model.safetensors").write_bytes(bytes(100) + bytes([seed]))
    (folder / "model/config.json").write_text('{"model_type": "bert"}')
    (folder / "model/tokenizer.json").write_bytes((data / "tokenizer/tokenizer.json").read_bytes())
    manifest = json.loads((data / "manifest.json").read_text())
    read = {key: manifest[key] for key in ("source", "revision", "sha256")}
    write_json(
        folder / "run.json",
        {
            "spec": asdict(spec),
            "data": {**read, "files": manifest["files"]},
            "teacher": None if variant == "teacher" else digests(teacher / "model"),
            "inputs": {
                "data": DATA.rpartition("-")[2],
                "teacher": None if variant == "teacher" else planned.digest(task, "teacher"),
            },
            "code": code_digests("workflow_scripts/train.py", f"rkd.methods.{spec.method}"),
            "outputs": digests(folder),
            "precision": spec.training["precision"],
            "parameters": {"total": 100, "without_embeddings": 50},
            "resumed": [],
            "packages": {name: metadata.version(name) for name in PACKAGES},
            "python": "3.11.7",
            "system": "Linux",
            "processor": "a processor",
            "device": "cpu",
            "threads": 1,
            "git": {"commit": "0" * 40, "dirty": False},
            "started": "2026-11-25T09:34:06Z",
            "seconds": 4.2,
            "peak_memory_mib": 500,
        },
    )


def script(name: str, *arguments: str) -> None:
    """Run a script of the workflow in this process, which has imported its libraries already."""
    before = sys.argv
    sys.argv = [name, *arguments]
    try:
        runpy.run_path(str(ROOT / "workflow_scripts" / name), run_name="__main__")
    finally:
        sys.argv = before


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """A block with another working directory."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class InProcess:
    """In place of `rkd.verify.made._run`: commands run in this process, and only once on the same files."""

    def __init__(self, folder: Path) -> None:
        self.kept = folder
        self.known: dict[Any, tuple[str, Path]] = {}

    def __call__(self, words: list[str], folder: Path) -> str:
        files = [folder / word for word in words[1:] if word.startswith("results/")]
        if words[0].endswith("make_report.py"):
            files = [folder / "results" / name for name in READ_BY_THE_PAGE]
        key = (*words, *(digest(file.resolve()) for file in files if file.is_file()))
        if key not in self.known:
            self.known[key] = self._run(words, folder), self.kept / str(len(self.known))
            if (folder / "made").exists():
                shutil.copytree(folder / "made", self.known[key][1])
        problem, made = self.known[key]
        if made.exists():
            shutil.copytree(made, folder / "made", dirs_exist_ok=True)
        return problem

    def _run(self, words: list[str], folder: Path) -> str:
        told = io.StringIO()
        with working_in(folder), contextlib.redirect_stderr(told):
            try:
                script(Path(words[0]).name, *words[1:])
            except SystemExit:
                return told.getvalue().strip().splitlines()[-1]
        return ""
