"""Predictions and evaluation of a trained model on a file, outside the workflow."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset

from rkd.config import arguments
from rkd.data.files import read_split, read_texts
from rkd.data.prepare import encode, warn_about_blank_texts, without_bars
from rkd.data.reading import read_columns, write_columns
from rkd.errors import RkdError
from rkd.label_sets import SEPARATOR
from rkd.labels import check_names
from rkd.metrics.by_class import by_class
from rkd.metrics.scores import compute
from rkd.models import hub, loading
from rkd.models import source as model_source
from rkd.models.outputs import gives_sets
from rkd.models.tokenizer import load_tokenizer
from rkd.runs.metrics import metrics_of
from rkd.runs.record import unchanged
from rkd.tasks import Task, define, get, label_text
from rkd.training import evaluation
from rkd.training.batches import Split
from rkd.utils.files import atomic_path
from rkd.utils.torch_setup import choose_device

# Longest text in tokens for a model without a limit.
LONGEST = 1 << 20


class Classifier:
    """A trained model with its tokenizer, for predictions on files.

    Args:
        reference: a run's folder, an export, another folder of a fine-tuned classifier, or a hub name
            (`NAME@REVISION` for one commit).
        text: the text column or the two text columns; by default those of the run.
        label: the label column, or with several labels per text the columns of the labels; by default the run's.
        device: auto, cpu or cuda.
        label_separator: what stands between the labels of a text, if it may have several; by default the run's, or ;.

    Raises:
        RkdError: an argument is invalid, the run's record is damaged, its model has changed since training, or the
            model does not load.

    Example:
        >>> Classifier("distilled/student").predict("new.csv")["prediction"].tolist()
        ['good', 'bad']
    """

    def __init__(
        self,
        reference: str | Path,
        text: str | Sequence[str] | None = None,
        label: str | Sequence[str] | None = None,
        device: str = "auto",
        label_separator: str | None = None,
    ) -> None:
        arguments.check_classifier(reference, text, label, device=device)
        known = unchanged(reference, "model").get("spec", {}).get("custom_task") or {}
        source = model_source.parse(arguments.model_reference(reference))
        where = str(hub.local(source).path() or source.location)
        self.folder = Path(where)
        self.model: Any = loading.load_finetuned(where)
        self.tokenizer = load_tokenizer(where)
        self.text = [text] if isinstance(text, str) else list(text or known["text"])
        # Limited by the model's positions and by the length that it was trained on, which the tokenizer stores.
        self.max_length = min(loading.positions_of(self.model) or LONGEST, self.tokenizer.model_max_length, LONGEST)
        loading.check_reading(
            self.model, self.tokenizer, where=str(reference), max_length=self.max_length, pair=len(self.text) == 2
        )
        self.label = label or known.get("label")
        self.metrics = metrics_of(reference)
        self.device = choose_device(device)
        names = [str(name) for _, name in sorted((self.model.config.id2label or {}).items())]
        check_names(f"{reference}: its labels", names)
        self.labels = [] if len(names) == 1 else names
        self.separator = label_separator or known.get("label_separator", SEPARATOR)
        if not gives_sets(self.model):
            arguments.refuse(_of_sets(label_separator, label))
            self.separator = None

    def predict(self, file: str | Path, *, keep_columns: bool = False) -> pd.DataFrame:
        """Predict every row of a file.

        Args:
            file: a .csv, .tsv, .jsonl or .parquet file.
            keep_columns: put the columns of the file, with their values unchanged, before those of the predictions.

        Returns:
            A row per row of the file: `prediction` and, for labels, their probabilities `p_LABEL`. With several labels
            per text the prediction holds those whose probability is above one half, with the separator between them.

        Raises:
            RkdError: the file cannot be read, or it has a column of that name and the columns are to be kept.
        """
        arguments.refuse(arguments.data_file("file", file))
        path, task = Path(file).expanduser(), self._task(self.label or "label", None)
        kept = read_columns(path, None, where=str(file)) if keep_columns else {}
        for name in ("prediction", *(f"p_{label}" for label in task.labels)):
            if name in kept:
                raise RkdError(
                    f"{file}: found a column {name!r}, which predictions have, too; expected another name: rename it, "
                    "or leave out the file's columns (--predictions-only)"
                )
        z = self._logits(task, read_texts(task, path), file)[0]
        decided = evaluation.decide(task, z)
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in kept.items()})
        if task.regression:
            return frame.reindex(range(len(decided))).assign(prediction=decided)
        probabilities = (z.double().sigmoid() if task.multi_label else z.double().softmax(dim=-1)).numpy()
        columns = {f"p_{name}": probabilities[:, index] for index, name in enumerate(task.labels)}
        found = pd.DataFrame({"prediction": [label_text(task, value) for value in decided], **columns})
        return pd.concat([frame, found], axis=1) if kept else found

    def texts(self, file: str | Path) -> list[tuple[str, ...]]:
        """Return the text, or the two texts, of every row of a file; refuses what `predict` refuses."""
        task = self._task(self.label or "label", None)
        arguments.refuse(arguments.data_file("file", file))
        rows = read_texts(task, Path(file).expanduser())
        return list(zip(*(rows[field][:] for field in task.text_fields), strict=True))

    def evaluate(
        self, file: str | Path, metrics: Sequence[str] | None = None, *, each_class: bool = False
    ) -> dict[str, Any]:
        """Compute metrics on a labelled file.

        Args:
            file: a .csv, .tsv, .jsonl or .parquet file with labels.
            metrics: their names; by default all of the run's task.
            each_class: add `classes` and `confusion`, see `rkd.metrics.by_class.ByClass`, unless labels are scores.

        Returns:
            The metrics by name, and the number of `rows`.
        """
        arguments.refuse(arguments.data_file("file", file))
        if self.label is None:
            raise arguments.ArgumentError(arguments.NO_LABEL)
        task = self._task(self.label, metrics or self.metrics)
        z, split = self._logits(task, read_split(task, "validation", {"path": str(file)}, None), file)
        decided, labels = evaluation.decide(task, z), split.labels.numpy()
        classes = {}
        if each_class and not task.regression:
            classes = by_class(task.labels, decided, labels, multi_label=task.multi_label).as_dict()
        return {**compute(task, decided, labels), "rows": len(split), **classes}

    def _task(self, label: str | Sequence[str], metrics: Sequence[str] | None) -> Task:
        entry: dict[str, Any] = {"train": "model", "text": self.text}
        entry["label"] = label if isinstance(label, str) else list(label)
        entry |= {"labels": self.labels} if self.labels else {"scores": "any"}
        entry |= {} if self.separator is None else {"multi_label": True, "label_separator": self.separator}
        entry |= {"metrics": list(metrics)} if metrics else {}
        return get("data", define(arguments.task_entry("data", entry)))

    @without_bars()
    def _logits(self, task: Task, rows: Dataset, file: str | Path) -> tuple[torch.Tensor, Split]:
        warn_about_blank_texts({str(file): rows}, task.text_fields)
        encoded = encode({str(file): rows}, self.tokenizer, task.text_fields, self.max_length)
        split = Split(encoded[str(file)], self.tokenizer.pad_token_id)
        return evaluation.predict(self.model.to(self.device), split, self.device), split


def _of_sets(separator: str | None, label: str | Sequence[str] | None) -> Iterator[arguments.Wrong]:
    """Yield what a model with one label per text cannot be asked with."""
    one = "the model gives one label per text"
    if separator is not None:
        yield arguments.Wrong("label_separator", f"found {separator!r}; expected none: {one}")
    if label is not None and not isinstance(label, str):
        yield arguments.Wrong("label", f"found {list(label)}; expected one column: {one}")


def write_table(frame: pd.DataFrame, path: Path, source: Path | None = None) -> None:
    """Write a table atomically, in the format of the file extension; see `rkd.data.reading.write_columns`.

    Args:
        frame: predictions.
        path: the file.
        source: the file whose columns were kept. From Parquet to Parquet these keep their types and bytes.
    """
    if source is not None and source.suffix.lower() == path.suffix.lower() == ".parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(source.expanduser())
        for name in frame.columns[table.num_columns :]:
            table = table.append_column(str(name), pyarrow.array(frame[name].tolist()))
        with atomic_path(path) as temporary:
            pyarrow.parquet.write_table(table, temporary)
        return
    write_columns(path, columns_of(frame))


def columns_of(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the values of a table by column."""
    return {str(name): frame[name].tolist() for name in frame}
