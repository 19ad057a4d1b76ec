"""From a checked config to runs: what is trained, and from which spec. No torch, no pandas."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rkd.config.model_checks import OWN
from rkd.config.teachers import ENSEMBLE, FROM, MATCH, SOFT_LABELS, SOURCES, left_behind, sources
from rkd.config.tuning import Candidate, candidates
from rkd.config.variants import Overrides, changed, expand, on_task, resolve, teacher_settings
from rkd.data.soft_columns import columns_of
from rkd.errors import RkdError
from rkd.methods.facts import METHODS, TEACHER_METHOD
from rkd.metrics.facts import MOST_CLASSES
from rkd.models import source as model_source
from rkd.runs.paths import RUN, Run
from rkd.specs.clusters import GLUE_CLUSTERS, ClusterSpec
from rkd.specs.data import DataSpec
from rkd.specs.identity import LEFT, data_digest, run_digest, teacher_digest
from rkd.specs.jobs import TEACHER, TRAINING_KEYS, ModelSpec, RunSpec
from rkd.specs.metrics import MetricsSpec
from rkd.specs.profiling import StepCostSpec, TimedVariant
from rkd.specs.report import Axis, ReportSpec, Selection, Variant
from rkd.specs.tuning import Tried, TuningSpec
from rkd.tasks import define, get
from rkd.utils.known_files import known_sha256

# The keys of a config that say where and how jobs run, not what they compute.
WHERE_JOBS_RUN = ("checkpoint_minutes", "device", "gpus", "jobs_per_gpu", "threads", "tracker")


class Plan:
    """The runs of a config.

    Args:
        config: a checked config, from `rkd.config.load.load`.

    Example:
        >>> plan = Plan(load(yaml.safe_load(open("config.yaml"))))
        >>> plan.student("cola", "kd", 1).options
        {'alpha': 0.5, 'regression_kd': 'mse', 'temperature': 5.0}
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.tasks: list[str] = list(config["tasks"])
        self.seeds: list[int] = list(config["seeds"])
        self.variants: list[str] = list(config["variants"])
        expanded = expand(config)
        self._overrides, self.cells = expanded.overrides, expanded.cells
        # By task, with its own settings in place of the general ones: the config and the overrides of variants.
        self._configs = {task: on_task(config, task) for task in self.tasks}
        self._on_task = {
            task: self._overrides if own is config else expanded.on(own) for task, own in self._configs.items()
        }
        self._candidates = {one.name: one for one in candidates(config)}
        self._student_models: dict[str, ModelSpec] = {}
        self._digests: dict[tuple[str, str], str] = {}
        self._teacher_digests: dict[tuple[str, str], str] = {}
        self._data_digests: dict[str, str] = {}

    @property
    def experiment(self) -> str:
        """The name of the experiment, that of its folder in the results."""
        return str(self.config["experiment"])

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Parse what `page` wrote; `RkdError` if the text holds no checked config."""
        try:
            config = json.loads(text)
            digests = config.pop("digests", {})
            plan = cls(config)
            plan._data_digests.update(digests.get("data", {}))
            for key, by_task in (("runs", plan._digests), ("teachers", plan._teacher_digests)):
                for task, known in digests.get(key, {}).items():
                    by_task.update({(task, variant): digest for variant, digest in known.items()})
            return plan
        except (ValueError, RecursionError) as error:
            raise RkdError(f"config: not JSON: {error}; expected the checked config") from None
        except (KeyError, TypeError, AttributeError) as error:
            raise RkdError(f"config: not a checked config: {error!r}; expected the whole of one") from None

    @property
    def synthetic(self) -> bool:
        """True when the data of some task are made up by our own grammar."""
        return any(self.is_synthetic(task) for task in self.tasks)

    def is_synthetic(self, task: str) -> bool:
        """Return True when the task's data are made up by our own grammar."""
        return self._source(task) == "synthetic"

    @property
    def needs_hub(self) -> bool:
        """Return whether data or models come from the Hugging Face hub; otherwise no job needs a network."""
        return bool(self.hub_models) or any(self._source(task) == "hub" for task in self.tasks)

    @property
    def hub_models(self) -> list[ModelSpec]:
        """The models that come from the Hugging Face hub, each once."""
        students = [overrides.get("student_model") for overrides in self._overrides.values()]
        sources = dict.fromkeys([self.config["student_model"], *filter(None, students)])
        specs = [self._teacher_model, *map(self._student_model, sources)]
        return [spec for spec in dict.fromkeys(specs) if model_source.parse(spec.source).kind == "hub"]

    @property
    def glue_tasks(self) -> list[str]:
        """The tasks of GLUE among the config's."""
        return [task for task in self.tasks if task not in self.config["custom_tasks"]]

    def _source(self, task: str) -> str:
        if task in self.config["custom_tasks"]:
            return "files"
        return "glue_dir" if self.config["glue_dir"] else self.config["data_source"]

    def files(self, task: str) -> dict[str, str]:
        """Return the user's files of a task by split; `unlabelled` and `soft_labels` are among them."""
        entry = self.config["custom_tasks"].get(task, {})
        keys = {"train": "train", "validation": "dev", "test": "test", "unlabelled": "unlabelled"}
        found = {split: entry[key] for split, key in keys.items() if entry.get(key) is not None}
        if isinstance(soft := entry.get("soft_labels"), str):
            found["soft_labels"] = soft
        of_glue = self.config.get("unlabelled", {})
        return found | ({"unlabelled": of_glue[task]} if task in of_glue else {})

    def _own_data(self, task: str) -> dict[str, Any] | None:
        """Return the settings of a custom task's data; files count by content and format, not by path."""
        if task not in self.config["custom_tasks"]:
            return None
        entry, files = self.config["custom_tasks"][task], self.files(task)
        shared = {} if "validation" in files else {key: entry[key] for key in ("dev_fraction", "dev_seed")}
        known = {split: _known_file(path) for split, path in files.items()}
        soft = {}
        if (given := entry.get("soft_labels")) is not None:
            columns = None if "soft_labels" in files else columns_of(entry["labels"], given)
            soft = {"columns": columns, **({"file": known["soft_labels"]} if columns is None else {})}
        return {
            **define(entry, training=True),
            "files": {split: file for split, file in known.items() if split not in ("unlabelled", "soft_labels")},
            "scores": entry.get("scores"),
            **shared,
            **({"soft_labels": soft} if soft else {}),
        }

    def _own_task(self, task: str, *, training: bool) -> dict[str, Any] | None:
        entry = self.config["custom_tasks"].get(task)
        return define(entry, training=training) if entry else None

    def lists_classes(self) -> bool:
        """Return True if a task has few enough classes for a table of each."""
        tasks = (get(task, self._own_task(task, training=False)) for task in self.tasks)
        return any(0 < len(task.labels) <= MOST_CLASSES for task in tasks)

    def data(self, task: str) -> DataSpec:
        """Return the spec of a task's data."""
        config, source = self.config, self._source(task)
        rows, files = config["synthetic_rows"], self.files(task)
        return DataSpec(
            task=task,
            source=source,
            path=config["glue_dir"] if source == "glue_dir" else None,
            revision=config["hub_revision"] if source == "hub" else None,
            tokenizer=config["teacher_model"],
            tokenizer_revision=config["teacher_revision"],
            vocab_size=config["vocab_size"],
            max_length=config["max_length"],
            synthetic_rows=[rows["train"], rows["dev"], rows["test"]] if source == "synthetic" else None,
            custom_task=self._own_data(task),
            tokenizer_content=self._tokenizer_content,
            glue_files=self._glue_files(task) if source == "glue_dir" else None,
            student_tokenizer=self._student_tokenizer,
            unlabelled=_known_file(files["unlabelled"]) if "unlabelled" in files else None,
        )

    def clusters(self, task: str) -> ClusterSpec | None:
        """Return the spec of a task's clusters of related examples; None if its examples are independent."""
        entry = self.config["custom_tasks"].get(task)
        if entry is None:
            return ClusterSpec(self.data(task), GLUE_CLUSTERS[task]) if task in GLUE_CLUSTERS else None
        on_test = entry.get("compare_on") == "test"
        return ClusterSpec(self.data(task), (entry["clusters"],), on_test) if entry.get("clusters") else None

    def _glue_files(self, task: str) -> dict[str, str]:
        """SHA-256 of a task's files in the GLUE folder; a missing one is reported by the job that reads it."""
        folder = Path(self.config["glue_dir"]).expanduser()
        files = {split: folder / known.file for split, known in get(task).splits.items()}
        return {split: known_sha256(file) for split, file in files.items() if file.is_file()}

    def data_digest(self, task: str) -> str:
        """Return the digest of the settings that decide a task's data."""
        if task not in self._data_digests:
            self._data_digests[task] = data_digest(self.data(task))
        return self._data_digests[task]

    def digest(self, task: str, variant: str) -> str:
        """Return the digest of the settings that decide a variant's runs on a task, or the teacher's."""
        if (task, variant) not in self._digests:
            if variant == TEACHER:
                spec, teacher = self.teacher(task, self.seeds[0]), None
            else:
                spec = self.student(task, variant, self.seeds[0])
                teacher = teacher_digest(*self.learns_from(task, variant, self.seeds[0]))
            self._digests[task, variant] = run_digest(spec, self.data_digest(task), teacher)
        return self._digests[task, variant]

    def teacher_digest(self, task: str, variant: str) -> str:
        """Return the digest of the fine-tuned teacher of a variant."""
        if not self.has_own_teacher(variant):
            return self.digest(task, TEACHER)
        if (task, variant) not in self._teacher_digests:
            spec = self.teacher(task, self.seeds[0], variant)
            self._teacher_digests[task, variant] = run_digest(spec, self.data_digest(task), None)
        return self._teacher_digests[task, variant]

    def run(self, task: str, variant: str, seed: int) -> Run:
        """Return a run with the digest of its settings."""
        return Run(task, variant, seed, self.digest(task, variant))

    def teacher_run(self, task: str, variant: str, seed: int) -> Run:
        """Return the run of the fine-tuned teacher of a variant."""
        return Run(task, TEACHER, seed, self.teacher_digest(task, variant))

    def teacher_runs(self, task: str, variant: str, seed: int) -> list[Run]:
        """Return the runs that a variant learns from: of its teacher or teachers, or those that leave one behind."""
        if not self.needs_teacher(variant) or self.learns_from_soft_labels(variant):
            return []
        own = sources(self._overrides[self._row(variant)])
        if FROM in own:
            found = [self.run(task, own[FROM], seed)]
        else:
            found = [self.teacher_run(task, variant, each) for each in (self.seeds if ENSEMBLE in own else [seed])]
        return found + ([self.run(task, own[MATCH], seed)] if MATCH in own else [])

    def learns_from(self, task: str, variant: str, seed: int) -> tuple[list[str], str | None]:
        """Return the folders of the models that a variant learns from, and of the one whose entropy is matched.

        They are relative to the results.
        """
        runs = self.teacher_runs(task, variant, seed)
        folders = [f"{RUN.format(**run._asdict())}/{'model' if run.variant == TEACHER else LEFT}" for run in runs]
        matches = bool(folders) and MATCH in sources(self._overrides[self._row(variant)])
        return (folders[:-1], folders[-1]) if matches else (folders, None)

    @cached_property
    def with_teacher_kept(self) -> set[str]:
        """The variants whose runs leave their teacher behind, as another variant asks for it."""
        return left_behind(self._overrides)

    def teacher(self, task: str, seed: int, variant: str | None = None) -> RunSpec:
        """Return the spec of a teacher's fine-tuning.

        Args:
            task, seed: those of the run.
            variant: one with a teacher of its own; by default the teacher of all others.
        """
        overrides = None if variant is None else self._settings(task, variant)
        return RunSpec(
            task,
            "teacher",
            TEACHER_METHOD,
            seed,
            self._teacher_model,
            self._training(task, teacher_settings(self._configs[task], overrides)),
            custom_task=self._own_task(task, training=True),
        )

    def teacher_of_digest(self, task: str, digest: str, seed: int) -> RunSpec:
        """Return the spec of the planned teacher with a digest; that of the config's if there is none."""
        names = (name for name in (*self.all_variants, *self._candidates) if self.has_own_teacher(name))
        variant = next((name for name in names if self.teacher_digest(task, name) == digest), None)
        return self.teacher(task, seed, None if digest == self.digest(task, TEACHER) else variant)

    def student(self, task: str, variant: str, seed: int) -> RunSpec:
        """One student; holds only the settings that its method reads, so that others may change without a re-run."""
        settings = resolve(self._configs[task], self._settings(task, variant))
        method = settings["method"]
        return RunSpec(
            task,
            variant,
            method,
            seed,
            self._student_model(settings["student_model"]),
            self._training(task, settings),
            {
                **_pick(settings, METHODS[method].options),
                **({"soft_labels": True} if self.learns_from_soft_labels(variant) else {}),
                **({"student_tokenizer": OWN} if self.config.get("student_tokenizer") == OWN else {}),
            },
            self._own_task(task, training=True),
        )

    def _training(self, task: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of training that are read on a task."""
        known = get(task, self._own_task(task, training=True))
        unread = {"class_weights"} if known.regression or known.multi_label else set()
        return {key: settings[key] for key in TRAINING_KEYS if key in settings and key not in unread}

    def trials(self, task: str) -> str:
        """Return the specs of a task's students for one seed, as JSON lines, to try before the teacher is trained."""
        names = dict.fromkeys(run.variant for run in self.runs() if run.task == task and run.variant != TEACHER)
        return "".join(f"{self.student(task, name, self.seeds[0]).json()}\n" for name in names)

    def _settings(self, task: str, variant: str) -> Overrides:
        """Return the overrides of a variant, or of a candidate of tuning, on a task."""
        if (tried := self._candidates.get(variant)) is None:
            return self._on_task[task][variant]
        return changed({} if tried.row == TEACHER else self._on_task[task][tried.row], tried.changes)

    def method(self, variant: str) -> str:
        """Return the training method of a variant, or of a candidate of tuning."""
        return str(self._overrides[self._row(variant)]["method"])

    def _row(self, variant: str) -> str:
        return self._candidates[variant].row if variant in self._candidates else variant

    def label(self, variant: str) -> str:
        """Return the name of a variant in print."""
        entry = self.config["variants"].get(variant, {})
        return str(entry.get("title", variant))

    def needs_teacher(self, variant: str) -> bool:
        """Return whether the variant's method learns from the fine-tuned teacher."""
        return METHODS[self.method(variant)].needs_teacher

    def learns_from_soft_labels(self, variant: str) -> bool:
        """Return whether soft labels of the data take the place of the variant's teacher."""
        return sources(self._overrides[self._row(variant)]).get(FROM) == SOFT_LABELS

    @property
    def with_trainable_teacher(self) -> list[str]:
        """The variants whose teacher learns too."""
        return [name for name in self.variants if METHODS[self.method(name)].trains_teacher]

    @property
    def report_only(self) -> bool:
        """Return whether tables and figures are made from existing runs, without training any."""
        return bool(self.config["report_only"])

    def has_own_teacher(self, variant: str) -> bool:
        """Return whether the variant overrides settings of its teacher."""
        row = self._row(variant)
        own = self._overrides[row].get("teacher", {}) if row != TEACHER else {}
        return row == TEACHER or (bool(own.keys() - SOURCES) and self.needs_teacher(row))

    def has_own_student(self, variant: str) -> bool:
        """Return whether the variant starts from another student than the config's."""
        return (
            self._overrides[variant].get("student_model", self.config["student_model"]) != self.config["student_model"]
        )

    @property
    def all_variants(self) -> list[str]:
        """The variants of the config and those that its ablations add."""
        return list(self._overrides)

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """The axes of ablation that run on some task, by name; values in the order of the config, numbers sorted."""
        names = dict.fromkeys(cell.axis for cell in self.cells)
        cells = {name: [cell for cell in self.cells if cell.axis == name] for name in names}
        entries = self.config["ablations"]
        return {
            name: Axis.ordered(
                name,
                [(cell.value, cell.variant) for cell in found],
                found[0].tasks,
                entries[name].get("parameters", ()),
                entries[name]["variant"],
            )
            for name, found in cells.items()
        }

    @property
    def candidates(self) -> list[str]:
        """The names of the candidates of tuning for students."""
        return [name for name, one in self._candidates.items() if one.row != TEACHER]

    def _tried(self, role: str) -> list[Candidate]:
        return [one for one in self._candidates.values() if (one.row == TEACHER) == (role == "teacher")]

    def tuning_runs(self, role: str) -> list[Run]:
        """Return the runs of the candidates of the teacher or of the students, with the tuning seed."""
        seed = self.config["tune"]["seed"] if "tune" in self.config else 0
        find = self.teacher_run if role == "teacher" else self.run
        return [find(task, one.name, seed) for task in self.tasks for one in self._tried(role)]

    def all_tuning_runs(self) -> list[Run]:
        """Return the runs of all candidates, and of the teachers that students among them learn from."""
        students = self.tuning_runs("student")
        return list(dict.fromkeys([*self.tuning_runs("teacher"), *self._with_teachers(students)]))

    def _with_teachers(self, runs: Sequence[Run]) -> Iterator[Run]:
        """Yield runs, each after those that it learns from."""
        for run in runs:
            if run.variant != TEACHER:
                yield from self._with_teachers(self.teacher_runs(*run[:3]))
            yield run

    def tuning(self, role: str) -> TuningSpec:
        """Return the spec of the table of tuning of the teacher or of the students."""
        runs, tried = self.tuning_runs(role), self._tried(role)
        rows = [(run, one) for run, one in zip(runs, tried * len(self.tasks), strict=True)]
        report = self.report()
        shared = {field.name: getattr(report, field.name) for field in fields(report)}
        selection = replace(report.selection, **{role: "held-out"})
        return TuningSpec(
            **{**shared, "seeds": (self.config["tune"]["seed"],), "selection": selection},
            tried=tuple(Tried(run.task, one.row, one.values, run.variant, run.digest) for run, one in rows),
            per_task=dict(self.config["per_task"]),
        )

    def runs(self) -> list[Run]:
        """Return every training run, the teachers first."""
        places = [(task, name) for name in ("teacher", *self.variants) for task in self.tasks]
        places += [(task, cell.variant) for cell in self.cells for task in cell.tasks]
        places = list(dict.fromkeys(places))
        own = [(task, name) for task, name in places if name != TEACHER and self.has_own_teacher(name)]
        teachers = [self.teacher_run(task, name, seed) for task, name in own for seed in self.seeds]
        return list(
            dict.fromkeys([*teachers, *(self.run(task, name, seed) for task, name in places for seed in self.seeds)])
        )

    def step_cost(self, task: str) -> StepCostSpec:
        """Return the variants to time, all on one batch and with the config's student."""
        keys = ("weight_decay", "max_grad_norm", "adam_epsilon", "gradient_accumulation")
        timed = []
        names = (name for name in self.variants if not self.has_own_student(name))
        for name in (name for name in names if not self.learns_from_soft_labels(name)):
            spec = self.student(task, name, self.seeds[0])
            training = {"student_lr": spec.training["learning_rate"], **_pick(spec.training, keys)}
            timed.append(TimedVariant(name, spec.method, spec.options, training))
        student = self._student_model(self.config["student_model"])
        return StepCostSpec(student, tuple(timed), self.config["student"]["batch_size"])

    def method_modules(self) -> list[str]:
        """Modules of all methods of the config's variants."""
        return sorted({f"rkd.methods.{self.method(name)}" for name in self.variants})

    def metrics(self, task: str, variant: str, seed: int) -> MetricsSpec:
        """Return the spec of a metrics file: all that it says beside its numbers."""
        method = TEACHER_METHOD if variant == "teacher" else self.method(variant)
        own = self._own_task(task, training=False)
        return MetricsSpec(task, variant, method, seed, self.is_synthetic(task), own)

    def report(self, axis: str | None = None) -> ReportSpec:
        """Return the spec of tables and figures: order, names, selection.

        Args:
            axis: the axis of ablation to show; then the report is about all variants, else about those that the config
                names.
        """
        names = self.variants if axis is None else self.all_variants
        tasks = {id(own): task for task, own in self._configs.items()}.values()  # one for all without own settings
        students = [self.student(task, name, self.seeds[0]) for task in tasks for name in names]
        own = [name for name in names if self.has_own_teacher(name)]
        teachers = [self.teacher(task, self.seeds[0], name) for task in tasks for name in (None, *own)]
        chosen = ["/".join(sorted({spec.training["selection"] for spec in specs})) for specs in (teachers, students)]
        entries = self.config["custom_tasks"]
        return ReportSpec(
            tasks=tuple(self.tasks),
            variants=tuple(Variant(name, self.method(name), self.label(name)) for name in names),
            seeds=tuple(self.seeds),
            synthetic=self.synthetic,
            teacher_model=self.config["teacher_model"],
            student_model=self.config["student_model"],
            selection=Selection(*chosen),
            axis=None if axis is None else self.axes[axis],
            custom_tasks={task: define(entries[task]) for task in self.tasks if task in entries},
        )

    def page(self, *, compared: bool = False) -> str:
        """Return the config, which the report page shows, and the digests of runs and data as JSON.

        Variants keep their order, in which tables have their rows.

        Args:
            compared: leave out what says where jobs run and files lie: when that alone changes, nothing is made anew.
        """
        config = dict(sorted(self.config.items()))
        # Given, so that its reader needs no local models: their content is part of the digests.
        runs: dict[str, dict[str, str]] = {}
        teachers: dict[str, dict[str, str]] = {}
        for task, name in dict.fromkeys(run[:2] for run in self.runs()):
            runs.setdefault(task, {})[name] = self.digest(task, name)
            if name != TEACHER and self.has_own_teacher(name):
                teachers.setdefault(task, {})[name] = self.teacher_digest(task, name)
        data = {task: self.data_digest(task) for task in self.tasks}
        config["digests"] = {"data": data, "runs": runs, **({"teachers": teachers} if teachers else {})}
        if compared:
            config = {key: value for key, value in config.items() if key not in WHERE_JOBS_RUN}
            places = ("train", "dev", "test", "unlabelled")
            config["custom_tasks"] = {
                task: {key: value for key, value in entry.items() if key not in places}
                for task, entry in config["custom_tasks"].items()
            }
        return json.dumps(config)

    @cached_property
    def _tokenizer_content(self) -> str | None:
        return model_source.parse(self.config["teacher_model"]).tokenizer_content()

    @cached_property
    def _student_tokenizer(self) -> dict[str, str | None] | None:
        if self.config.get("student_tokenizer") != OWN:
            return None
        source, revision = self.config["student_model"], self.config["student_revision"]
        return {"reference": source, "revision": revision, "content": model_source.parse(source).tokenizer_content()}

    @cached_property
    def _teacher_model(self) -> ModelSpec:
        source, revision, checksum = (self.config[f"teacher_{key}"] for key in ("model", "revision", "sha256"))
        return ModelSpec(source, revision, checksum, content=model_source.parse(source).content())

    def _student_model(self, source: str) -> ModelSpec:
        if source not in self._student_models:
            self._student_models[source] = self._read_student_model(source)
        return self._student_models[source]

    def _read_student_model(self, source: str) -> ModelSpec:
        parsed = model_source.parse(source)
        if source == self.config["student_model"]:
            revision, checksum = self.config["student_revision"], self.config["student_sha256"]
        else:
            revision, checksum = parsed.revision, parsed.known_sha256()
        layers_of = self._teacher_model if parsed.kind == "teacher-layers" else None
        name = parsed.location if parsed.kind == "hub" else source
        return ModelSpec(name, revision, checksum, layers_of, parsed.content())


def _known_file(path: str) -> dict[str, str]:
    """Return what decides about a file of the user's: its format and content."""
    return {"format": Path(path).suffix, "sha256": known_sha256(path)}


def _pick(settings: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Those of the keys that the settings have."""
    return {key: settings[key] for key in keys if key in settings}
