"""From a checked config to runs: what is trained, and from which spec. No torch, no pandas."""

from collections.abc import Mapping
from typing import Any

from rkd.config import METHOD_OPTIONS
from rkd.spec import TRAINING_KEYS, DataSpec, ModelSpec, RunSpec, canonical_json


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
            task,
            "teacher",
            "finetune",
            seed,
            self._teacher_model(),
            _pick(self.config["teacher"], TRAINING_KEYS),
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
