"""Runs against their run.json, and prepared data against their manifest.json."""

import contextlib
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rkd.errors import RkdError
from rkd.methods.facts import METHODS, needs_teacher
from rkd.models import source as model_source
from rkd.models.source import COMMIT
from rkd.prepared import PARTS as DATA_PARTS
from rkd.prepared import content_digest
from rkd.specs.jobs import RunSpec
from rkd.specs.report import TEACHER
from rkd.tasks import get, register
from rkd.verify.finding import (
    CHANGED,
    MISMATCH,
    UNCHECKED,
    Findings,
    digest,
    finding,
    installed,
    object_in,
    same_code,
    same_files,
    visible_files,
)

_KEYS = (
    *("spec", "data", "teacher", "code", "outputs", "precision", "parameters", "resumed", "packages", "python"),
    *("system", "processor", "device", "threads", "git", "started", "seconds", "peak_memory_mib"),
)
_DATA = ("source", "revision", "sha256", "files")
# What every training leaves, however its model and tokenizer are called.
_HISTORY, _PREDICTIONS = "history.jsonl", "predictions.parquet"
_OUTPUTS = (_HISTORY, _PREDICTIONS, "model/config.json", "model/model.safetensors")
_WEIGHTS = re.compile(r"model/[^/]+\.safetensors")
# Only records of the first version name their code by one digest; they lack much that later ones have.
_FIRST_VERSION = "code_sha256"
_SEED = re.compile(r"seed-(\d+)")


class Place(NamedTuple):
    """Which run a folder of results belongs to."""

    task: str
    variant: str
    seed: int

    @classmethod
    def of(cls, folder: Path) -> "Place":
        """From students/TASK/VARIANT/seed-N or teachers/TASK/seed-N."""
        *_, above, row, name = folder.parts
        seed = int(name.removeprefix("seed-"))
        return cls(row, TEACHER, seed) if above == "teachers" else cls(above, row, seed)

    def folder(self, root: Path) -> Path:
        """The run's folder in a folder of results."""
        rows = f"teachers/{self.task}" if self.variant == TEACHER else f"students/{self.task}/{self.variant}"
        return root / rows / f"seed-{self.seed}"

    def metrics(self, root: Path) -> Path:
        """The metrics file of the run."""
        return root / "metrics" / self.task / self.variant / f"seed-{self.seed}.json"


def first_version(record: Mapping[str, Any]) -> bool:
    """Whether a run.json is of the version that recorded neither outputs nor single files of code."""
    return _FIRST_VERSION in record


def same_outcomes(records: Collection[Path], roots: Iterable[Path]) -> Findings:
    """Findings on runs that end in what another run of the same results ends in, as a copy under another name does.

    A history holds the seconds of every epoch, so no two trainings write the same one. Weights and predictions may be
    those of another variant, whose settings make no difference, but never those of another seed or task. Runs whose
    files are not kept are compared by the SHA-256 in their records.

    Args:
        records: run.json of the runs to verify.
        roots: the folders of results that they are in; all runs there are compared with.
    """
    for root in roots:
        known: dict[tuple[str, str], list[Path]] = defaultdict(list)
        for path in _records(root):
            for name, value in _outcome(path):
                known[name, value].append(path)
        for (name, _), paths in known.items():
            for path in (each for each in paths if each in records):
                place = Place.of(path.parent)
                for other in (Place.of(each.parent) for each in paths if each != path):
                    if name == _HISTORY or (other.task, other.seed) != (place.task, place.seed):
                        theirs = other.folder(root).relative_to(root)
                        yield finding(MISMATCH, path, f"its {name} is that of {theirs}, as in a copy")
                        break


def _records(root: Path) -> list[Path]:
    """run.json of all runs in a folder of results."""
    found = (*root.glob("teachers/*/seed-*/run.json"), *root.glob("students/*/*/seed-*/run.json"))
    return sorted(path for path in found if _SEED.fullmatch(path.parent.name))


def _outcome(path: Path) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of what only one run ends in: as its record has it, else of the file."""
    recorded = (object_in(path) or {}).get("outputs")
    recorded = recorded if isinstance(recorded, dict) else {}
    weights = sorted(file.relative_to(path.parent).as_posix() for file in path.parent.glob("model/*.safetensors"))
    for name in dict.fromkeys([_HISTORY, _PREDICTIONS, *weights, *filter(_WEIGHTS.fullmatch, recorded)]):
        if isinstance(value := recorded.get(name), str):
            yield name, value
        else:
            with contextlib.suppress(OSError):  # not there, or unreadable, which the check of the run tells
                yield name, digest(path.parent / name)


def check_run(path: Path, root: Path) -> Findings:
    """Findings on a run: its record, outputs and place, and whether code, data, teacher and packages are the same."""
    folder, record = path.parent, object_in(path)
    if record is None or not isinstance(record.get("spec"), dict):
        yield finding(MISMATCH, path, "is no run record (a JSON object with a spec)")
        return
    spec = record["spec"]
    if spec.get("custom_task"):
        register(get(str(spec.get("task")), spec["custom_task"]))
    place = Place.of(folder)
    for key, here in place._asdict().items():
        if spec.get(key) != here or type(spec.get(key)) is not type(here):
            yield finding(MISMATCH, path, f"its spec has {key} {spec.get(key)}, its folder {here}")
    yield from _check_record(path, record, root / "data" / place.task)
    if record.get("teacher"):
        yield from _same_teacher(path, Place(place.task, TEACHER, place.seed).folder(root), record["teacher"])
    code, script = record.get("code"), "workflow_scripts/train.py"
    yield from same_code(path, code, script, f"rkd.methods.{spec.get('method')}")
    if not place.metrics(root).is_file():
        yield finding(UNCHECKED, place.metrics(root), "is not there: the run has not been scored")


def _check_record(path: Path, record: Mapping[str, Any], data_folder: Path) -> Findings:
    """Findings on a run wherever it lies: its record and outputs, its data, the models it started from, packages."""
    spec, old = record["spec"], first_version(record)
    lacking = [key for key in _KEYS if key not in record]
    lacking += [f"spec.{each.name}" for each in fields(RunSpec) if each.name not in spec]
    lacking += [f"data.{key}" for key in _DATA if key not in (record.get("data") or {})]
    if lacking:
        yield finding(UNCHECKED if old else MISMATCH, path, f"lacks {', '.join(lacking)}")
    if not old:
        yield from _consistent(path, record, spec)
        yield from _whole(path, record.get("outputs"))
    data = record.get("data") or {}
    yield from _same_data(path, data_folder, data, record.get("outputs") or {})
    yield from _same_models(path, spec.get("model"))
    yield from _same_commits(path, spec.get("model"), record.get("hub"))
    for name, version in (record.get("packages") or {}).items():
        if (now := installed(name)) != version:
            yield finding(CHANGED, path, f"package {name}: {now} is installed, the run had {version}")


def _consistent(path: Path, record: Mapping[str, Any], spec: Mapping[str, Any]) -> Findings:
    """Findings on what a record says twice."""
    training = spec.get("training") or {}
    if record.get("precision") != training.get("precision"):
        told = f"precision is {record.get('precision')}, that of its spec {training.get('precision')}"
        yield finding(MISMATCH, path, told)
    if (record.get("teacher") is None) != (not needs_teacher(str(spec.get("method")))):
        learned = "none" if record.get("teacher") is None else "one"
        yield finding(MISMATCH, path, f"names {learned} as its teacher, but its method is {spec.get('method')}")


def _whole(path: Path, outputs: Any) -> Findings:
    """Findings on the files of a run: those that its record lists, and no others."""
    if not isinstance(outputs, dict):
        yield finding(MISMATCH, path, "lists no SHA-256 of outputs")
        return
    if lacking := [name for name in _OUTPUTS if name not in outputs]:
        yield finding(MISMATCH, path, f"outputs lack {', '.join(lacking)}")
    yield from same_files(path.parent, outputs, MISMATCH, path.name)
    yield from unlisted(path, {path.name, *outputs})


def unlisted(path: Path, known: set[str]) -> Findings:
    """Findings on files in the folder of a record that it does not list."""
    for file in visible_files(path.parent):
        if file.relative_to(path.parent).as_posix() not in known:
            yield finding(MISMATCH, file, f"{path.name} does not list it")


def _same_data(path: Path, folder: Path, data: Mapping[str, Any], outputs: Mapping[str, str]) -> Findings:
    """Findings on prepared data that are not those of a run, by the run's record."""
    files = data.get("files", {})
    yield from same_files(folder, files, CHANGED, "the run")
    for part in sorted({name.split("/")[0] for name in files}):
        for file in visible_files(folder / part):
            if file.relative_to(folder).as_posix() not in files:
                yield finding(CHANGED, file, "was not there for the run")
    manifest = object_in(folder / "manifest.json")
    for key in ("sha256", "source", "revision"):
        if manifest is not None and manifest.get(key) != data.get(key):
            yield finding(
                CHANGED, path, f"data: the manifest's {key} is {manifest.get(key)}, the run's {data.get(key)}"
            )
    # A run saves the tokenizer that it read; only the configuration beside it changes on the way.
    tokenizer, saved = folder / "tokenizer" / "tokenizer.json", outputs.get("model/tokenizer.json")
    if saved and tokenizer.is_file() and digest(tokenizer) != saved:
        yield finding(CHANGED, tokenizer, f"sha256 is {digest(tokenizer)}; the run's tokenizer has {saved}")


def _same_teacher(path: Path, folder: Path, recorded: Mapping[str, str], kind: str = CHANGED) -> Findings:
    """Findings on a teacher that is not the one a student learned from, by the student's record."""
    yield from same_files(folder / "model", recorded, kind, "the run")
    outputs = (object_in(folder / "run.json") or {}).get("outputs")
    if isinstance(outputs, dict):  # known even where the weights are not kept
        theirs = {name.removeprefix("model/"): value for name, value in outputs.items() if name.startswith("model/")}
        for name in sorted({*theirs, *recorded}):
            if theirs.get(name) != recorded.get(name):
                told = f"teacher: {name} has sha256 {recorded.get(name)}, in the teacher's run.json {theirs.get(name)}"
                yield finding(CHANGED, path, told)


def _same_models(path: Path, model: Any) -> Findings:
    """Findings on local models that are not what a run started from, by the digest in its spec."""
    while isinstance(model, dict):
        if (known := model.get("content")) is not None:
            try:
                now = model_content(str(model.get("source")))
            except RkdError as error:
                yield finding(UNCHECKED, path, f"its model: {error}")
            else:
                if now != known:
                    yield finding(CHANGED, path, f"model {model.get('source')}: its digest is {now}, the run's {known}")
        model = model.get("layers_of")


def _same_commits(path: Path, model: Any, recorded: Any) -> Findings:
    """Findings on a record of the hub's models that does not fit the spec: each of them once, at its pinned commit."""
    wanted = []
    while isinstance(model, dict):
        with contextlib.suppress(RkdError):  # what is no model reference came from nowhere
            if model_source.parse(str(model.get("source"))).kind == "hub":
                wanted.append((model.get("source"), model.get("revision")))
        model = model.get("layers_of")
    if recorded is None and not wanted:
        return
    if not isinstance(recorded, list) or not all(isinstance(each, dict) and each.get("sha256") for each in recorded):
        yield finding(UNCHECKED, path, "does not say which files came from the hub")
        return
    found = [(each.get("name"), each.get("revision")) for each in recorded]
    if [name for name, _ in found] != [name for name, _ in wanted]:
        yield finding(MISMATCH, path, f"hub: found {found}; its spec names {wanted}")
    for (name, commit), (_, pinned) in zip(found, wanted, strict=False):
        # A branch or tag may mean another commit by now.
        if COMMIT.fullmatch(str(pinned)) and commit != pinned:
            yield finding(MISMATCH, path, f"hub: {name} at {commit}; its spec pins {pinned}")


@cache
def model_content(source: str) -> str | None:
    """The digest of a local model by its reference, None for one that is not local; read once in a verification."""
    return model_source.parse(source).content()


# --- prepared data ------------------------------------------------------------------------------------------

_MANIFEST = ("task", "source", "path", "revision", "hub_name", "seed", "synthetic", "splits", "tokenizer")


def check_data(path: Path, root: Path) -> Findings:
    """Findings on a prepared task: what its manifest says of itself, and its files."""
    manifest = object_in(path)
    if manifest is None:
        yield finding(MISMATCH, path, "is no JSON object")
        return
    if lacking := [key for key in (*_MANIFEST, "max_length", "sha256") if key not in manifest]:
        yield finding(MISMATCH, path, f"lacks {', '.join(lacking)}")
        return
    if manifest["task"] != path.parent.name and not is_distillation(path.parents[1]):
        yield finding(MISMATCH, path, f"its task is {manifest['task']}, its folder {path.parent.name}")
    yield from _consistent_source(path, manifest)
    files = manifest.get("files")
    expected = _older_digest(manifest) if files is None else content_digest(manifest)
    if expected != manifest["sha256"]:
        yield finding(MISMATCH, path, f"sha256: found {manifest['sha256']}; what it says gives {expected}")
    if files is None:
        yield finding(UNCHECKED, path, "lists no SHA-256 of its files")
        yield from _tokenizer(path.parent / "tokenizer" / "tokenizer.json", manifest["tokenizer"])
    else:
        yield from same_files(path.parent, files, MISMATCH, path.name)
    for file in visible_files(path.parent):
        name = file.relative_to(path.parent).as_posix()
        known = name.split("/")[0] in DATA_PARTS if files is None else name in files
        if not known and file != path:
            yield finding(MISMATCH, file, f"{path.name} does not list it")


def _consistent_source(path: Path, manifest: Mapping[str, Any]) -> Findings:
    """Findings on what a manifest says of the source of its data, by the name of the source."""
    source, synthetic = manifest["source"], manifest["synthetic"]
    hub, made = source == "hub", source == "synthetic"
    if synthetic is not made:
        yield finding(MISMATCH, path, f"synthetic: found {json.dumps(synthetic)} beside source {source}")
    for key, due in {"revision": hub, "hub_name": hub, "seed": made}.items():
        if (manifest[key] is not None) is not due:
            yield finding(MISMATCH, path, f"{key}: found {json.dumps(manifest[key])} beside source {source}")
    if ("custom_task" in manifest) != (source == "files"):
        there = "found" if "custom_task" in manifest else "none"
        yield finding(MISMATCH, path, f"custom_task: {there} beside source {source}")


def _older_digest(manifest: Mapping[str, Any]) -> str:
    """What the sha256 of a manifest was before it listed its files."""
    decisive = {key: manifest[key] for key in ("task", "splits", "max_length", "custom_task") if key in manifest}
    return _sha256_of(decisive | {"tokenizer": manifest["tokenizer"]["sha256"]})


def _tokenizer(file: Path, described: Mapping[str, Any]) -> Findings:
    """Findings on a tokenizer whose vocabulary is not the one that the manifest describes."""
    if not file.is_file():
        yield finding(UNCHECKED, file, "is not there")
        return
    from tokenizers import Tokenizer

    try:
        vocabulary = Tokenizer.from_file(str(file)).get_vocab()
    except Exception as error:  # the library's errors are of this class itself
        yield finding(MISMATCH, file, f"is no tokenizer: {error}")
        return
    for key, found in {"vocab_size": len(vocabulary), "sha256": _sha256_of(vocabulary)}.items():
        if described.get(key) != found:
            yield finding(MISMATCH, file, f"{key} of its vocabulary is {found}; the manifest has {described.get(key)}")


def _sha256_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


# --- what rkd distill wrote ---------------------------------------------------------------------------------

# The folders in that of a distillation; tables are the DataFrames that it was given.
PARTS = ("data", "tables", "teacher", "student")


def distilled_record(folder: Path) -> Path:
    """The record of a distillation: that of its student."""
    return folder / "student" / "run.json"


def is_distillation(folder: Path) -> bool:
    """Whether `rkd distill` wrote a folder, one of its two main records being there."""
    return distilled_record(folder).is_file() or (folder / "data" / "manifest.json").is_file()


def check_distillation(path: Path, root: Path) -> Findings:
    """Findings on a distillation: student, teacher and data, by their records, and the user's files."""
    data, teacher = root / "data", root / "teacher"
    own_teacher = (teacher / "run.json").is_file()  # one that was fine-tuned here
    for file in (path, *([teacher / "run.json"] if own_teacher else [])):
        record = object_in(file)
        if record is None or not isinstance(record.get("spec"), dict):
            yield finding(MISMATCH, file, "is no run record (a JSON object with a spec)")
            continue
        method, code = record["spec"].get("method"), record.get("code") or {}
        modules = [f"rkd.methods.{method}"] if method in METHODS else []
        ours = {name: known for name, known in code.items() if not name.startswith("method ")}
        yield from _check_record(file, record, data)
        yield from same_code(file, ours, "rkd/training/job.py", *modules)
        for name in code.keys() - ours.keys():
            yield finding(UNCHECKED, file, f"code: {name} is not of this project")
        if recorded := record.get("teacher"):
            yield from _same_teacher(file, teacher, recorded, CHANGED if own_teacher else MISMATCH)
            known = {f"model/{name}" for name in recorded}
            for each in () if own_teacher else visible_files(teacher):
                if each.relative_to(teacher).as_posix() not in known:
                    yield finding(MISMATCH, each, f"{file.parent.name}/{file.name} does not list it")
    if (data / "manifest.json").is_file():
        yield from check_data(data / "manifest.json", root)
        yield from _same_tables(data / "manifest.json")
    else:
        yield finding(MISMATCH, data / "manifest.json", "is not there")


def _same_tables(path: Path) -> Findings:
    """Findings on the user's files that are not those which were prepared."""
    own = (object_in(path) or {}).get("custom_task") or {}
    for entry in own["files"].values():
        file = Path(entry["path"]).absolute()
        if not file.is_file():
            yield finding(UNCHECKED, file, "is not there")
        elif digest(file) != entry["sha256"]:
            yield finding(CHANGED, file, f"sha256 is {digest(file)}; {path.name} recorded {entry['sha256']}")
