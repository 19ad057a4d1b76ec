"""The spec of a metrics file. Apart from other specs, so that their change scores nothing anew."""

from dataclasses import dataclass
from typing import Any, ClassVar

from rkd.specs.base import Spec


@dataclass(frozen=True)
class MetricsSpec(Spec):
    """The run that a metrics file is about; the file holds these fields beside its numbers.

    Attributes:
        variant: "teacher", or a name from `variants` in the config.
        synthetic: True when the project's own grammar made the data.
        custom_task: the definition of a custom task, see `rkd.tasks.define`.
    """

    title: ClassVar[str] = "metrics spec"

    task: str
    variant: str
    method: str
    seed: int
    synthetic: bool
    custom_task: dict[str, Any] | None = None
