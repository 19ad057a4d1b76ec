"""A trained student as a folder for others: the model, its tokenizer, a model card and, if asked for, ONNX."""

import json
import logging
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

import rkd
from rkd.config import arguments
from rkd.errors import RkdError
from rkd.models import loading
from rkd.models.files import read_object
from rkd.models.tokenizer import load_tokenizer
from rkd.models.unpadded import accepted
from rkd.runs.manifest import read_manifest
from rkd.runs.record import read_record
from rkd.runs.result import Result, read_result
from rkd.runs.task import task_of
from rkd.tasks import Task
from rkd.utils.escape import markdown, markdown_code, one_line
from rkd.utils.files import atomic_path, atomic_write_text, sha256

# Largest difference of a logit between torch and ONNX: float32 sums in another order.
TOLERANCE = 1e-3

# A pipeline cuts texts only if it is told to: others get an answer that the run never gave, or none.
_USE = """from transformers import pipeline

classify = pipeline("text-classification", model={folder}, truncation=True)
print(classify({example}))
"""
_CARD = """---
{header}
---

# {name}

{summary}

```python
{use}```

## Data

{data}

## Method

{method}

## Metrics

{metrics}

## Limits

{limits}
"""


def export(run: str | Path, out: str | Path, *, onnx: bool = False) -> Path:
    """Write the student of a finished run as a folder that `transformers.pipeline` opens.

    With `truncation=True`, as its model card shows, the pipeline cuts texts where the training did and answers as
    `rkd predict` does.

    Args:
        run: a run's folder, with run.json and model/.
        out: the folder to write: a new or empty one, or an earlier export of the same run. What is there and would be
            lost, such as a model card edited by hand or the export of another run, is never replaced.
        onnx: write onnx/model.onnx too, and check that it gives the same logits (needs rkd's extra `onnx`).

    Returns:
        The path of the folder.

    Raises:
        RkdError: no finished run is there, or a part of it is damaged or changed; `out` holds what would be lost,
            lies in the run or cannot be written; or the ONNX model's logits differ.

    Example:
        >>> export("distilled/student", "my-student")
        PosixPath('my-student')
    """
    arguments.check_export(run, out)
    run, out = Path(run), Path(out)
    result = read_result(run)
    _check_model(run)
    with atomic_path(out) as folder:
        shutil.copytree(run / "model", folder, ignore=shutil.ignore_patterns(".*"))
        atomic_write_text(folder / "README.md", model_card(result, out.name))
        if onnx:
            write_onnx(folder, folder / "onnx" / "model.onnx")
        _check_kept(out, folder)
    return out


def _check_model(run: Path) -> None:
    """Refuse a run whose model is damaged or cannot read its own data."""
    file = run / "run.json"
    task = task_of(read_record(file, "spec")["spec"], file)
    model, tokenizer = loading.load_finetuned(run / "model"), load_tokenizer(run / "model")
    length = tokenizer.model_max_length
    loading.check_reading(model, tokenizer, where=str(run / "model"), max_length=length, pair=task.pair)


def _check_kept(out: Path, new: Path) -> None:
    """Refuse to replace a folder with anything in it that the new one does not have, byte for byte."""
    for path in sorted(out.rglob("*")) if out.is_dir() else ():
        ours = new / path.relative_to(out)
        if not _same(path, ours):
            found = f"{path.relative_to(out)}, which the new export {'changes' if ours.exists() else 'does not have'}"
            expected = "a new or empty folder, or an unchanged export of this run"
            raise RkdError(f"{out}: found {found}; expected {expected}")


def _same(one: Path, other: Path) -> bool:
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir()
    return one.is_file() and other.is_file() and sha256(one) == sha256(other)


def model_card(result: Result, name: str) -> str:
    """Return the model card of a student: data, method, metrics and limits, all from the run's own record.

    Names of the user's, of labels, columns and files, are set as Markdown shows them as they are.
    """
    file = result.folder / "run.json"
    record = read_record(file, "spec/training/selection", "data/source", "data/sha256", "parameters/total")
    spec = record["spec"]
    task = task_of(spec, file)
    manifest = _manifest(result.folder, spec["task"], record["data"]["sha256"])
    header = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["knowledge-distillation", "rkd"],
        metrics=list(task.metrics),
    )
    kind = "scores" if task.regression else f"classifies ({markdown(', '.join(task.labels))})"
    what = "pairs of texts" if task.pair else "texts"
    millions = record["parameters"]["total"] / 1e6
    example = '{"text": "…", "text_pair": "…"}' if task.pair else '"…"'
    return _CARD.format(
        header=header.to_yaml(),
        name=markdown(name),
        summary=f"A model of {millions:.1f} million parameters that {kind} {what}. Trained by rkd {rkd.__version__}.",
        use=_USE.format(folder=json.dumps(one_line(name), ensure_ascii=False), example=example),
        data="\n".join(_data(task, record, manifest)),
        method="\n".join(_method(spec)),
        metrics="\n".join(_metrics(result, task)),
        limits="\n".join(_limits(result.folder, spec, manifest)),
    )


def _manifest(run: Path, task: str, sha256: str) -> dict[str, Any]:
    """Return the manifest of a run's data; empty if the data are gone or were replaced."""
    for folder in (run.parent / "data", *(parent / "data" / task for parent in run.absolute().parents[:4])):
        if (file := folder / "manifest.json").is_file():
            found = read_manifest(file)
            return found if (found["task"], found["sha256"]) == (task, sha256) else {}
    return {}


def _data(task: Task, record: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    source = record["data"]
    title = markdown(task.title) if task.own else f"GLUE {task.title}"
    what = "made-up sentences" if manifest.get("synthetic") else f"source: {markdown(str(source['source']))}"
    yield f"- {title}, {what}"
    columns = ", ".join(map(markdown_code, task.text_columns))
    yield f"- Columns: text {columns}; label {markdown_code(task.label_column or '–')}"
    for split, found in manifest.get("splits", {}).items():
        yield f"- {split}: {found['rows']} rows"
    own = manifest.get("custom_task", {})
    if "dev_fraction" in own:
        yield f"- validation: {own['dev_fraction']:.4g} of the training rows, chosen with seed {own['dev_seed']}"
    yield f"- SHA-256 of the prepared data: {source['sha256']}"


def _method(spec: Mapping[str, Any]) -> Iterator[str]:
    model = Path(spec["model"]["source"]).name
    yield f"{markdown_code(spec['method'])}, seed {spec['seed']}, from {markdown_code(model)}."
    yield ""
    yield "| setting | value |"
    yield "|---|---|"
    for key, value in {**spec["training"], **spec["options"]}.items():
        yield f"| {markdown(key)} | {markdown(str(value))} |"


def _metrics(result: Result, task: Task) -> Iterator[str]:
    yield f"| split | rows | {' | '.join(task.metrics)} |"
    yield f"|---|---|{'---|' * len(task.metrics)}"
    for split, found in result.metrics["splits"].items():
        yield f"| {split} | {found['rows']} | {' | '.join(_score(found[name]) for name in task.metrics)} |"
    if "teacher" in result.metrics:
        yield ""
        teacher, student = (_score(result.metrics[key]) for key in ("teacher", "primary_score"))
        what = " and ".join(task.primary_metrics)
        yield f"The teacher's {what} before the student's training: {teacher}; the student's: {student}."


def _score(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _limits(run: Path, spec: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "- One seed: another gives another score, and a difference of a few points between two runs is no evidence."
    if spec["training"]["selection"] == "best":
        yield "- The epoch was chosen on the validation split, which makes the scores on it optimistic."
    if "max_length" in manifest:
        settings = read_object(run / "model" / "tokenizer_config.json", "the tokenizer's settings")
        side = "start" if settings.get("truncation_side") == "left" else "end"
        limit = f"{manifest['max_length']} tokens, by a pipeline only with `truncation=True`"
        yield f"- Texts are cut at their {side} to {limit}."
    if manifest.get("synthetic"):
        yield "- Trained on made-up sentences: it is of no use on real ones."
    yield "- Measured on data like the training data alone; nothing was checked about other texts, fairness or safety."
    yield "- What the teacher and the pretrained models got wrong, the student may have learnt."


def write_onnx(folder: Path, out: Path) -> float:
    """Write the model in `folder` as ONNX and check it with onnxruntime; returns the largest difference of a logit.

    Batch and length may be any. Raises RkdError when the extra is not installed, or the logits differ.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # the exporter imports it much later, with an error that helps nobody
    except ImportError as error:
        raise RkdError(f"--onnx needs what is not installed ({error.name}): pip install -e '.[onnx]'") from None
    model, tokenizer = loading.load_finetuned(folder).eval(), load_tokenizer(folder)
    # The fused kernels of PyTorch have no fixed form in ONNX.
    model.set_attn_implementation("eager")
    samples = [["A first sentence."], ["Short.", "A second one, which is a good deal longer than the first."]]
    inputs = [dict(tokenizer(texts, padding=True, truncation=True, return_tensors="pt")) for texts in samples]
    names = list(accepted(model, inputs[-1]))
    out.parent.mkdir(parents=True, exist_ok=True)
    dynamic = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in names}
    with _quiet_exporter():
        torch.onnx.export(
            _Logits(model, names).eval(),
            (),
            str(out),
            kwargs={"inputs": accepted(model, inputs[-1])},
            dynamic_shapes={"inputs": dynamic},
            input_names=names,
            output_names=["logits"],
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    worst = 0.0
    for each in inputs:
        with torch.no_grad():
            expected = model(**accepted(model, each)).logits
        (found,) = session.run(["logits"], {name: each[name].numpy() for name in names})
        worst = max(worst, float((torch.from_numpy(found) - expected).abs().max()))
    if not worst <= TOLERANCE:
        raise RkdError(
            f"{out}: its logits differ from the model's by up to {worst:.2g}; expected at most {TOLERANCE:g}"
        )
    return worst


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence warnings of torch's exporter that do not matter here: image operators, old names."""
    exporter = logging.getLogger("torch.onnx")
    before = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        exporter.setLevel(before)


class _Logits(torch.nn.Module):
    """The model as a function from named inputs to logits."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.model(**{name: inputs[name] for name in self.names}).logits
        return logits
