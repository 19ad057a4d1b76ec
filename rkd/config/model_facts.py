"""The facts that the files of a model tell about it; no model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rkd.errors import RkdError
from rkd.models import files
from rkd.models import source as model_source
from rkd.models.files import Facts
from rkd.models.source import ModelSource


@dataclass(frozen=True)
class Model:
    """A teacher or a student as its files describe it; one on the hub has no facts.

    Attributes:
        source: where it comes from; None if `error` says why that is unknown.
        facts: width, depth and so on, as far as its config.json has them.
        error: why it cannot be read; empty if it can.
    """

    source: ModelSource | None = None
    facts: Facts = field(default_factory=Facts)
    error: str = ""

    @classmethod
    def read(cls, reference: str, role: str) -> "Model":
        """Return the model that a config names as its teacher or its student."""
        try:
            source = model_source.parse(reference)
            fields = source.read_config()
            if (folder := source.folder()) is not None:
                files.check_weights(folder)
            facts = files.facts(fields or {})
        except RkdError as error:
            return cls(error=_line(error))
        if role == "teacher" and source.kind == "teacher-layers":
            return cls(error="only a student can be cut from a teacher")
        return cls(source, facts)

    @property
    def kind(self) -> str | None:
        return self.source.kind if self.source else None

    @property
    def folder(self) -> Path | None:
        return self.source.folder() if self.source else None

    @property
    def depth(self) -> int | None:
        """The number of its layers; None where it is unknown."""
        if self.source and self.source.kind == "teacher-layers":
            return len(self.source.layers)
        return self.facts.depth

    @property
    def outputs(self) -> int | None:
        """The number of outputs of its classifier; None where it has none, or no folder."""
        return files.outputs(self.folder) if self.folder is not None else None

    @cached_property
    def tokenizer_error(self) -> str:
        """The reason why its files hold no tokenizer; empty if they do, or if it has no folder."""
        try:
            if self.folder is not None:
                files.check_tokenizer(self.folder)
        except RkdError as error:
            return _line(error)
        return self._vocabulary[1]

    @property
    def vocabulary(self) -> Mapping[str, int] | None:
        """The ids of its tokens; None where its files do not tell them."""
        return self._vocabulary[0]

    @property
    def vocabulary_error(self) -> str:
        """The reason why its vocabulary cannot be read; empty if it can, or if there is none."""
        return self._vocabulary[1]

    @cached_property
    def _vocabulary(self) -> tuple[Mapping[str, int] | None, str]:
        try:
            return (files.vocabulary(self.folder) if self.folder is not None else None), ""
        except RkdError as error:
            return None, _line(error)


def _line(error: RkdError) -> str:
    return " ".join(str(error).split())
