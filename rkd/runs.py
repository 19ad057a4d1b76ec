"""The one reader of what a run leaves behind: its record, history and predictions, and the manifest of its data.

Whatever a file holds, a reader returns it with the types that its users rely on, or raises one `RkdError` that names
the file, the key, what was found and what was expected. No torch, and pandas only for predictions.
"""

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from rkd.errors import RkdError
from rkd.metrics.facts import METRICS
from rkd.specs.renamed import current
from rkd.tasks import Task, get
from rkd.utils.files import digests

log = logging.getLogger("rkd")

if TYPE_CHECKING:
    import pandas as pd

# What a training leaves in its run's folder, beside run.json.
OUTPUTS = ("model", "predictions.parquet", "history.jsonl")

_KINDS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
_TEXT = {"type": "string", "minLength": 1}
_WORD = {"type": "string", "pattern": r"\A[A-Za-z0-9][A-Za-z0-9_.-]*\Z"}  # becomes a part of paths
_COUNT = {"type": "integer", "minimum": 0}
_SCORE = {"type": ["number", "null"]}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_DIGESTS = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}


def rule(required: Sequence[str] | None = None, **properties: Any) -> dict[str, Any]:
    """The JSON Schema of an object with these keys, all of them required unless some are named."""
    names = list(properties) if required is None else list(required)
    return {"type": "object", "required": names, "properties": properties}


_METRICS = {"type": "array", "items": {"enum": list(METRICS)}, "minItems": 1}
_DEFINITION = rule(
    ["text", "label", "labels", "metrics", "primary_metrics", "test"],
    text={**_TEXTS, "minItems": 1, "maxItems": 2},
    label=_TEXT,
    labels=_TEXTS,
    metrics=_METRICS,
    primary_metrics=_METRICS,
    test={"type": "boolean"},
    title=_TEXT,
)
# The definition of a task of one's own, null for GLUE's; in specs and measurements, too.
OWN_TASK = {**_DEFINITION, "type": ["object", "null"]}
_SPEC = rule(
    ["task", "seed", "method", "model", "training", "options"],
    task=_WORD,
    variant=_WORD,
    method=_WORD,
    seed={"type": "integer"},
    model=rule(source=_TEXT),
    training={"type": "object"},
    options={"type": "object"},
    custom_task=OWN_TASK,
)
# Records of earlier versions lack some of these keys; `read_record` is told which ones its caller needs.
_RECORD = rule(
    [],
    spec=_SPEC,
    data=rule(["sha256"], sha256=_TEXT, source={"type": ["string", "null"]}, files=_DIGESTS),
    teacher=_DIGESTS,
    code=_DIGESTS,
    outputs=_DIGESTS,
    parameters=rule(["total"], total={"type": "integer", "minimum": 1}),
    packages={"type": "object", "additionalProperties": {"type": "string"}},
    git=rule([], commit={"type": "string"}, dirty={"type": "boolean"}),
    python=_TEXT,
    processor=_TEXT,
    gpu=_TEXT,
    device=_TEXT,
    threads={"type": "integer", "minimum": 1},
    started=_TEXT,
    seconds={"type": "number"},
)
_EVALUATION = rule(
    ["epoch", "step", "primary_score"],
    epoch={"type": "number", "minimum": 0},
    step=_COUNT,
    seconds={"type": "number"},
    primary_score=_SCORE,
    held_out=_SCORE,
    train={"type": "object", "additionalProperties": _SCORE},
    dev={"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _SCORE}},
    teacher={"type": "object", "required": ["primary_score"], "additionalProperties": _SCORE},
    warnings=_TEXTS,
)
_MANIFEST = rule(
    ["task", "splits", "sha256"],
    task=_WORD,
    sha256=_TEXT,
    splits={
        "type": "object",
        "required": ["train"],
        "additionalProperties": rule(["rows"], rows={"type": "integer", "minimum": 1}),
    },
    max_length={"type": "integer", "minimum": 1},
    synthetic={"type": "boolean"},
    custom_task={"type": "object", "properties": {"dev_fraction": {"type": "number"}, "dev_seed": {"type": "integer"}}},
)


def read_record(file: str | Path, *needed: str) -> dict[str, Any]:
    """A run.json.

    Args:
        file: its path.
        needed: the keys that must be there, for example "spec" or "packages/torch". All known keys that are there have
            the right types.

    Raises:
        RkdError: the file is missing, no JSON object, or lacks one of the keys.

    >>> read_record("results/students/mrpc/kd/seed-1/run.json", "spec")["spec"]["method"]
    'kd'
    """
    record: dict[str, Any] = checked(_RECORD, current(read_json(file)), str(file))
    for path in needed:
        place: Any = record
        for key in path.split("/"):
            if not isinstance(place, dict) or key not in place:
                raise RkdError(f"{file}: the key '{path}' is missing; expected the record of a run")
            place = place[key]
    return record


def task_of(named: dict[str, Any], where: str | Path) -> Task:
    """The task that a spec, a metrics file or a measurement names and, if it is one of a user's own, defines.

    Args:
        named: what has the keys task and, perhaps, custom_task.
        where: what an error names.

    >>> task_of({"task": "mrpc"}, "run.json").title
    'MRPC'
    """
    try:
        return get(named["task"], named.get("custom_task"))
    except RkdError as error:
        raise RkdError(f"{where}: {error}") from None


def run_of(reference: str | os.PathLike[str]) -> Path | None:
    """The folder of the run that a folder is, or whose model/ it is; None where there is none.

    >>> run_of("distilled/student")
    PosixPath('distilled/student')
    """
    folder = Path(os.path.expanduser(reference))
    if not folder.is_dir():  # a name on the hub may end in /model
        return None
    places = [folder, *(path.parent for path in (folder.absolute(), folder.resolve()) if path.name == "model")]
    return next((place for place in places if (place / "run.json").is_file()), None)


def check_finished(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder without the record that a finished run leaves; what it holds is not looked into.

    Raises:
        RkdError: no finished run is there; the message names one below, if there is one.
    """
    if not (Path(folder) / "run.json").is_file():
        found = "no run.json" if Path(folder).is_dir() else "no such folder"
        expected = "expected a folder with run.json and model/"
        raise RkdError(f"{folder}: no finished run: found {found}; {expected}{hint(folder)}")


def hint(folder: str | os.PathLike[str]) -> str:
    """What follows an error about a folder that is none of a model or run: the run below, if `rkd distill` left one."""
    run = Path(folder) / "student"
    return f"; did you mean {str(run)!r}?" if (run / "run.json").is_file() else ""


def spec_of(reference: str | os.PathLike[str]) -> dict[str, Any]:
    """The spec of the run that a folder is, or whose model/ it is; empty where there is none.

    Raises:
        RkdError: the run's record is damaged.
    """
    folder = run_of(reference)
    return {} if folder is None else dict(read_record(folder / "run.json", "spec")["spec"])


def unchanged(reference: str | os.PathLike[str], *parts: str) -> dict[str, Any]:
    """The record of a run, after a look at whether the files that are about to be used are as its training left them.

    Records of earlier versions do not list their files; those runs are used with a warning.

    Args:
        reference: the run's folder, or its model/.
        parts: files and folders in the run's folder, for example "model".

    Returns:
        What run.json holds, with a spec; empty where the reference is of no run.

    Raises:
        RkdError: the record is damaged, or a file has another content, is missing or is not listed.

    >>> unchanged("distilled/student", "model")["spec"]["method"]
    'reptile'
    """
    folder = run_of(reference)
    if folder is None:
        return {}
    file = folder / "run.json"
    record = read_record(file, "spec")
    if (outputs := record.get("outputs")) is None:
        log.warning("%s: lists no SHA-256 of its files, as those of earlier versions; they are used unchecked", file)
    elif problem := next(changes(folder, outputs, *parts), None):
        raise RkdError(f"{problem}; expected the run as its training left it")
    return record


def changes(folder: Path, outputs: Mapping[str, str], *parts: str) -> Iterator[str]:
    """What has changed in a run's folder since its record was written, file by file.

    Hidden files do not count: other programs leave theirs.

    Args:
        folder: the run's folder.
        outputs: SHA-256 by path in the folder, as in run.json.
        parts: the files and folders to look at.

    >>> list(changes(Path("distilled/student"), outputs, "model", "history.jsonl"))
    []
    """
    try:
        found = digests(folder, *parts)
    except OSError as error:
        yield f"{error.filename or folder}: cannot be read: {error.strerror or error}"
        return
    for name, expected in outputs.items():
        if name.split("/")[0] not in parts:
            continue
        if name not in found:
            yield f"{folder / name}: missing; run.json lists it"
        elif found[name] != expected:
            yield f"{folder / name}: sha256 is {found[name]}; run.json records {expected}"
    for name in found:
        if name not in outputs and not any(part.startswith(".") for part in name.split("/")):
            yield f"{folder / name}: run.json does not list it"


def read_history(file: str | Path) -> list[dict[str, Any]]:
    """The evaluations in a history.jsonl, at least one.

    Raises:
        RkdError: the file is missing or empty, or a line of it is no evaluation; the message names the line.
    """
    lines = read_text(file).removesuffix("\n").split("\n")
    if lines == [""]:
        raise RkdError(f"{file}: no evaluations; expected one JSON object per line")
    named = ((f"{file}, line {number}", line) for number, line in enumerate(lines, 1))
    return [checked(_EVALUATION, current(parse_json(line, where)), where) for where, line in named]


def read_manifest(file: str | Path) -> dict[str, Any]:
    """The manifest.json of a prepared task.

    Raises:
        RkdError: the file is missing or no manifest.
    """
    manifest: dict[str, Any] = checked(_MANIFEST, current(read_json(file)), str(file))
    return manifest


def read_predictions(file: str | Path, columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """A predictions.parquet.

    Args:
        file: its path.
        columns: those to read; all by default.

    Returns:
        A row per example: split (text), idx, label and prediction (numbers), and a number per logit.

    Raises:
        RkdError: the file is missing or damaged, or a column is missing or of another type.
    """
    import pandas as pd
    import pyarrow

    expected = ("split", "idx", "label", "prediction")
    if not Path(file).is_file():
        raise RkdError(f"{file}: cannot be read as predictions: no such file")
    try:
        frame = pd.read_parquet(file, columns=None if columns is None else list(columns))
        splits = [] if "split" not in frame else list(frame["split"].unique())  # damaged text shows only now
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise RkdError(f"{file}: cannot be read as predictions: {reason}") from None
    for name in expected if columns is None else columns:
        if name not in frame:
            raise RkdError(f"{file}: no column '{name}'; found {', '.join(map(str, frame.columns))}")
    for name in map(str, frame.columns):
        if name == "split":
            right = all(isinstance(value, str) for value in splits)
        else:
            right = pd.api.types.is_numeric_dtype(frame[name])
        if not right:
            kind = "text" if name == "split" else "numbers"
            raise RkdError(f"{file}: column '{name}': found {frame[name].dtype}; expected {kind}")
    return frame


def metrics_of(reference: str | os.PathLike[str]) -> list[str]:
    """The metrics of the task of the run that a folder is, or whose model/ it is; none where there is no run.

    Of a task of one's own a run of the workflow knows no metrics but the primary ones, which its training reads. The
    others are in the run's metrics file, once it is there.

    Raises:
        RkdError: the run's record or metrics file is damaged.

    >>> metrics_of("results/students/mrpc/kd/seed-1")
    ['accuracy', 'f1']
    """
    if (place := run_of(reference)) is None:
        return []
    spec, folder = spec_of(place), place.absolute()
    task = task_of(spec, folder / "run.json")
    if task.own and folder.name == f"seed-{spec['seed']}" and len(folder.parents) > 3:
        root = folder.parents[2 if folder.parents[1].name == "teachers" else 3]
        file = root / "metrics" / task.name / str(spec.get("variant")) / f"{folder.name}.json"
        if file.is_file():
            scored = checked(rule(["custom_task"], custom_task=_DEFINITION), current(read_json(file)), str(file))
            return list(scored["custom_task"]["metrics"])
    return list(task.metrics)


def read_text(file: str | Path) -> str:
    """The text of a UTF-8 file; `RkdError` if it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise RkdError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RkdError(f"{file}: cannot be read: {error}; expected UTF-8 text") from None


def read_json(file: str | Path) -> Any:
    """The content of a JSON file; see `parse_json`."""
    return parse_json(read_text(file), str(file))


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Args:
        text: what to read. NaN and infinity are not JSON, and numbers that a float cannot hold and characters that
            UTF-8 cannot hold are refused, too: nothing could be written from them.
        where: what an error names, a file for example.

    Raises:
        RkdError: the text is not JSON.

    >>> parse_json("[1, 2", "runs.json")
    Traceback (most recent call last):
    rkd.errors.RkdError: runs.json: not JSON: Expecting ',' delimiter: line 1 column 6 (char 5)
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RkdError(f"{where}: not JSON: found half of a surrogate pair; expected whole characters") from None
    except ValueError as error:
        raise RkdError(f"{where}: not JSON: {error}") from None
    except RecursionError:
        raise RkdError(f"{where}: not JSON that can be read: nested too deeply") from None
    return value


def checked(schema: dict[str, Any] | Draft202012Validator, value: Any, where: str) -> Any:
    """A JSON value that a schema allows, as it is.

    Raises:
        RkdError: the message names `where`, the key, what was found and what was expected.
    """
    validator = schema if isinstance(schema, Draft202012Validator) else Draft202012Validator(schema)
    if problem := best_match(validator.iter_errors(value)):
        key = "/".join(map(str, problem.absolute_path))
        raise RkdError(f"{where}: {key + ': ' if key else ''}{_told(problem)}")
    return value


def _told(problem: Any) -> str:
    """What is wrong with a value, in the words of the project where jsonschema's are those of its own."""
    if problem.validator == "required":
        missing = next(key for key in problem.validator_value if key not in problem.instance)
        return f"the key '{missing}' is missing; found {_short(', '.join(problem.instance)) or 'no key'}"
    if problem.validator == "type":
        kinds = problem.validator_value
        expected = " or ".join(_KINDS[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))
        return f"found {_short(json.dumps(problem.instance, ensure_ascii=False))}; expected {expected}"
    return _short(problem.message, 300)


def _short(text: str, limit: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}; expected a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"found the number {_short(text, 20)}; expected a finite one")
    return value


def _whole(text: str) -> int:
    _finite(text)
    return int(text)
