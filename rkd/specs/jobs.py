"""The specs of a training run and of its model.

Apart from the plan, which builds them, so that a change of the plan or of the config checker is no change of the code
that trains.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from rkd.specs.base import Spec

TEACHER = "teacher"  # the variant of the fine-tuned teacher

TRAINING_KEYS = (
    "learning_rate",
    "epochs",
    "batch_size",
    "gradient_accumulation",
    "weight_decay",
    "warmup_ratio",
    "max_grad_norm",
    "adam_epsilon",
    "precision",
    "group_by_length",
    "selection",
    "held_out_fraction",
    "patience",
    "class_weights",
)
# Training settings that are off when null; a spec without them is that of versions that did not have them.
OFF_BY_NULL = ("patience", "class_weights")


@dataclass(frozen=True)
class ModelSpec(Spec):
    """The source of a model's initial weights.

    Attributes:
        source: the model reference, see `rkd.models.source`.
        revision: the commit of a model on the hub.
        sha256: what the weights must have, see `rkd.models.files.weights_sha256`.
        layers_of: the teacher's source, for `teacher-layers:`.
        content: the digest of a local model, see `rkd.models.source.ModelSource.content`; None of the others.
    """

    title: ClassVar[str] = "model spec"

    source: str
    revision: str | None = None
    sha256: str | None = None
    layers_of: "ModelSpec | None" = None
    content: str | None = None


@dataclass(frozen=True)
class RunSpec(Spec):
    """All that decides a training run, apart from its code and data.

    Attributes:
        variant: "teacher", or a name from `variants` in the config.
        training: the keys of TRAINING_KEYS, but for what the selection does not read and what is off.
        options: what the method itself reads, for example alpha and layer_map.
        custom_task: the definition of a custom task, see `rkd.tasks.define`.
    """

    title: ClassVar[str] = "run spec"

    task: str
    variant: str
    method: str
    seed: int
    model: ModelSpec
    training: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    custom_task: dict[str, Any] | None = None
