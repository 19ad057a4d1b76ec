"""From a checked config to runs: what is trained, from which spec, with which code. No torch, no pandas."""

import ast
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rkd.config import METHOD_OPTIONS

ROOT = Path(__file__).resolve().parent.parent
TRAINING_KEYS = (
    "learning_rate",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "weight_decay",
    "warmup_ratio",
    "max_grad_norm",
    "adam_epsilon",
    "selection",
)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Snakemake compares it to decide on a re-run."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Spec:
    """A frozen dataclass with a canonical JSON form."""

    def json(self) -> str:
        """Canonical JSON of all fields."""
        return canonical_json(asdict(self))  # type: ignore[call-overload]


@dataclass(frozen=True)
class DataSpec(Spec):
    """How one task's data are read and tokenised; the arguments of `prepare_data`."""

    task: str
    source: str
    path: str | None
    revision: str | None
    tokenizer: str
    tokenizer_revision: str | None
    vocab_size: int
    max_length: int
    synthetic_rows: list[int] | None


@dataclass(frozen=True)
class ModelSpec(Spec):
    """Where a model's first weights come from. `layers_of` is the teacher's source for `teacher-layers:`."""

    source: str
    revision: str | None = None
    sha256: str | None = None
    layers_of: "ModelSpec | None" = None


@dataclass(frozen=True)
class RunSpec(Spec):
    """All that decides a training run, apart from its code and data.

    Attributes:
        variant: "teacher", or a name from `variants` in the config.
        training: the keys of TRAINING_KEYS.
        options: what the method itself reads, for example alpha and layer_map.
    """

    task: str
    variant: str
    method: str
    seed: int
    model: ModelSpec
    training: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """The inverse of `json`."""
        fields = json.loads(text)
        model = fields.pop("model")
        if model["layers_of"]:
            model["layers_of"] = ModelSpec(**model["layers_of"])
        return cls(model=ModelSpec(**model), **fields)


class Plan:
    """The runs of a config.

    Args:
        config: a checked config, from `rkd.config.load`.

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

    @property
    def synthetic(self) -> bool:
        """True when the data are made up by our own grammar."""
        return self._source() == "synthetic"

    def _source(self) -> str:
        return "glue_dir" if self.config["glue_dir"] else self.config["data_source"]

    def data(self, task: str) -> DataSpec:
        """How `task` is prepared."""
        config, source = self.config, self._source()
        rows = config["synthetic_rows"]
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
        )

    def teacher(self, task: str, seed: int) -> RunSpec:
        """The fine-tuning of the teacher."""
        return RunSpec(
            task, "teacher", "finetune", seed, self._teacher_model(), _pick(self.config["teacher"], TRAINING_KEYS)
        )

    def student(self, task: str, variant: str, seed: int) -> RunSpec:
        """One student; holds only the settings that its method reads, so that others may change without a re-run."""
        overrides = dict(self.config["variants"][variant])
        method = overrides.pop("method")
        settings = {**self.config["student"], **overrides}
        return RunSpec(
            task,
            variant,
            method,
            seed,
            self._student_model(),
            _pick(settings, TRAINING_KEYS),
            _pick(settings, METHOD_OPTIONS[method]),
        )

    def method(self, variant: str) -> str:
        """The training method of a variant."""
        return str(self.config["variants"][variant]["method"])

    def needs_teacher(self, variant: str) -> bool:
        """Whether the variant's method learns from the fine-tuned teacher."""
        return self.method(variant) != "finetune"

    def metrics(self, task: str, variant: str, seed: int) -> str:
        """Canonical JSON of what a metrics file says beside its numbers."""
        method = "finetune" if variant == "teacher" else self.method(variant)
        return canonical_json(
            {"task": task, "variant": variant, "method": method, "seed": seed, "synthetic": self.synthetic}
        )

    def report(self) -> dict[str, Any]:
        """What tables and figures need to know beside the numbers: order, names, selection."""
        selections = {self.student(self.tasks[0], v, self.seeds[0]).training["selection"] for v in self.variants}
        return {
            "tasks": self.tasks,
            "variants": [
                {"name": name, "method": self.config["variants"][name]["method"], "label": name}
                for name in self.variants
            ],
            "seeds": self.seeds,
            "synthetic": self.synthetic,
            "teacher_model": self.config["teacher_model"],
            "student_model": self.config["student_model"],
            "selection": {
                "teacher": self.config["teacher"]["selection"],
                "student": "/".join(sorted(selections)),
            },
        }

    def _teacher_model(self) -> ModelSpec:
        return ModelSpec(*(self.config[f"teacher_{key}"] for key in ("model", "revision", "sha256")))

    def _student_model(self) -> ModelSpec:
        source, revision, checksum = (self.config[f"student_{key}"] for key in ("model", "revision", "sha256"))
        layers_of = self._teacher_model() if source.startswith("teacher-layers:") else None
        return ModelSpec(source, revision, checksum, layers_of)


def _pick(settings: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: settings[key] for key in keys}


# --- code inputs ------------------------------------------------------------------------------------------------------


def code_inputs(script: str, *modules: str) -> list[str]:
    """The files of this project whose code a job runs: its script, `modules`, and all that they import from rkd.

    Snakemake re-runs a job when the content of one of its inputs changes. The list is read from the import
    statements themselves, so it can be neither too long nor forgotten.

    Args:
        script: path of the job's script, relative to the project's root, for example workflow_scripts/train.py.
        modules: modules that the script imports by a computed name, for example "rkd.methods.reptile".

    Returns:
        Sorted paths relative to the project's root.
    """
    found: set[Path] = set()
    todo = [ROOT / script, *(path for module in modules for path in _module_files(module))]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(_imports(path))
    return sorted(str(path.relative_to(ROOT)) for path in found)


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Files of the rkd modules that the file `path` imports, wherever in it the statement stands."""
    result: list[Path] = []
    type_checking: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            type_checking.update(child for statement in node.body for child in ast.walk(statement))
        if node in type_checking:  # seen by type checkers only
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        result.extend(file for name in names for file in _module_files(name))
    return tuple(result)


def _module_files(module: str) -> list[Path]:
    """The file of an rkd module and the `__init__.py` of every package on the way to it; empty for other names."""
    parts = module.split(".")
    if parts[0] != "rkd":
        return []
    files = [ROOT.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    files.append(ROOT.joinpath(*parts).with_suffix(".py"))
    return [file for file in files if file.is_file()]
