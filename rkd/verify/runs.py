"""Runs against their run.json."""

import contextlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from rkd.errors import RkdError
from rkd.methods.facts import needs_teacher
from rkd.models import source as model_source
from rkd.models.source import COMMIT
from rkd.runs.paths import DATA, Run, located, runs_in
from rkd.runs.prepared import STUDENT_TOKENIZER, TOKENIZER
from rkd.specs.base import read
from rkd.specs.identity import run_digest, teacher_digest
from rkd.specs.jobs import TEACHER, RunSpec
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

_NOT_SCORED = "is not there: the run has not been scored"
_KEYS = (
    *("spec", "data", "teacher", "code", "outputs", "precision", "parameters", "resumed", "packages", "python"),
    *("system", "processor", "device", "threads", "git", "started", "seconds", "peak_memory_mib"),
)
_DATA = ("source", "revision", "sha256", "files")
# What every training leaves, however its model and tokenizer are called.
_HISTORY, _PREDICTIONS, _LOGITS = "history.jsonl", "predictions.parquet", "logits.parquet"
_OUTPUTS = (_HISTORY, _PREDICTIONS, "model/config.json", "model/model.safetensors")
_WEIGHTS = re.compile(r"model/[^/]+\.safetensors")
# Only records of the first version name their code by one digest; they lack much that later ones have.
_FIRST_VERSION = "code_sha256"


def first_version(record: Mapping[str, Any]) -> bool:
    """Return whether a run.json is of the version that recorded neither outputs nor single files of code."""
    return _FIRST_VERSION in record


def same_outcomes(records: Collection[Path], roots: Iterable[Path]) -> Findings:
    """Yield findings on runs with the outputs of another run in the same results, such as a copy under another name.

    A history holds the seconds of every epoch, so no two trainings write the same one. Weights and predictions may be
    those of another variant, whose settings make no difference, but never those of another seed or task. Runs whose
    files are not kept are compared by the SHA-256 in their records.

    Args:
        records: run.json of the runs to verify.
        roots: the folders of results that they are in; all runs there are compared with.
    """
    for root in roots:
        known: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in runs_in(root):
            for name, value in _outcome(run.folder(root) / "run.json"):
                known[name, value].append(run)
        for (name, _), alike in known.items():
            for run in (each for each in alike if each.folder(root) / "run.json" in records):
                for other in (each for each in alike if each != run):
                    if name == _HISTORY or (other.task, other.seed) != (run.task, run.seed):
                        told = f"its {name} is that of {other.folder(Path())}, as in a copy"
                        yield finding(MISMATCH, run.folder(root) / "run.json", told)
                        break


def _outcome(path: Path) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of what only one run ends in: as its record has it, else of the file."""
    recorded = (object_in(path) or {}).get("outputs")
    recorded = recorded if isinstance(recorded, dict) else {}
    weights = sorted(file.relative_to(path.parent).as_posix() for file in path.parent.glob("model/*.safetensors"))
    # Answers alone may be equal by chance, as where a model always predicts one class.
    answers = _LOGITS if _LOGITS in recorded or (path.parent / _LOGITS).is_file() else _PREDICTIONS
    for name in dict.fromkeys([_HISTORY, answers, *weights, *filter(_WEIGHTS.fullmatch, recorded)]):
        if isinstance(value := recorded.get(name), str):
            yield name, value
        else:
            with contextlib.suppress(OSError):  # not there, or unreadable, which the check of the run tells
                yield name, digest(path.parent / name)


def check_run(path: Path, root: Path) -> Findings:
    """Yield findings on a run: record, outputs, place, code, data, teacher and packages."""
    folder, record = path.parent, object_in(path)
    if record is None or not isinstance(record.get("spec"), dict):
        yield finding(MISMATCH, path, "is no run record (a JSON object with a spec)")
        return
    spec = record["spec"]
    if spec.get("custom_task"):
        register(get(str(spec.get("task")), spec["custom_task"]))  # a task that is not GLUE's is known from here on
    place = _place(folder, root)
    for key, here in place.columns().items():
        if spec.get(key) != here or type(spec.get(key)) is not type(here):
            yield finding(MISMATCH, path, f"its spec has {key} {spec.get(key)}, its folder {here}")
    inputs = record.get("inputs") or {}
    if place.digest:
        yield from _same_digest(path, spec, inputs, place.digest)
    yield from check_record(path, record, _data_folder(root, place, inputs))
    if record.get("teacher") and (learned := inputs.get("learns_from")):
        yield from _same_teachers(path, root / "runs" / place.task, record["teacher"], learned, inputs.get("teacher"))
    elif record.get("teacher"):
        teacher = Run(place.task, TEACHER, place.seed, str(inputs.get("teacher")) if place.digest else "")
        yield from same_teacher(path, teacher.folder(root), record["teacher"])
    code, script = record.get("code"), "workflow_scripts/train.py"
    yield from same_code(path, code, script, f"rkd.methods.{spec.get('method')}")
    scored = [root, *(folder.parent for folder in root.glob("*/metrics"))]
    if not any(place.metrics(each).is_file() for each in scored):
        told = path if place.digest else place.metrics(root)
        yield finding(UNCHECKED, told, "has no metrics file in any experiment" if place.digest else _NOT_SCORED)


def _data_folder(root: Path, place: Run, inputs: Mapping[str, Any]) -> Path:
    return root / (DATA.format(task=place.task, digest=inputs.get("data")) if place.digest else f"data/{place.task}")


def _same_digest(path: Path, spec: Mapping[str, Any], inputs: Mapping[str, Any], named: str) -> Findings:
    """Yield a finding if the settings of a run are not those that its folder is named after."""
    try:
        found = run_digest(read(RunSpec, spec, "its spec"), str(inputs.get("data")), inputs.get("teacher"))
    except RkdError as error:
        yield finding(UNCHECKED, path, f"its digest: {error}")
        return
    if found != named:
        yield finding(MISMATCH, path, f"its settings, data and teacher have the digest {found}; its folder {named}")


def _place(folder: Path, root: Path) -> Run:
    """Return the run that a folder of results must hold, by its path."""
    found = located(folder.relative_to(root))
    if found is None:
        raise RkdError(f"{folder}: is not the folder of a run")
    return found[1]


def check_record(path: Path, record: Mapping[str, Any], data_folder: Path) -> Findings:
    """Yield findings on a run in any place: record, outputs, data, initial models and packages."""
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
    own = (spec.get("options") or {}).get("student_tokenizer") == "own"
    reads = data_folder / (STUDENT_TOKENIZER if own else TOKENIZER)
    yield from _same_data(path, data_folder, data, record.get("outputs") or {}, reads)
    yield from _same_models(path, spec.get("model"))
    yield from _same_commits(path, spec.get("model"), record.get("hub"))
    for name, version in (record.get("packages") or {}).items():
        if (now := installed(name)) != version:
            yield finding(CHANGED, path, f"package {name}: {now} is installed, the run had {version}")


def _consistent(path: Path, record: Mapping[str, Any], spec: Mapping[str, Any]) -> Findings:
    """Yield findings on values that a record states twice and differently."""
    training = spec.get("training") or {}
    if record.get("precision") != training.get("precision"):
        told = f"precision is {record.get('precision')}, that of its spec {training.get('precision')}"
        yield finding(MISMATCH, path, told)
    taught = needs_teacher(str(spec.get("method"))) and not (spec.get("options") or {}).get("soft_labels")
    if (record.get("teacher") is None) != (not taught):
        learned = "none" if record.get("teacher") is None else "one"
        yield finding(MISMATCH, path, f"names {learned} as its teacher, but its method is {spec.get('method')}")


def _whole(path: Path, outputs: Any) -> Findings:
    """Yield findings on the files of a run: exactly those that its record lists."""
    if not isinstance(outputs, dict):
        yield finding(MISMATCH, path, "lists no SHA-256 of outputs")
        return
    if lacking := [name for name in _OUTPUTS if name not in outputs]:
        yield finding(MISMATCH, path, f"outputs lack {', '.join(lacking)}")
    yield from same_files(path.parent, outputs, MISMATCH, path.name)
    yield from unlisted(path, {path.name, *outputs})


def unlisted(path: Path, known: set[str]) -> Findings:
    """Yield findings on files that the record in their folder does not list."""
    for file in visible_files(path.parent):
        if file.relative_to(path.parent).as_posix() not in known:
            yield finding(MISMATCH, file, f"{path.name} does not list it")


def _same_data(path: Path, folder: Path, data: Mapping[str, Any], outputs: Mapping[str, str], reads: Path) -> Findings:
    """Yield findings on prepared data that differ from those in a run's record; the run's tokenizer was in `reads`."""
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
    tokenizer, saved = reads / "tokenizer.json", outputs.get("model/tokenizer.json")
    if saved and tokenizer.is_file() and digest(tokenizer) != saved:
        yield finding(CHANGED, tokenizer, f"sha256 is {digest(tokenizer)}; the run's tokenizer has {saved}")


def _same_teachers(path: Path, task: Path, recorded: Mapping[str, str], learned: Any, digest: Any) -> Findings:
    """Yield findings on teachers, of an ensemble or left behind by other runs, that differ from those in a record.

    Args:
        task: the folder of the task's runs.
        recorded: SHA-256 by place below that folder.
        learned: the places of the teachers' models, see `rkd.specs.identity.check_folder`.
        digest: their digest in the record.
    """
    try:
        teachers, matched = list(map(str, learned["teachers"])), learned["entropy_of"]
        places = [*teachers, *([str(matched)] if matched is not None else [])]
    except (KeyError, TypeError):
        yield finding(MISMATCH, path, "inputs.learns_from: expected teachers and entropy_of")
        return
    if (found := teacher_digest(teachers, matched)) != digest:
        yield finding(MISMATCH, path, f"its teachers have the digest {found}; inputs.teacher is {digest}")
    known: set[str] = set()
    for place in places:
        files = {name.removeprefix(f"{place}/"): sha for name, sha in recorded.items() if name.startswith(f"{place}/")}
        known |= {f"{place}/{name}" for name in files}
        model = task / place
        if not files:
            yield finding(MISMATCH, path, f"names no files of its teacher {place}")
        yield from same_teacher(path, model.parent, files, part=model.name)
    for name in sorted(recorded.keys() - known):
        yield finding(MISMATCH, path, f"teacher: {name} is of no teacher in inputs.learns_from")


def same_teacher(
    path: Path, folder: Path, recorded: Mapping[str, str], kind: str = CHANGED, part: str = "model"
) -> Findings:
    """Yield findings on a teacher that differs from the one in a student's record.

    Args:
        part: the folder of the run that holds it.
    """
    yield from same_files(folder / part, recorded, kind, "the run")
    outputs = (object_in(folder / "run.json") or {}).get("outputs")
    if isinstance(outputs, dict):  # known even where the weights are not kept
        start = f"{part}/"
        theirs = {name.removeprefix(start): value for name, value in outputs.items() if name.startswith(start)}
        for name in sorted({*theirs, *recorded}):
            if theirs.get(name) != recorded.get(name):
                told = f"teacher: {name} has sha256 {recorded.get(name)}, in the teacher's run.json {theirs.get(name)}"
                yield finding(CHANGED, path, told)


def _same_models(path: Path, model: Any) -> Findings:
    """Yield findings on local models that differ from those a run started from, by the digest in its spec."""
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
    """Yield findings on recorded hub models that contradict the spec: each once, at its pinned commit."""
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
    """Return the digest of a local model, or None if it is not local; read once in a verification."""
    return model_source.parse(source).content()
