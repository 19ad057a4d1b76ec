"""The result of `rkd.distill`."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rkd.export import export
from rkd.models import loading
from rkd.models.tokenizer import load_tokenizer
from rkd.runs.result import Result


@dataclass(frozen=True)
class Distilled(Result):
    """A finished distillation.

    Attributes:
        folder: the student's run, with model/, predictions.parquet, logits.parquet, history.jsonl and run.json.
        metrics: `splits` (metrics by split), `primary_score`, and `teacher`, the teacher's primary score before the
            first step.
        predictions: columns split, idx (row of its file or table, from 0), label, prediction (names, or scores) and
            one logit per label.
        history: an evaluation per epoch, the first before any step.
    """

    _temporary: Any = field(default=None, repr=False)  # removes the folder with the last reference to it

    @cached_property
    def student(self) -> PreTrainedModel:
        """The trained student, in eval mode on the CPU."""
        return loading.load_finetuned(self.folder / "model")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the student."""
        return load_tokenizer(self.folder / "model")

    def save(self, path: str | Path) -> Path:
        """Write a folder that `transformers.pipeline` opens, with a model card; returns its path.

        Give the pipeline `truncation=True`, as the card does: see `rkd.export.export`.
        """
        return export(self.folder, path)
