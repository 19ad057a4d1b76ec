"""The spec of a table of tuning."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from rkd.specs.report import ReportSpec


@dataclass(frozen=True)
class Tried:
    """Values that were tried for a row on a task, and the run that tried them: its variant and digest in paths."""

    task: str
    row: str
    values: dict[str, Any]
    variant: str
    digest: str


@dataclass(frozen=True)
class TuningSpec(ReportSpec):
    """The content of a table of tuning, and the settings per task that the choice is added to.

    Attributes:
        tried: the candidates of all tasks and rows, in the order of the config.
        per_task: the config's settings of single tasks.
    """

    title: ClassVar[str] = "tuning spec"

    tried: tuple[Tried, ...] = ()
    per_task: dict[str, dict[str, Any]] = field(default_factory=dict)
