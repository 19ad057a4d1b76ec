"""Checks of the arguments of the library and the command, before torch, transformers or pandas are imported."""

import numbers
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rkd.config import custom_tasks
from rkd.config.problems import KeyPath, SectionError
from rkd.config.python_values import is_frame, is_model, shown
from rkd.config.schema import checked_keys, schema
from rkd.data.reading import SUFFIXES, check_columns, chosen_columns
from rkd.errors import RkdError
from rkd.models import files
from rkd.models import source as model_source
from rkd.runs import paths
from rkd.runs.record import spec_of

_TABLE = "a DataFrame or a .csv, .tsv, .jsonl or .parquet file"


class Wrong(NamedTuple):
    """A problem of an argument, or of one key of an argument that is a mapping.

    >>> str(Wrong("out", "found 'a.csv', which is {other}", other="data"))
    "out: found 'a.csv', which is data"
    """

    argument: str
    problem: str  # "found 0; expected …"; {other} in it stands for the other argument
    key: str = ""
    other: str = ""  # another argument that the problem is about, by its name in Python, too

    def text(self, called: Callable[[str], str] = str) -> str:
        """Return the problem with the other argument's name in this interface."""
        return self.problem.replace("{other}", called(self.other)) if self.other else self.problem

    def __str__(self) -> str:
        if self.argument == "settings":  # each is an argument of its own
            return f"{self.key or self.argument}: {self.text()}"
        return f"{self.argument}{'.' if self.key else ''}{self.key}: {self.text()}"


# Columns of a DataFrame without a header are numbered.
_NAMED = "which are text: rename columns that are numbers"
NO_LABEL = Wrong("label", "found no column; expected the one that holds the labels")


class ArgumentError(RkdError):
    """Wrong arguments, by the names that they have in Python; the command renames them after its options.

    >>> str(ArgumentError(Wrong("seed", "found -1; expected a whole number from 0 to 4294967295")))
    'seed: found -1; expected a whole number from 0 to 4294967295'
    """

    def __init__(self, *problems: Wrong) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


def refuse(problems: Iterable[Wrong]) -> None:
    """Raise an `ArgumentError` with all of the problems, if there are any."""
    if found := tuple(problems):
        raise ArgumentError(*found)


def ruled(rules: Mapping[str, Any], values: Mapping[str, Any], argument: str = "") -> Iterator[Wrong]:
    """Yield what rules of the config's schema refuse among values, by name, or by the key of an argument."""
    try:
        checked_keys(rules, values)
    except SectionError as error:
        yield from as_arguments(error, lambda path: (argument, str(path[0])) if argument else (str(path[0]), ""))


def as_arguments(error: SectionError, name: Callable[[KeyPath], tuple[str, str]]) -> Iterator[Wrong]:
    """Yield the problems of a part of a config as problems of arguments.

    Args:
        error: the problems.
        name: the argument, and perhaps its key, that a path of the config stands for.
    """
    for path, problem in error.problems.items():
        argument, key = name(path)
        # Quotes are of YAML alone.
        hint = f"; {problem.suggestion}" if problem.suggestion and "quotes" not in problem.suggestion else ""
        found = "None" if problem.found == "nothing (null)" else problem.found
        yield Wrong(argument, f"found {found}; expected {problem.expected}{hint}", key)


def table(argument: str, value: Any, wanted: Sequence[str] = (), optional: Sequence[str] = ()) -> Iterator[Wrong]:
    """Yield the problems of a table (a DataFrame or a data file) and of its columns; no values are read."""
    if is_frame(value):
        try:
            chosen_columns(argument, list(value.columns), wanted, optional)
        except RkdError as error:
            yield Wrong(argument, str(error).removeprefix(f"{argument}: "))
    elif isinstance(value, str | os.PathLike):
        yield from data_file(argument, value, wanted, optional)
    else:
        convert = "; call its to_pandas()" if hasattr(value, "to_pandas") else ""
        yield Wrong(argument, f"found {shown(value)}; expected {_TABLE}{convert}")


def data_file(argument: str, value: Any, wanted: Sequence[str] = (), optional: Sequence[str] = ()) -> Iterator[Wrong]:
    """Yield the problems of a data file that is to be read, and of its columns where some are wanted."""
    if not isinstance(value, str | os.PathLike):
        yield Wrong(argument, f"found {shown(value)}; expected the path of a .csv, .tsv, .jsonl or .parquet file")
    elif problem := custom_tasks.file_problem((argument,), os.fspath(value)):
        hint = f"; {problem.suggestion}" if problem.suggestion else ""
        yield Wrong(argument, f"found {shown(value)}; expected {problem.expected}{hint}")
    elif wanted:
        try:
            check_columns(Path(os.path.expanduser(value)), wanted, optional, str(value))
        except RkdError as error:
            yield Wrong(argument, str(error))


def columns(argument: str, value: Any) -> Iterator[Wrong]:
    """Yield the problems of the text columns, which are one name, or a list of one or two."""
    names = [value] if isinstance(value, str | numbers.Real) else value
    if not isinstance(names, Sequence) or not 1 <= len(names) <= 2 or len(set(map(str, names))) < len(names):
        shows = str(list(names)) if isinstance(names, Sequence) and len(str(names)) < 80 else shown(value)
        yield Wrong(argument, f"found {shows}; expected one or two column names")
    elif wrong := [name for name in names if not isinstance(name, str)]:
        yield Wrong(argument, f"found {shown(wrong[0])}; expected one or two column names, {_NAMED}")


def wrong_label(value: Any) -> Wrong:
    """Return the problem of a label column whose value is not a name."""
    return Wrong("label", f"found {shown(value)}; expected a column name, {_NAMED.replace('which are', 'which is')}")


def as_names(value: str | Sequence[str]) -> list[str]:
    """Return one column or several as a list."""
    return [value] if isinstance(value, str) else list(value)


def label_of(argument: str, value: Any) -> Iterator[Wrong]:
    """Yield the problems of the label column, which is one name or, with several labels per text, a list."""
    if isinstance(value, list | tuple):
        if wrong := [name for name in value if not isinstance(name, str) or not name]:
            yield Wrong(argument, f"found {shown(wrong[0])}; expected column names, {_NAMED}")
        elif len(value) < 2 or len(set(value)) < len(value):
            yield Wrong(argument, f"found {list(value)}; expected one column, or two or more, one per label")
    elif not isinstance(value, str) or not value:
        yield wrong_label(value)


def model_reference(value: str | os.PathLike[str]) -> str:
    """Return a model reference as the config writes it; a run's folder stands for the model in it."""
    if not isinstance(value, str) or os.path.isdir(value):
        path = Path(value).absolute()
        return str(path / "model" if (path / "model" / "config.json").is_file() else path)
    return value


def model(
    argument: str, value: Any, *, student: bool = False, trained: str = "", why_no_teacher: str = ""
) -> Iterator[Wrong]:
    """Yield the problems of a model in memory, of its folder, or of its name.

    Args:
        argument: its name.
        value: the model.
        student: whether it may be cut from the teacher.
        trained: what errors say was expected, where the model must have weights; else a *.json config will do.
        why_no_teacher: why there is no teacher whose layers a student could take.
    """
    forms = "a model of transformers, its folder, or its name on the hub"
    if is_model(value):
        return
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        yield Wrong(argument, f"found {shown(value)}; expected {forms}")
        return
    try:
        source = model_source.parse(model_reference(value))
        source.read_config()
        if (folder := source.folder()) is not None:
            files.check_weights(folder)
    except RkdError as error:
        yield Wrong(argument, " ".join(str(error).split()) + paths.hint(value))
        return
    if source.kind == "config" and trained:
        yield Wrong(argument, f"found {shown(value)}, a model config without weights; expected {trained}")
    elif source.kind == "teacher-layers" and not student:
        why = why_no_teacher or "layers are cut from a teacher for a student"
        yield Wrong(argument, f"found {shown(value)}; expected {forms}: {why}")


def output_file(argument: str, value: Any, inputs: Mapping[str, Any]) -> Iterator[Wrong]:
    """Yield the problems of a table that is to be written.

    Args:
        argument: its name.
        value: the path.
        inputs: what is read, by the name of its argument: files, and folders that nothing may be written into.
    """
    path = Path(value)
    if path.suffix.lower() not in SUFFIXES:
        yield Wrong(argument, f"found {shown(value)}; expected a file with the ending {', '.join(SUFFIXES)}")
    elif path.is_dir():
        yield Wrong(argument, f"found {shown(value)}, a folder; expected a file")
    else:
        yield from _outside(argument, path, [path], inputs)
        yield from _creatable(argument, path)


def output_folder(
    argument: str, value: Any, inputs: Mapping[str, Any], parts: Sequence[str] = ("",)
) -> Iterator[Wrong]:
    """Yield the problems of a folder that is to be written, or in which `parts` are to be written.

    Args:
        argument: its name.
        value: the path.
        inputs: what is read, by the name of its argument: files, and folders.
        parts: what is written in the folder; all of it by default.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        yield Wrong(argument, f"found {shown(value)}; expected the path of a folder")
        return
    path = Path(value)
    if path.exists() and not path.is_dir():
        yield Wrong(argument, f"found {shown(value)}, a file; expected a folder, or a new path")
        return
    yield from _outside(argument, path, [path / part for part in parts], inputs)
    yield from _creatable(argument, path)


def _outside(argument: str, path: Path, places: Sequence[Path], inputs: Mapping[str, Any]) -> Iterator[Wrong]:
    """Yield the outputs that would lie over, in or around what is read; by whatever name, links included."""
    for name, value in inputs.items():
        if not isinstance(value, str | os.PathLike) or not os.path.exists(value):
            continue
        read = Path(value)
        for place in places:
            real, theirs = place.resolve(), read.resolve()
            if real == theirs or (place.is_file() and os.path.samefile(place, read)):
                relation = "is {other}"
            elif theirs in real.parents:
                relation = f"lies in {{other}} ({read})"
            elif real in theirs.parents:
                relation = f"holds {{other}} ({read})"
            else:
                continue
            problem = f"found {shown(path)}, which {relation}; expected another place"
            yield Wrong(argument, problem, other=name)
            break


def _creatable(argument: str, path: Path) -> Iterator[Wrong]:
    """Yield why a path cannot be made: folders above it may be missing, but must not be files or locked."""
    place = path.absolute()
    while not os.path.lexists(place):
        place = place.parent
    if place == path.absolute() and not place.is_dir():
        place = place.parent
    if not place.is_dir():
        yield Wrong(argument, f"found {shown(path)}, but {place} is not a folder; expected a path that can be created")
    elif not os.access(place, os.W_OK | os.X_OK):
        yield Wrong(argument, f"found {shown(path)}, but {place} cannot be written into; expected a path that can")


def task_entry(name: str, entry: Mapping[str, Any], called: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the complete entry of a task for the config's custom_tasks, without reading its files.

    Args:
        name: the task's name.
        entry: its keys.
        called: the arguments that keys of the entry come from, where they are called otherwise.

    Raises:
        ArgumentError: all that is wrong, by the arguments.
    """
    try:
        return custom_tasks.checked_task(name, entry, files=False)
    except SectionError as error:
        problems = as_arguments(
            error, lambda path: ((called or {}).get(str(path[2]), str(path[2])) if len(path) > 2 else "name", "")
        )
    raise ArgumentError(*problems)


def check_classifier(
    reference: Any,
    text: Any = None,
    label: Any = None,
    *,
    device: Any = "auto",
    file: Any = None,
    out: Any = None,
    labelled: bool = False,
    metrics: Any = None,
) -> None:
    """Refuse what `rkd.inference.Classifier` and its methods cannot be asked for.

    Args:
        reference, text, label, device: of `Classifier`.
        file: the rows, where they are known already.
        out: the table to write, if any.
        labelled: whether the rows are to be scored: labels have to be known.
        metrics: metrics, if any are given.

    Raises:
        ArgumentError: all that is wrong.
    """
    forms = "a run's folder, an export, the folder of a fine-tuned classifier, or its name on the hub"
    problems = list(model("reference", reference, trained=forms))
    known = {} if problems or is_model(reference) else (spec_of(reference).get("custom_task") or {})
    if text is not None:
        problems += columns("text", text)
    elif not problems and "text" not in known:
        hint = "" if os.path.exists(reference) else f"; nothing is at this path, so {reference} is a name on the hub"
        problems.append(Wrong("text", f"found no column; expected one or two columns that {reference} reads{hint}"))
    if labelled and label is None and not problems and "label" not in known:
        problems.append(NO_LABEL)
    if label is not None:
        problems += label_of("label", label)
    problems += ruled({"device": schema()["properties"]["device"]}, {"device": device})
    if file is not None:
        names = text or known.get("text") or ()
        wanted = [*as_names(names), *(as_names(label or known.get("label") or ()) if labelled else [])]
        problems += data_file("file", file, () if problems else wanted)
    if metrics is not None:
        rule = schema()["properties"]["custom_tasks"]["additionalProperties"]["properties"]["metrics"]
        given = list(metrics) if isinstance(metrics, Sequence) and not isinstance(metrics, str) else metrics
        problems += ruled({"metrics": rule}, {"metrics": given})
    refuse(problems)
    if out is not None:
        read = {"file": file, "reference": paths.folder_of(reference) or reference}
        refuse(output_file("out", out, read))


def check_export(run: Any, out: Any) -> None:
    """Refuse what cannot be exported, or not there; what the folders hold is not looked into.

    Raises:
        ArgumentError: what is wrong.
        RkdError: no finished run is there.
    """
    if not isinstance(run, str | os.PathLike):
        refuse([Wrong("run", f"found {shown(run)}; expected the folder of a finished run")])
    paths.check_finished(run)
    refuse(output_folder("out", out, {"run": run}))
