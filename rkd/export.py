"""Export of a trained student to a folder: model, tokenizer, model card and, on request, ONNX."""

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
from rkd.metrics.by_class import by_class
from rkd.metrics.facts import METRICS, MOST_CLASSES
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

# Largest difference of a logit between torch and ONNX: float32 sums depend on the order.
TOLERANCE = 1e-3

# Without truncation=True a pipeline does not truncate: long texts get other answers than from the run, or fail.
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

    With `truncation=True`, as its model card shows, the pipeline truncates texts as the training did and gives
    the same answers as `rkd predict`.

    Args:
        run: a run's folder, with run.json and model/.
        out: the folder to write: a new or empty one, or an unchanged export of the same run. Anything else, such as an
            edited model card or the export of another run, is never overwritten.
        onnx: write onnx/model.onnx as well, and check that it gives the same logits (needs rkd's extra `onnx`).

    Returns:
        The path of the folder.

    Raises:
        RkdError: the run is missing, unfinished, damaged or changed; `out` has other content, lies in the run's folder
            or cannot be written; or the ONNX model's logits differ.

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
    """Check that a run's model loads and can read its own data."""
    file = run / "run.json"
    task = task_of(read_record(file, "spec")["spec"], file)
    model, tokenizer = loading.load_finetuned(run / "model"), load_tokenizer(run / "model")
    length = tokenizer.model_max_length
    loading.check_reading(model, tokenizer, where=str(run / "model"), max_length=length, pair=task.pair)


def _check_kept(out: Path, new: Path) -> None:
    """Check that the new folder has every file of the existing one, byte for byte."""
    for path in sorted(out.rglob("*")) if out.is_dir() else ():
        counterpart = new / path.relative_to(out)
        if not _same(path, counterpart):
            difference = "changes" if counterpart.exists() else "does not have"
            found = f"{path.relative_to(out)}, which the new export {difference}"
            expected = "a new or empty folder, or an unchanged export of this run"
            raise RkdError(f"{out}: found {found}; expected {expected}")


def _same(one: Path, other: Path) -> bool:
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir()
    return one.is_file() and other.is_file() and sha256(one) == sha256(other)


def model_card(result: Result, name: str) -> str:
    """Write the model card of a student: summary, data, method, metrics and limits, all from the run's record.

    The user's names of labels, columns and files are escaped for Markdown.
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
    what = "synthetic sentences" if manifest.get("synthetic") else f"source: {markdown(str(source['source']))}"
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
    titles = [METRICS[name].title for name in task.metrics]
    yield f"| split | rows | {' | '.join(titles)} |"
    yield f"|---|---|{'---|' * len(task.metrics)}"
    for split, found in result.metrics["splits"].items():
        yield f"| {split} | {found['rows']} | {' | '.join(_score(found[name]) for name in task.metrics)} |"
    if "teacher" in result.metrics:
        yield ""
        teacher, student = (_score(result.metrics[key]) for key in ("teacher", "primary_score"))
        titles = [METRICS[name].title for name in task.primary_metrics]
        what = titles[0] if len(titles) == 1 else f"Mean of {' and '.join(titles)}"
        yield f"{what} on {task.primary_split}: teacher {teacher} (before the student's training), student {student}."
    yield from _each_class(result, task)


def _each_class(result: Result, task: Task) -> Iterator[str]:
    if task.regression or len(task.labels) > MOST_CLASSES:
        return
    rows = result.predictions[result.predictions["split"] == task.primary_split]
    ids = {name: index for index, name in enumerate(task.labels)}
    found = by_class(task.labels, *(rows[column].map(ids) for column in ("prediction", "label")))
    yield ""
    yield f"Each class on {task.primary_split}:"
    yield ""
    yield "| class | rows | precision | recall | F1 |"
    yield "|---|---|---|---|---|"
    for one in found.classes:
        scores = " | ".join(_score(value) for value in (one.precision, one.recall, one.f1))
        yield f"| {markdown(one.label)} | {one.support} | {scores} |"


def _score(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def _limits(run: Path, spec: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "- One seed: other seeds give other scores; a difference of a few points between two runs is not evidence."
    if spec["training"]["selection"] == "best":
        yield "- The epoch was chosen on the validation split, which makes the scores on it optimistic."
    if "max_length" in manifest:
        settings = read_object(run / "model" / "tokenizer_config.json", "the tokenizer's settings")
        side = "start" if settings.get("truncation_side") == "left" else "end"
        limit = f"{manifest['max_length']} tokens, by a pipeline only with `truncation=True`"
        yield f"- Texts are truncated at their {side} to {limit}."
    if manifest.get("synthetic"):
        yield "- Trained on synthetic sentences: the model is not usable on real ones."
    yield "- Evaluated only on data like the training data; other texts, fairness and safety were not evaluated."
    yield "- The student may have learnt the errors of the teacher and of the pretrained models."


def write_onnx(folder: Path, out: Path) -> float:
    """Write the model in `folder` as ONNX, check it with onnxruntime, and return the largest difference of a logit.

    Batch size and length are dynamic. Raises RkdError if the extra is not installed or the logits differ.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # fail early: the exporter imports it late, with an unclear error
    except ImportError as error:
        raise RkdError(f"--onnx needs a missing package ({error.name}): pip install -e '.[onnx]'") from None
    model, tokenizer = loading.load_finetuned(folder).eval(), load_tokenizer(folder)
    # Fused attention kernels of PyTorch cannot be exported reliably to ONNX.
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
    """Silence irrelevant messages of torch's exporter in a block: image operators, deprecated names."""
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
    """A model as a function from named inputs to logits."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.model(**{name: inputs[name] for name in self.names}).logits
        return logits
