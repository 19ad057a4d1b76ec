"""The spec of a measurement of training steps."""

from dataclasses import dataclass
from typing import Any, ClassVar

from rkd.errors import RkdError
from rkd.specs.base import Spec
from rkd.specs.jobs import ModelSpec


@dataclass(frozen=True)
class TimedVariant:
    """A variant whose training step is timed.

    Attributes:
        options: what the method itself reads, for example alpha and layer_map.
        training: the settings that every method reads, for example student_lr.
    """

    variant: str
    method: str
    options: dict[str, Any]
    training: dict[str, Any]


@dataclass(frozen=True)
class StepCostSpec(Spec):
    """The variants whose training step is timed, all with the same student and batch size.

    Attributes:
        student: the student's model before training.
        variants: at least one, with different names.
        batch_size: examples in the batch.
    """

    title: ClassVar[str] = "step cost spec"

    student: ModelSpec
    variants: tuple[TimedVariant, ...]
    batch_size: int

    def __post_init__(self) -> None:
        names = [one.variant for one in self.variants]
        if not names or len({*names}) < len(names):
            raise RkdError(f"{self.title}: variants: found {names}; expected at least one, each name once")
        if self.batch_size < 1:
            raise RkdError(f"{self.title}: batch_size: found {self.batch_size}; expected at least 1")
