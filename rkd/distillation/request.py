"""All arguments of `rkd.distill`, checked before torch is imported."""

import difflib
import inspect
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rkd.config import arguments
from rkd.config.arguments import Wrong, refuse
from rkd.config.crosschecks import checked_section
from rkd.config.problems import SectionError
from rkd.config.python_values import is_frame, is_model, plain_number, plain_numbers, shown
from rkd.config.schema import schema
from rkd.config.variants import with_defaults, without_unread
from rkd.data.soft_columns import columns_of, labels_of
from rkd.errors import RkdError
from rkd.label_sets import SEPARATOR
from rkd.labels import check_names, label_name, listed
from rkd.methods import by_name
from rkd.methods.facts import METHODS, MethodFacts, needs_teacher
from rkd.specs.renamed import RENAMED, successor
from rkd.tasks import define

# Arguments that say what the labels are.
_LABELS = {"label", "labels", "scores", "multi_label", "label_separator"}
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
    "group_by_length": False,
    "selection": "best",
    "held_out_fraction": 0.1,
    "patience": None,
    "class_weights": None,
}
# The methods' own defaults, and what their constructors leave open or, as `teacher_lr`, do not agree on.
OPTIONS: dict[str, Any] = {
    **{key: value for facts in METHODS.values() for key, value in facts.defaults.items() if key in facts.options},
    "layer_map": "skip",
    "teacher_lr": 5e-5,
    "quiz_fraction": 0.1,
}
# What a distillation writes into its folder.
PARTS = ("data", "tables", "teacher", "teacher-before", "student", "student-before", "tries", ".checkpoints")
_TABLES = ("data", "dev", "test", "unlabelled")
# What a teacher is where it is not fine-tuned here.
_READY = "a fine-tuned classifier, or --finetune-teacher (in Python finetune_teacher=True)"


@dataclass(frozen=True, kw_only=True)
class Request:
    """All arguments of `distill`, checked and in one form, with the paper's settings where none are given.

    The fields are those arguments. After the check `text`, `labels`, `metrics` and `primary_metrics` are lists or None,
    paths are `Path`, `settings` and `options` are complete, `learning_rates` are those to try if there are several, and
    `finetune_teacher` is None or the complete settings of the fine-tuning. Their values are those of the config, and so
    are the checks.

    Raises:
        ArgumentError: all that is wrong.

    >>> Request(data="a.csv", teacher="org/bert", student="teacher-layers:1", text="text", label="mood", seed=-1)
    Traceback (most recent call last):
    rkd.config.arguments.ArgumentError: seed: found -1; expected a whole number from 0 to 4294967295
    """

    data: Any
    student: Any
    text: Any
    label: Any
    teacher: Any = None
    dev: Any = None
    test: Any = None
    unlabelled: Any = None
    soft_labels: Any = None
    method: Any = "reptile"
    options: Any = None
    labels: Any = None
    multi_label: Any = False
    label_separator: Any = SEPARATOR
    scores: Any = None
    metrics: Any = None
    primary_metrics: Any = None
    finetune_teacher: Any = False
    tokenizer: Any = None
    student_tokenizer: Any = "teacher"
    out: Any = None
    name: Any = "data"
    dev_fraction: Any = 0.1
    dev_seed: Any = 0
    seed: Any = 1
    max_length: Any = 128
    vocab_size: Any = 2000
    device: Any = "auto"
    threads: Any = None
    tensorboard: Any = None
    settings: Any = field(default_factory=dict)
    learning_rates: tuple[float, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        for key in (*self._rules(), *(() if self.threads is None else ("threads",))):
            self._set(key, plain_number(getattr(self, key)))
        problems = [*self._values(), *self._kinds()]
        # The later checks of an argument rely on its type.
        for check, read in (
            (self._complete_text, {"text"}),
            (self._complete_names, {"label", "labels", "metrics", "primary_metrics"}),
            (self._complete_soft_labels, {"soft_labels", "scores", "labels", "text", "label"}),
            (self._check_places, {"data", "dev", "test", "unlabelled", "soft_labels", "text", "label"}),
            (self._complete_settings, {"settings", "method"}),
            (self._complete_teaching, {"settings", "method", "finetune_teacher"}),
            (self._complete_options, {"options", "method"}),
            (self._check_entry, {"text", *_LABELS, "metrics", "primary_metrics", "name"}),
        ):
            if not read & {problem.argument for problem in problems}:
                try:
                    check()
                except arguments.ArgumentError as error:
                    problems += error.problems
        refuse(problems)
        for key in (*_TABLES, "soft_labels", "out", "tensorboard"):
            if isinstance(getattr(self, key), str | os.PathLike):
                self._set(key, Path(os.path.expanduser(getattr(self, key))))

    def _complete_text(self) -> None:
        self._set("text", [self.text] if isinstance(self.text, str) else list(self.text))

    @property
    def label_columns(self) -> list[str]:
        """The label column, or those of the single labels."""
        return arguments.as_names(self.label)

    def _complete_names(self) -> None:
        for key in ("metrics", "primary_metrics"):
            if getattr(self, key) is not None:
                self._set(key, list(getattr(self, key)))
        if self.labels is not None:
            self._set("labels", [label_name(label) for label in self.labels])
        elif isinstance(self.label, list | tuple):
            self._set("labels", [label_name(label) for label in self.label])

    @property
    def taught(self) -> bool:
        """True if the method learns from a teacher's model."""
        return needs_teacher(self.method) and self.soft_labels is None

    @property
    def soft_columns(self) -> list[str]:
        """Columns of soft labels in the training rows; empty if there are none, or they lie in a file of their own."""
        given = self.soft_labels
        return list(given.values() if isinstance(given, Mapping) else given) if _names_columns(given) else []

    def _complete_soft_labels(self) -> None:
        given = self.soft_labels
        if given is None or not _names_columns(given):
            return
        if self.scores is None and len(given) < 2:
            found = f"found {listed(map(repr, given))}"
            refuse(
                [Wrong("soft_labels", f"{found}; expected a column per label, or one with {{other}}", other="scores")]
            )
        try:
            check_names("soft_labels", labels_of(given))
            if other := [name for name in self.soft_columns if name in (*self.text, *self.label_columns)]:
                raise RkdError(f"found {other[0]!r}, a column of text or label; expected those of probabilities")
            names = [label_name(label) for label in self.labels or labels_of(given)]
            columns_of([] if self.scores is not None else names, given)
        except RkdError as error:
            refuse([Wrong("soft_labels", str(error).removeprefix("soft_labels: "))])
        self._set("soft_labels", dict(given) if isinstance(given, Mapping) else list(given))

    def _check_places(self) -> None:
        refuse([*self._tables(), *self._places()])

    def _complete_settings(self) -> None:
        given = dict(self.settings)
        if isinstance(rates := plain_numbers(given.get("learning_rate")), list):
            given = self._several(given, list(rates))
        self._set("settings", _settings("settings", TRAINING, given, self.method))
        if self.scores is not None and (weights := self.settings["class_weights"]) is not None:
            expected = "null with {other}: scores have no classes"
            refuse([Wrong("settings", f"found {weights}; expected {expected}", "class_weights", "scores")])
        if self.multi_label and (weights := self.settings["class_weights"]) is not None:
            expected = "null with {other}: they are for one label per text"
            refuse([Wrong("settings", f"found {weights}; expected {expected}", "class_weights", "multi_label")])
        if self.settings["selection"] == "last" and (patience := self.settings["patience"]) is not None:
            expected = "null with selection last: no epoch is better than another"
            refuse([Wrong("settings", f"found {patience}; expected {expected}", "patience")])

    def _several(self, given: dict[str, Any], rates: list[Any]) -> dict[str, Any]:
        """Check and set the learning rates to try, and return the settings for the first of them."""
        selection = given.setdefault("selection", "held-out")
        known = [_settings("settings", TRAINING, {"learning_rate": rate})["learning_rate"] for rate in rates]
        if selection not in ("held-out", "held-out-loss"):
            expected = "held-out or held-out-loss: several learning rates are compared on held-out rows"
            refuse([Wrong("settings", f"found {selection}; expected {expected}", "selection")])
        if len(set(known)) < len(known) or len(known) < 2:
            refuse([Wrong("settings", f"found {rates}; expected two different values or more", "learning_rate")])
        own = self.finetune_teacher if isinstance(self.finetune_teacher, Mapping) else {}
        if self.finetune_teacher and "learning_rate" not in own:
            expected = "one: that of the student is to be found among several"
            refuse([Wrong("finetune_teacher", f"found none; expected {expected}", "learning_rate")])
        self._set("learning_rates", tuple(known))
        return {**given, "learning_rate": known[0]}

    def _complete_teaching(self) -> None:
        teaching = self.finetune_teacher
        if teaching:
            own = dict(teaching) if isinstance(teaching, Mapping) else {}
            teaching = without_unread(_settings("finetune_teacher", self.settings, own))
        self._set("finetune_teacher", teaching if teaching and self.taught else None)

    def _complete_options(self) -> None:
        self._set("options", _options(self.method, dict(self.options or {})))

    def _check_entry(self) -> None:
        self.entry(self.labels or ([] if self.scores is not None else ["0", "1"]))

    def _set(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)

    def entry(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the task as a checked entry of the config's custom_tasks, without its files.

        Args:
            labels: the names of its labels; none for scores.
        """
        scores = self.scores if self.scores in (None, "any") else list(map(plain_number, self.scores))
        entry = {
            "train": "data.csv",
            "text": self.text,
            "label": self.label if isinstance(self.label, str) else list(self.label),
            **({"labels": list(labels)} if scores is None else {"scores": scores}),
            **({"multi_label": True, "label_separator": self.label_separator} if self.multi_label else {}),
            **({} if self.metrics is None else {"metrics": self.metrics}),
            **({} if self.primary_metrics is None else {"primary_metrics": self.primary_metrics}),
            **({} if self.test is None else {"test": "test.csv"}),
        }
        return arguments.task_entry(self.name, entry, {"train": "data"})

    def custom_task(self, labels: Sequence[str], files: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, Any], ...]:
        """Return the task's definition, and the same with its files for `DataSpec.custom_task`."""
        entry = self.entry(labels)
        definition = define(entry)
        own = {**definition, "files": files, "scores": entry["scores"]}
        if self.soft_labels is None:
            return definition, own
        named = columns_of(labels, self.soft_labels) if _names_columns(self.soft_labels) else None
        return definition, {**own, "soft_labels": {"columns": named}}

    @staticmethod
    def _rules() -> dict[str, Any]:
        whole = schema()["properties"]
        rules = {key: whole[key] for key in ("max_length", "vocab_size", "device")}
        own = whole["custom_tasks"]["additionalProperties"]["properties"]
        return {**rules, "seed": whole["seeds"]["items"], **{key: own[key] for key in ("dev_fraction", "dev_seed")}}

    def _values(self) -> Iterator[Wrong]:
        """Wrong numbers and words of which the config knows what is right."""
        rules = self._rules()
        yield from arguments.ruled(rules, {key: getattr(self, key) for key in rules})
        if self.threads is not None:
            yield from arguments.ruled({"threads": schema()["properties"]["threads"]}, {"threads": self.threads})

    def _kinds(self) -> Iterator[Wrong]:
        """Arguments of a wrong type."""
        yield from arguments.columns("text", self.text)
        yield from arguments.label_of("label", self.label)
        if isinstance(self.label, list | tuple) and len(self.label) > 1 and not self.multi_label:
            yield Wrong("label", f"found {list(self.label)}; expected one column, or {{other}}", other="multi_label")
        for key in ("method", "name"):
            if not isinstance(value := getattr(self, key), str) or not value:
                yield Wrong(key, f"found {shown(value)}; expected text")
        for key in ("options", "settings"):
            if (value := getattr(self, key)) is not None and not isinstance(value, Mapping):
                yield Wrong(key, f"found {shown(value)}; expected a mapping of names to values")
        if not isinstance(self.finetune_teacher, bool | Mapping):
            yield Wrong("finetune_teacher", f"found {shown(self.finetune_teacher)}; expected True, False or settings")
        for key in ("labels", "metrics", "primary_metrics"):
            value = getattr(self, key)
            if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
                yield Wrong(key, f"found {shown(value)}; expected a list of names")
        if not isinstance(self.multi_label, bool):
            yield Wrong("multi_label", f"found {shown(self.multi_label)}; expected True or False")
        if not isinstance(self.label_separator, str) or not self.label_separator:
            yield Wrong("label_separator", f"found {shown(self.label_separator)}; expected at least one character")
        elif not self.multi_label and self.label_separator != SEPARATOR:
            yield Wrong(
                "label_separator",
                f"found {shown(self.label_separator)}; expected none without {{other}}",
                other="multi_label",
            )
        if self.multi_label and self.soft_labels is not None:
            soft = self.soft_labels
            given = listed(map(repr, self.soft_columns)) if _names_columns(soft) else shown(soft)
            yield Wrong(
                "soft_labels",
                f"found {given}; expected none with {{other}}: they are for one label per text",
                other="multi_label",
            )
        yield from self._named_labels()
        scores = self.scores
        given = str(list(scores)) if isinstance(scores, tuple | list) else shown(scores)
        if not (scores is None or scores == "any" or (isinstance(scores, Sequence) and not isinstance(scores, str))):
            yield Wrong("scores", f"found {shown(scores)}; expected a range (lowest, highest), or 'any'")
        elif scores is not None and self.labels is not None:
            yield Wrong("scores", f"found {given} beside {{other}}; expected one of them", other="labels")
        elif scores is not None and self.multi_label:
            yield Wrong("scores", f"found {given} beside {{other}}; expected one of them", other="multi_label")
        yield from self._models()
        yield from self._unlabelled()
        yield from self._two_vocabularies()
        role = "student" if self.teacher is None else "teacher"
        if self.teacher is None and self.taught:
            return
        if is_model(self.student if self.teacher is None else self.teacher) != (self.tokenizer is not None):
            found, expected = "none", f"the {role}'s, as the {role} is given as a model"
            if self.tokenizer is not None:
                found, expected = shown(self.tokenizer), f"none: a {role} that is a folder or a name brings its own"
            yield Wrong("tokenizer", f"found {found}; expected {expected}")
        elif self.tokenizer is not None and not hasattr(self.tokenizer, "save_pretrained"):
            yield Wrong("tokenizer", f"found {shown(self.tokenizer)}; expected a tokenizer of transformers")

    def _models(self) -> Iterator[Wrong]:
        """Models that are missing, of a wrong type or damaged."""
        taught = self.taught
        if self.teacher is None and taught:
            yield Wrong("teacher", f"found none; expected {_READY}: method {self.method} learns from it")
        if self.teacher is not None or taught:
            ready = "" if self.finetune_teacher or not taught else _READY
            yield from () if self.teacher is None else arguments.model("teacher", self.teacher, trained=ready)
            yield from arguments.model("student", self.student, student=True)
            return
        why = f"method {self.method} has no teacher" if self.soft_labels is None else "soft labels come without one"
        yield from arguments.model("student", self.student, why_no_teacher=why)
        if self.finetune_teacher:
            what = "no --finetune-teacher and no settings of it (in Python no finetune_teacher)"
            yield Wrong("teacher", f"found none; expected a model to fine-tune, or {what}")

    def _two_vocabularies(self) -> Iterator[Wrong]:
        """Yield the problems of a student's own tokenizer."""
        if self.student_tokenizer not in ("teacher", "own"):
            yield Wrong("student_tokenizer", f"found {shown(self.student_tokenizer)}; expected teacher or own")
        if self.student_tokenizer != "own":
            return
        facts = METHODS.get(self.method) if isinstance(self.method, str) else None
        able = [name for name, each in METHODS.items() if each.logits_only]
        if not self.taught:
            expected = "teacher: without a teacher's model there is no other tokenizer"
            yield Wrong("student_tokenizer", f"found own; expected {expected}")
        elif facts is not None and not facts.logits_only:
            expected = (
                f"teacher with method {self.method}, which compares more than logits; own goes with {', '.join(able)}"
            )
            yield Wrong("student_tokenizer", f"found own; expected {expected}")
        if is_model(self.student):
            yield Wrong("student", "found a model; expected a folder or a name, which brings its tokenizer")
        elif isinstance(self.student, str) and self.student.startswith("teacher-layers:"):
            expected = "a model with a tokenizer of its own: layers of the teacher read what it reads"
            yield Wrong("student", f"found {shown(self.student)}; expected {expected}")

    def _unlabelled(self) -> Iterator[Wrong]:
        """Yield the problems of unlabelled rows and soft labels that the method cannot learn from."""
        given, able = self.soft_labels, [name for name, facts in METHODS.items() if _reads_soft_labels(facts)]
        if self.unlabelled is not None and not needs_teacher(self.method):
            expected = f"no such rows: method {self.method} learns from labels alone"
            yield Wrong("unlabelled", f"found {shown(self.unlabelled)}; expected {expected}")
        if given is None:
            return
        if not (_names_columns(given) or isinstance(given, str | os.PathLike) or is_frame(given)):
            yield Wrong(
                "soft_labels",
                f"found {shown(given)}; expected columns, a mapping of labels to columns, or a table of them",
            )
        if self.method not in able:
            expected = f"{', '.join(able)} with {{other}}, which take the place of a frozen teacher's logits"
            yield Wrong("method", f"found {self.method}; expected {expected}", other="soft_labels")
        if self.teacher is not None:
            found = f"found {shown(self.teacher)} beside {{other}}"
            yield Wrong("teacher", f"{found}; expected one of them", other="soft_labels")

    def _named_labels(self) -> Iterator[Wrong]:
        labels = self.labels if isinstance(self.labels, Sequence) and not isinstance(self.labels, str) else ()
        for label in labels:
            if isinstance(label, float) and not label.is_integer():
                yield Wrong("labels", f"found {label}; expected names: text or whole numbers")
            elif not isinstance(label, str | int | float):
                yield Wrong("labels", f"found {shown(label)}; expected names: text or whole numbers")
        try:
            check_names("labels", labels)
        except RkdError as error:
            yield Wrong("labels", str(error).removeprefix("labels: "))

    def _tables(self) -> Iterator[Wrong]:
        for key in _TABLES:
            if (value := getattr(self, key)) is not None or key == "data":
                label, soft = self.label_columns, self.soft_columns
                free = key == "test" or (key == "data" and self.soft_labels is not None)
                wanted, optional = ([], label) if free else (label, [])
                if key == "unlabelled":
                    wanted, optional = soft, []
                elif key == "data":
                    wanted = [*wanted, *soft]
                yield from arguments.table(key, value, [*self.text, *wanted], optional)
        if self.soft_labels is not None and not _names_columns(self.soft_labels):
            yield from arguments.table("soft_labels", self.soft_labels)
            if _reordered(self.data, self.soft_labels):
                expected = "the same order: rows belong together by position"
                found = "found the index of {other} in another order"
                yield Wrong("soft_labels", f"{found}; expected {expected}", other="data")

    def _places(self) -> Iterator[Wrong]:
        """Yield the problems of outputs that would overwrite an input or cannot be created."""
        read = {key: getattr(self, key) for key in (*_TABLES, "teacher", "student")}
        read |= {} if self.soft_columns else {"soft_labels": self.soft_labels}
        wrong = [] if self.out is None else list(arguments.output_folder("out", self.out, read, PARTS))
        there = self.out is not None and not wrong
        yield from wrong or (self._strange() if there else ())
        if self.tensorboard is not None:
            written = {f"out/{part}": Path(self.out) / part for part in PARTS} if there else {}
            parts = ("teacher", "student")
            wrong = list(arguments.output_folder("tensorboard", self.tensorboard, {**read, **written}, parts))
            yield from wrong
            if find_spec("tensorboard") is None:
                yield Wrong("tensorboard", "found a folder, but no such package: pip install -e '.[tensorboard]'")
            if there and not wrong and Path(self.tensorboard).resolve() == Path(self.out).resolve():
                problem = f"found {shown(self.tensorboard)}, which is {{other}}; expected another folder"
                yield Wrong("tensorboard", problem, other="out")

    def _strange(self) -> Iterator[Wrong]:
        """Yield the problem of a folder that holds other files, or None."""
        out = Path(self.out)
        if any((out / file).is_file() for file in ("config.json", "run.json")):
            yield Wrong("out", f"found {shown(out)}, the folder of a model or run; expected one of its own")
        elif out.is_dir() and not (out / ".checkpoints").is_dir() and not (out / "data" / "manifest.json").is_file():
            strange = sorted(path.name for path in out.iterdir() if not _may_lie_in(path))
            found = f"found {shown(out)}, which holds {listed(strange, 3)}, not written by rkd distill"
            yield from [Wrong("out", f"{found}; expected a new or empty folder, or one of rkd distill")] * bool(strange)


def _names_columns(given: Any) -> bool:
    """Return True for soft labels that are given as columns of the rows, not as a table of their own."""
    names = given.values() if isinstance(given, Mapping) else given
    return isinstance(given, Mapping | list | tuple) and all(isinstance(name, str) and name for name in names)


def _reordered(one: Any, other: Any) -> bool:
    """Return True for two DataFrames whose indexes have the same values in another order."""
    if not (is_frame(one) and is_frame(other)) or one.index.equals(other.index):
        return False
    return Counter(one.index) == Counter(other.index)


def _reads_soft_labels(facts: MethodFacts) -> bool:
    return facts.needs_teacher and facts.logits_only and not facts.trains_teacher


def _may_lie_in(path: Path) -> bool:
    """Return True for entries that a new distillation's folder may hold: an empty folder, a log, a hidden file."""
    if path.name.startswith(".") and path.name not in PARTS:
        return True
    return not any(path.iterdir()) if path.is_dir() else path.suffix in (".log", ".out", ".err")


def _settings(
    what: str, defaults: Mapping[str, Any], given: Mapping[str, Any], method: str | None = None
) -> dict[str, Any]:
    """Return the defaults updated by the given settings, checked by the config's schema."""
    _refuse_renamed(what, {key: value for key, value in given.items() if key not in defaults})
    for key in given:
        if key not in defaults:
            near = difflib.get_close_matches(str(key), [*defaults, *OPTIONS], n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            hint = " (give it in {other})" if key in OPTIONS else hint
            problem = f"found the unknown {key}{hint}; expected some of {', '.join(defaults)}"
            known = METHODS.get(method or "")
            if key in OPTIONS and known and key not in known.options:
                problem = f"found {key}, which method {method} does not read; expected some of {', '.join(defaults)}"
            refuse([Wrong(what, problem, other="options" if key in OPTIONS else "")])
    return _section(what, {**defaults, **{key: plain_numbers(value) for key, value in given.items()}}, method)


def _options(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a method: the config's for a built-in one, constructor arguments for a user's."""
    if method in METHODS:
        defaults = {key: METHODS[method].defaults.get(key, OPTIONS[key]) for key in METHODS[method].options}
        _refuse_renamed("options", given)
        if unknown := [key for key in given if key not in defaults]:
            reads = ", ".join(defaults) or "none"
            problem = f"found {unknown[0]}, which method {method} does not read; expected some of {reads}"
            refuse([Wrong("options", problem)])
        return without_unread(with_defaults(method, _section("options", {**defaults, **given}, method)))
    try:
        method_class = by_name(method)
    except RkdError as error:
        raise arguments.ArgumentError(Wrong("method", str(error).removeprefix("method: "))) from None
    accepted = {
        key: parameter
        for kind in method_class.__mro__
        if "__init__" in vars(kind) and kind is not object
        for key, parameter in inspect.signature(kind.__init__).parameters.items()
    }
    if unknown := [key for key in given if key not in {*accepted, *method_class.options}]:
        _refuse_renamed("options", dict.fromkeys(unknown))
        refuse([Wrong("options", f"found {unknown[0]}, which {method_class.__name__} does not take")])
    wanted: dict[str, Any] = {key: OPTIONS[key] for key in ("layer_map", "teacher_lr") if key in accepted}
    quiz = {"quiz_fraction": OPTIONS["quiz_fraction"]} if method_class.needs_quiz({**wanted, **given}) else {}
    return {**wanted, **quiz, **given}


def _refuse_renamed(argument: str, given: Mapping[str, Any]) -> None:
    """Refuse the names of earlier versions, with today's."""
    problems = []
    for key, value in given.items():
        if key in RENAMED:
            name, today = successor(key, value)
            text = name if today is value else f"{name}={today}"
            misplaced = name in OPTIONS and argument != "options"
            hint, other = (" in {other}", "options") if misplaced else ("", "")
            problems.append(Wrong(argument, f"renamed; expected {text}{hint}", key, other))
    refuse(problems)


def _section(argument: str, values: Mapping[str, Any], method: str | None) -> dict[str, Any]:
    known = method if method in METHODS else None
    try:
        return checked_section("student", values, known)
    except SectionError as error:
        problems = arguments.as_arguments(error, lambda path: (argument, str(path[0])))
    raise arguments.ArgumentError(*problems)
