"""The spec of a task's clusters of related examples. Apart from other specs: clusters change no data and no run."""

from dataclasses import dataclass
from typing import ClassVar

from rkd.specs.base import Spec
from rkd.specs.data import DataSpec

# Text fields of GLUE's tasks whose equal values mark related examples.
GLUE_CLUSTERS = {"mnli": ("premise",), "qnli": ("sentence",), "qqp": ("question1",)}


@dataclass(frozen=True)
class ClusterSpec(Spec):
    """The data of a task, and the columns whose equal values mark related examples.

    Attributes:
        columns: text fields of a GLUE task, or one column of a custom task's file.
        test: True for the examples of a custom task's test file, on which tables then compare.
    """

    title: ClassVar[str] = "cluster spec"

    data: DataSpec
    columns: tuple[str, ...]
    test: bool = False

    @property
    def decides(self) -> tuple[str, ...]:
        """Settings that decide the clusters, beside the data."""
        return (*self.columns, "test") if self.test else self.columns
