"""One distillation without the workflow: `rkd.distill` for a user's own table and models.

It is the workflow's own code with one task, one method and one seed: data are prepared, a teacher perhaps fine-tuned
and the student trained by the same functions, and the folders are the same.
"""

import difflib
import inspect
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rkd import config, metrics, model_source, models, runtime, training
from rkd.checkpoint import begun
from rkd.code_inputs import code_digests
from rkd.data.files import find_labels, text_problem
from rkd.data.prepare import prepare
from rkd.errors import RkdError
from rkd.labels import check_names, label_name
from rkd.memory import explained
from rkd.methods import by_name
from rkd.methods.base import Method
from rkd.reading import chosen_columns
from rkd.spec import ModelSpec, RunSpec
from rkd.tasks import Task, define, get
from rkd.tokenizer import load_tokenizer
from rkd.trial import trial
from rkd.variants import METHOD_OPTIONS, without_unread

log = logging.getLogger("rkd")

Table = pd.DataFrame | str | Path
Model = PreTrainedModel | str | Path

# The paper's settings; all may be given to `distill`.
TRAINING: dict[str, Any] = {
    "learning_rate": 5e-5,
    "epochs": 5,
    "batch_size": 32,
    "gradient_accumulation": 1,
    "weight_decay": 0.0,
    "warmup_ratio": 0.0,
    "max_grad_norm": 1.0,
    "adam_epsilon": 1e-8,
    "precision": "fp32",
    "batch_order": "random",
    "selection": "best",
    "held_out_share": 0.1,
}
OPTIONS: dict[str, Any] = {
    "alpha": 0.5,
    "temperature": 5.0,
    "layer_map": "skip",
    "teacher_lr": 5e-5,
    "regression_kd": "mse",
    "beta": 500.0,
    "intermediate_share": 0.5,
    "pilot_lr": 5e-5,
    "quiz_share": 0.1,
    "pull_to": "look-ahead",
    "pull_direction": "pseudo-gradient",
    "pull_scope": "all",
    "inner_steps": 1,
    "inner_batch": "same",
    "outer_optimizer": "adamw",
    "outer_step_size": 1e-3,
}


@dataclass(frozen=True)
class Distilled:
    """A finished distillation.

    Attributes:
        folder: the student's run, with model/, predictions.parquet, history.jsonl and run.json.
        metrics: `splits` (metrics by split), `headline`, and `teacher`, the teacher's headline before the first step.
        predictions: columns split, idx (row of its file or table, from 0), label, prediction (names, or scores) and
            one logit per label.
        history: an evaluation per epoch, the first before any step.
    """

    folder: Path
    metrics: dict[str, Any]
    predictions: pd.DataFrame
    history: list[dict[str, Any]]
    _temporary: Any = field(default=None, repr=False)  # removes the folder with the last reference to it

    @cached_property
    def student(self) -> PreTrainedModel:
        """The trained student, in eval mode on the CPU."""
        return models.load_finetuned(self.folder / "model")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What the student reads."""
        return load_tokenizer(self.folder / "model")

    def save(self, path: str | Path) -> Path:
        """Write a folder that `transformers.pipeline` opens, with a model card; returns its path."""
        from rkd.export import export

        return export(self.folder, path)


def distill(
    data: Table,
    *,
    teacher: Model,
    student: Model,
    text: str | Sequence[str],
    label: str,
    dev: Table | None = None,
    test: Table | None = None,
    method: str = "reptile",
    options: Mapping[str, Any] | None = None,
    labels: Sequence[Any] | None = None,
    scores: Any = None,
    scored_by: Sequence[str] | None = None,
    headline: Sequence[str] | None = None,
    finetune_teacher: bool | Mapping[str, Any] = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
    out: str | Path | None = None,
    name: str = "data",
    dev_share: float = 0.1,
    dev_seed: int = 0,
    seed: int = 1,
    max_length: int = 128,
    vocab_size: int = 2000,
    device: str = "auto",
    threads: int | None = None,
    tensorboard: str | Path | None = None,
    **settings: Any,
) -> Distilled:
    """Distil a teacher into a student on a table of your own.

    Args:
        data: the training rows: a DataFrame, or a .csv, .tsv, .jsonl or .parquet file.
        teacher: a fine-tuned classifier: a Hugging Face model, its folder, or its name on the hub; with
            `finetune_teacher` a pretrained one.
        student: the model before training, in the forms of the config's `student_model`, or a Hugging Face model.
        text: the text column, or two.
        label: the column of the label or score.
        dev: labelled rows to compare models on; without them `dev_share` of the training rows, chosen by `dev_seed`.
        test: rows to predict, with or without labels.
        method: finetune, kd, reptile, pkd, tinybert, metadistil, online, or a name given to `rkd.methods.register`.
        options: what the method reads (see config.yaml: alpha, temperature, layer_map, …); by default the paper's.
        labels: the labels' names in the order of the teacher's outputs; by default the teacher's own names, or with
            `finetune_teacher` those in `data`, sorted.
        scores: for regression the range (lowest, highest) of the scores, or "any".
        scored_by: metrics, as in the config's `own_tasks`.
        headline: those of the metrics whose mean chooses epochs.
        finetune_teacher: fine-tune the teacher first; its settings if not those of the student.
        tokenizer: of a teacher that is given as a model.
        out: folder that keeps everything. A run that was stopped goes on when it is started again with the same
            arguments, and what is finished is not trained again. None: a folder that is removed with the result.
        name: the task's name in logs and in the model card.
        seed: decides batches, dropout and all new weights.
        max_length: tokens at which an example is cut.
        vocab_size: of the vocabulary built where both models are *.json configs.
        device: auto, cpu or cuda.
        threads: CPU threads; torch's own number by default.
        tensorboard: folder for files that TensorBoard shows while a training runs (extra tensorboard); None: none.
        **settings: of the training (learning_rate, epochs, batch_size, …); by default the paper's.

    Raises:
        RkdError: bad data, models that do not fit, unknown or wrong settings; before any training.

    Example:
        >>> result = rkd.distill(frame, teacher="my-teacher", student="nreimers/MiniLM-L3-H384-uncased",
        ...                      text=["question", "answer"], label="good", method="reptile", epochs=3)
        >>> result.metrics["splits"]["validation"]["accuracy"]
        0.91
        >>> result.save("my-student")
    """
    method_class = by_name(method)
    chosen = _settings("settings", TRAINING, settings)
    chosen_options = _options(method, method_class, options or {})
    columns = [text] if isinstance(text, str) else list(text)
    if not 1 <= len(columns) <= 2:
        raise RkdError(f"text: found {columns}, expected one or two columns")
    temporary = tempfile.TemporaryDirectory(prefix="rkd-") if out is None else None
    folder = Path(temporary.name if temporary else out or "").absolute()
    tables = {"train": data, "validation": dev, "test": test}
    files = {
        split: _file(split, table, folder / "tables", columns, label)
        for split, table in tables.items()
        if table is not None
    }

    if isinstance(teacher, PreTrainedModel) and tokenizer is None:
        raise RkdError("tokenizer: found none; expected the teacher's, as the teacher is given as a model")
    reference = _reference(teacher, folder / "teacher-before", tokenizer)
    teacher_model = folder / "teacher" / "model"
    if scores is not None:
        names: list[str] = []
    elif labels is not None:
        check_names("labels", labels)
        names = [label_name(value) for value in labels]
    else:
        names = find_labels(files["train"], label)
    if method != "finetune" and not finetune_teacher:
        with _own_words(folder):
            names = _ready_teacher(
                reference, names, labels is not None, scores is not None, teacher_model, max_length, len(columns) == 2
            )
    definition, own = _own_task(name, columns, label, names, scores, scored_by, headline, files)
    if "validation" not in files:
        own |= {"dev_share": dev_share, "dev_seed": dev_seed}

    reads = str(teacher_model) if method != "finetune" and not finetune_teacher else reference
    manifest = prepare(
        name,
        folder / "data",
        source="files",
        tokenizer=reads,
        vocab_size=vocab_size,
        max_length=max_length,
        own_task=own,
    )
    first = _spec(reference, None)
    runs = []
    if method != "finetune" and finetune_teacher:
        given = {} if finetune_teacher is True else dict(finetune_teacher)
        teaching = without_unread(_settings("finetune_teacher", chosen, given))
        runs.append((RunSpec(name, "teacher", "finetune", seed, first, teaching, own_task=definition), "teacher"))
    last = _spec(_reference(student, folder / "student-before", None), first)
    student_spec = RunSpec(name, method, method, seed, last, without_unread(chosen), chosen_options, definition)
    runs.append((student_spec, "student"))
    for spec, part in runs:
        needs = teacher_model if part == "student" and method != "finetune" else None
        own_files = _own_files(spec)
        if out is not None and _finished(folder / part, spec, manifest["sha256"], needs, own_files):
            log.info("%s: finished already", folder / part)
            continue
        checkpoints = folder / ".checkpoints" / part if out is not None else None
        if part == "teacher" and not begun(checkpoints):  # what does not fit would else be told only at its end
            with _own_words(folder):
                trial(spec, [student_spec], folder / "data", device=device, threads=threads)
        with _own_words(folder), explained(f"{name}/{part}", spec.training):
            training.run(
                spec,
                folder / "data",
                folder / part,
                teacher=needs,
                device=device,
                threads=threads or torch.get_num_threads(),
                code={**code_digests("rkd/training.py", *_modules(spec.method)), **own_files},
                checkpoints=checkpoints,
                tensorboard=None if tensorboard is None else Path(tensorboard) / part,
            )
    return _result(get(name, definition), folder / "student", temporary)


def read_run(folder: str | Path) -> Distilled:
    """A finished run of a user's own task from its folder (`out`/student, or one of the workflow's)."""
    folder = Path(folder)
    try:
        spec = json.loads((folder / "run.json").read_text(encoding="utf-8"))["spec"]
    except (OSError, ValueError, KeyError) as error:
        raise RkdError(f"{folder}: no finished run: {error}; expected a folder with run.json and model/") from None
    return _result(get(spec["task"], spec.get("own_task")), folder, None)


def _result(task: Task, folder: Path, temporary: Any) -> Distilled:
    frame = pd.read_parquet(folder / "predictions.parquet")
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    found = metrics.from_predictions(task, frame)
    if "teacher" in history[0]:
        found["teacher"] = history[0]["teacher"]["headline"]
    if not task.regression:
        for column in ("label", "prediction"):
            known = dict(enumerate(task.labels))
            frame[column] = [known.get(value) for value in frame[column]]
        frame = frame.rename(columns={f"logit_{index}": f"logit_{each}" for index, each in enumerate(task.labels)})
    return Distilled(folder, found, frame, history, temporary)


def _settings(what: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults with what is given, whose names and values the config's schema must know."""
    for key in given:
        if key not in defaults:
            near = difflib.get_close_matches(key, [*defaults, *OPTIONS], n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            hint = " (give it in options)" if key in OPTIONS else hint
            raise RkdError(f"{what}: found the unknown {key}{hint}, expected some of {', '.join(defaults)}")
    return config.checked_section("student", {**defaults, **given})


def _options(method: str, method_class: type[Method], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a method gets: the config's for ours, any of its own arguments for a user's."""
    if method in METHOD_OPTIONS:
        defaults = {key: OPTIONS[key] for key in METHOD_OPTIONS[method]}
        if unknown := [key for key in given if key not in defaults]:
            reads = ", ".join(defaults) or "none"
            raise RkdError(
                f"options: found {unknown[0]}, which method {method} does not read; expected some of {reads}"
            )
        return without_unread(config.checked_section("student", {**defaults, **given}))
    accepted = {
        key: parameter
        for kind in method_class.__mro__
        if issubclass(kind, Method) and "__init__" in vars(kind)
        for key, parameter in inspect.signature(kind.__init__).parameters.items()
    }
    if unknown := [key for key in given if key not in accepted]:
        raise RkdError(f"options: found {unknown[0]}, which {method_class.__name__} does not take")
    wanted: dict[str, Any] = {key: OPTIONS[key] for key in ("layer_map", "teacher_lr") if key in accepted}
    return {**wanted, **given}


def _file(split: str, table: Table, folder: Path, columns: Sequence[str], label: str) -> dict[str, str]:
    """The file of a table, its digest and what errors call it; a DataFrame is written first."""
    if isinstance(table, pd.DataFrame):
        path, where = folder / f"{split}.parquet", f"{_ARGUMENTS[split]} (DataFrame)"
        needed = [*columns, *([label] if split != "test" else [])]
        wanted = table[chosen_columns(where, list(table.columns), needed, [label] if split == "test" else [])]
        try:
            with runtime.atomic_path(path) as temporary:
                wanted.to_parquet(temporary, index=False)
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, RkdError):  # nothing can be written there
                raise
            raise RkdError(_unwritable(where, wanted, error)) from None
        return {"path": str(path), "sha256": runtime.sha256(path), "where": where}
    path = Path(table).expanduser()
    if not path.is_file():
        raise RkdError(f"{path}: file not found")
    return {"path": str(path), "sha256": runtime.sha256(path)}


# What `distill` calls the table of a split.
_ARGUMENTS = {"train": "data", "validation": "dev", "test": "test"}


def _unwritable(where: str, frame: pd.DataFrame, error: Exception) -> str:
    """The reason why a DataFrame cannot be written as Parquet."""
    for column in frame:
        values = frame[column].dropna()
        for row, value in enumerate(frame[column], 1):
            if isinstance(value, str) and (problem := text_problem(value)):
                return f"{where}, row {row}, column '{column}': {problem}"
        kinds = sorted({type(value).__name__ for value in values})
        if len(kinds) > 1:
            return f"{where}, column '{column}': found values of the types {', '.join(kinds)}; expected one type"
    return f"{where}: cannot be written as Parquet: {' '.join(str(error).split())}"


def _reference(model: Model, folder: Path, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """A model reference as the config has it; a model in memory is written to `folder`, a run stands for its model."""
    if isinstance(model, PreTrainedModel):
        with runtime.atomic_path(folder) as temporary:  # nothing stays there of a model that was given before
            model.save_pretrained(temporary)
            if tokenizer is not None:
                tokenizer.save_pretrained(temporary)
        return str(folder)
    if isinstance(model, Path) or Path(model).is_dir():
        path = Path(model).absolute()
        return str(path / "model" if (path / "model" / "config.json").is_file() else path)
    return model


def _spec(reference: str, teacher: ModelSpec | None) -> ModelSpec:
    source = model_source.parse(reference)
    layers_of = teacher if source.kind == "teacher-layers" else None
    return ModelSpec(reference, None, source.known_sha256(), layers_of, source.content())


@contextmanager
def _own_words(folder: Path) -> Iterator[None]:
    """A block whose errors name a model in memory as the user did, not by the folder that it was written to."""
    try:
        yield
    except RkdError as error:
        text = str(error)
        for role in ("teacher", "student"):
            text = text.replace(str(folder / f"{role}-before"), f"the given {role}")
        raise RkdError(text) from error


def _ready_teacher(
    reference: str, names: list[str], given: bool, regression: bool, folder: Path, max_length: int, pair: bool
) -> list[str]:
    """Write a fine-tuned teacher and its tokenizer to `folder` with the task's labels; returns their names in order."""
    source = model_source.parse(reference)
    where = str(source.path() or source.location)
    model, tokenizer = models.load_finetuned(where, hub=source.kind == "hub"), load_tokenizer(where)
    models.check_reading(model, tokenizer, where=reference, max_length=max_length, pair=pair)
    theirs = [str(each) for _, each in sorted((model.config.id2label or {}).items())]
    check_names(f"teacher {reference}: its labels", theirs)
    keys = [label_name(each) for each in theirs]
    generic = theirs == [f"LABEL_{index}" for index in range(len(theirs))]
    if regression:
        if len(theirs) != 1:
            raise RkdError(f"teacher {reference}: found {len(theirs)} outputs, expected one, for scores")
        theirs = ["score"]
    elif generic and given and len(names) == len(theirs):
        theirs = names
    elif (given and names != keys) or not set(names) <= set(keys):
        if len(names) != len(theirs):
            found = f"{len(theirs)} outputs ({', '.join(theirs)}), the task has {len(names)} ({', '.join(names)})"
            raise RkdError(f"teacher {reference}: found {found}; expected a teacher of this task")
        hint = "" if not generic else "; give labels in the order of its outputs"
        raise RkdError(
            f"teacher {reference}: its labels are {theirs}, those of the data {names}; expected the same{hint}"
        )
    model.config.id2label = dict(enumerate(theirs))
    model.config.label2id = {each: index for index, each in enumerate(theirs)}
    (folder.parent / "run.json").unlink(missing_ok=True)  # of a teacher that was fine-tuned here before
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return [] if regression else theirs


def _own_task(
    name: str,
    columns: list[str],
    label: str,
    names: list[str],
    scores: Any,
    scored_by: Sequence[str] | None,
    headline: Sequence[str] | None,
    files: Mapping[str, Mapping[str, str]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The task's definition, and the same with the files, as `DataSpec.own_task` has it."""
    entry = {
        "text": columns,
        "label": label,
        **({"labels": names} if scores is None else {"scores": scores if scores == "any" else list(scores)}),
        **({} if scored_by is None else {"metrics": list(scored_by)}),
        **({} if headline is None else {"headline": list(headline)}),
        **{"dev" if split == "validation" else split: file["path"] for split, file in files.items()},
    }
    whole = config.checked_task(name, entry)
    definition = define(whole)
    return definition, {**definition, "files": files, "scores": whole["scores"]}


def _modules(method: str) -> list[str]:
    return [f"rkd.methods.{method}"] if method in METHOD_OPTIONS else []


def _own_files(spec: RunSpec) -> dict[str, str]:
    """Digest of what a spec only names: the source of a method from outside."""
    found: dict[str, str] = {}
    if spec.method not in METHOD_OPTIONS:
        source = inspect.getsourcefile(by_name(spec.method))
        if source is not None and Path(source).is_file():  # a notebook's cells are no file
            found[f"method {spec.method}"] = runtime.sha256(source)
    return found


def _finished(folder: Path, spec: RunSpec, data: str, teacher: Path | None, own_files: Mapping[str, str]) -> bool:
    """Whether a folder holds a whole run, as it was left, of the same spec, data, teacher and files of one's own."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    same = record.get("spec") == json.loads(json.dumps(asdict(spec))) and record["data"]["sha256"] == data
    same = same and own_files.items() <= (record.get("code") or {}).items()
    outputs = {file: digest for file, digest in runtime.digests(folder).items() if file != "run.json"}
    same = same and record.get("outputs") == outputs
    return bool(same and (teacher is None or record.get("teacher") == runtime.digests(teacher)))
