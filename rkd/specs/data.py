"""The spec of a task's prepared data. Apart from other specs, so that their change prepares no data anew."""

from dataclasses import dataclass
from typing import Any, ClassVar

from rkd.specs.base import Spec


@dataclass(frozen=True)
class DataSpec(Spec):
    """The settings of one task's data; the arguments of `rkd.data.prepare.prepare`.

    Attributes:
        tokenizer_content: the digest of a local tokenizer's files; None for one on the hub and for a vocabulary that is
            built from the data.
        custom_task: a custom task's definition (see `rkd.tasks.define`), `files` (format and SHA-256 by split; the
            place decides nothing), `scores`, `dev_fraction` and `dev_seed`; optionally `soft_labels`: the `columns` of
            the labels, in their order, or None and a `file` that has them.
        glue_files: SHA-256 of the files in a GLUE folder by split, of those that exist.
        unlabelled: format and SHA-256 of a file of further training rows without labels.
        student_tokenizer: `reference`, `revision` and `content` of the tokenizer of students with a vocabulary of their
            own.
    """

    title: ClassVar[str] = "data spec"

    task: str
    source: str
    path: str | None
    revision: str | None
    tokenizer: str
    tokenizer_revision: str | None
    vocab_size: int
    max_length: int
    synthetic_rows: list[int] | None
    custom_task: dict[str, Any] | None = None
    tokenizer_content: str | None = None
    glue_files: dict[str, str] | None = None
    unlabelled: dict[str, str] | None = None
    student_tokenizer: dict[str, str | None] | None = None
