"""The spec of a task's clusters of related dev examples. Apart from other specs: clusters change no data and no run."""

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
    """

    title: ClassVar[str] = "cluster spec"

    data: DataSpec
    columns: tuple[str, ...]
