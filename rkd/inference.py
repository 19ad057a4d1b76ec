"""Predictions and scores of a trained model on a file, outside the workflow."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset

from rkd import config, evaluation, metrics, model_source, models, runtime
from rkd.batching import Split
from rkd.data.files import read_split, read_texts
from rkd.data.prepare import encode
from rkd.errors import RkdError
from rkd.labels import check_names
from rkd.tasks import Task, define, get
from rkd.tokenizer import load_tokenizer

# Tokens of the longest text that a model without a limit reads.
LONGEST = 1 << 20


class Classifier:
    """A trained model with its tokenizer, ready to read files.

    Args:
        reference: a run's folder, an export, another folder of a fine-tuned classifier, or a hub name.
        text: the text columns; by default those that the run was trained on.
        label: the label column; by default the run's.
        device: auto, cpu or cuda.

    Example:
        >>> Classifier("distilled/student").predict("new.csv")["prediction"].tolist()
        ['good', 'bad']
    """

    def __init__(
        self, reference: str, text: Sequence[str] | None = None, label: str | None = None, device: str = "auto"
    ) -> None:
        run = _run_of(Path(reference))
        known = run.get("own_task") or {}
        inside = Path(reference) / "model"
        source = model_source.parse(str(inside) if (inside / "config.json").is_file() else reference)
        where, hub = str(source.path() or source.location), source.kind == "hub"
        self.model: Any = models.load_finetuned(where, hub=hub)
        self.tokenizer = load_tokenizer(where)
        self.text = list(text or known.get("text") or ())
        if not 1 <= len(self.text) <= 2:
            raise RkdError(
                f"text: found {self.text or 'no column'}, expected one or two columns that {reference} reads"
            )
        # No longer text than the model has positions for, nor than it was trained on.
        self.max_length = min(models.positions_of(self.model) or LONGEST, self.tokenizer.model_max_length, LONGEST)
        models.check_reading(
            self.model, self.tokenizer, where=reference, max_length=self.max_length, pair=len(self.text) == 2
        )
        self.label = label or known.get("label")
        self.device = runtime.choose_device(device)
        names = [str(name) for _, name in sorted((self.model.config.id2label or {}).items())]
        check_names(f"{reference}: its labels", names)
        self.labels = [] if len(names) == 1 else names

    def predict(self, file: str | Path) -> pd.DataFrame:
        """A row per row of the file: prediction, and for labels the probability of each, `p_LABEL`."""
        task = self._task(self.label or "label", None)
        frame = pd.DataFrame({"prediction": []})
        z = self._logits(task, read_texts(task, Path(file).expanduser()))[0]
        decided = evaluation.decide(task, z)
        if task.regression:
            return frame.reindex(range(len(decided))).assign(prediction=decided)
        shares = z.double().softmax(dim=-1).numpy()
        columns = {f"p_{name}": shares[:, index] for index, name in enumerate(task.labels)}
        return pd.DataFrame({"prediction": [task.labels[int(index)] for index in decided], **columns})

    def evaluate(self, file: str | Path, scored_by: Sequence[str] | None = None) -> dict[str, Any]:
        """The metrics on a labelled file, and `rows`."""
        if self.label is None:
            raise RkdError("label: found no column, expected the one that holds the labels")
        task = self._task(self.label, scored_by)
        z, split = self._logits(task, read_split(task, "validation", {"path": str(file)}, None))
        return {**metrics.compute(task, evaluation.decide(task, z), split.labels.numpy()), "rows": len(split)}

    def _task(self, label: str, scored_by: Sequence[str] | None) -> Task:
        entry: dict[str, Any] = {"train": "model", "text": self.text, "label": label}
        entry |= {"labels": self.labels} if self.labels else {"scores": "any"}
        entry |= {"metrics": list(scored_by)} if scored_by else {}
        return get("data", define(config.checked_task("data", entry, files=False)))

    def _logits(self, task: Task, rows: Dataset) -> tuple[torch.Tensor, Split]:
        encoded = encode(rows, self.tokenizer, task.text_fields, self.max_length)
        split = Split(encoded, self.tokenizer.pad_token_id)
        return evaluation.predict(self.model.to(self.device), split, self.device), split


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table in the format that its name tells: .csv, .tsv, .jsonl or .parquet."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    elif path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    else:
        raise RkdError(f"{path}: found the ending '{path.suffix}', expected one of .csv, .tsv, .jsonl, .parquet")


def _run_of(folder: Path) -> dict[str, Any]:
    """The spec of the run that a folder is, or whose model/ it is; empty where there is none."""
    for file in (folder / "run.json", folder.absolute().parent / "run.json"):
        if file.is_file():
            spec: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["spec"]
            return spec
    return {}
