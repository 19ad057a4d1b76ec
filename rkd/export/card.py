"""The model card of a student."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

import rkd
from rkd.export.data import data_of
from rkd.export.int8 import Quantized
from rkd.labels import listed
from rkd.metrics.by_class import by_class
from rkd.metrics.facts import METRICS, MOST_CLASSES
from rkd.models.files import read_object
from rkd.runs.record import read_record
from rkd.runs.result import Result
from rkd.runs.task import task_of
from rkd.tasks import Task, label_value
from rkd.utils.escape import markdown, markdown_code, one_line

# Without truncation=True a pipeline does not truncate: long texts get other answers than from the run, or fail.
_USE = """from transformers import pipeline

classify = pipeline("text-classification", model={folder}, truncation=True)
print(classify({example}))
"""
# Without top_k=None a pipeline gives only the best label. The metrics count labels with a probability above one half.
_USE_SETS = """from transformers import pipeline

classify = pipeline("text-classification", model={folder}, truncation=True, top_k=None)
[scores] = classify([{example}])
print([each["label"] for each in scores if each["score"] > 0.5])
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


def model_card(result: Result, name: str, int8: Quantized | None = None) -> str:
    """Write the model card of a student: summary, data, method, metrics and limits, all from the run's record.

    Args:
        result: the run.
        name: the model's name.
        int8: what its int8 form costs on dev, if there is one.

    The user's names of labels, columns and files are escaped for Markdown.
    """
    file = result.folder / "run.json"
    record = read_record(file, "spec/training/selection", "data/source", "data/sha256", "parameters/total")
    spec = record["spec"]
    task = task_of(spec, file)
    data = data_of(result.folder, spec["task"], record["data"]["sha256"])
    manifest = {} if data is None else data[1]
    header = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["knowledge-distillation", "rkd"],
        metrics=list(task.metrics),
    )
    what = "pairs of texts" if task.pair else "texts"
    millions = record["parameters"]["total"] / 1e6
    example = '{"text": "…", "text_pair": "…"}' if task.pair else '"…"'
    summary = f"A model of {millions:.1f} million parameters that {_answers(task, what)}."
    use = _USE_SETS if task.multi_label else _USE
    return _CARD.format(
        header=header.to_yaml(),
        name=markdown(name),
        summary=f"{summary} Trained by rkd {rkd.__version__}.",
        use=use.format(folder=json.dumps(one_line(name), ensure_ascii=False), example=example),
        data="\n".join(_data(task, record, manifest)),
        method="\n".join(_method(spec)),
        metrics="\n".join([*_metrics(result, task), *_int8(int8, task)]),
        limits="\n".join(_limits(result.folder, spec, manifest)),
    )


def _answers(task: Task, what: str) -> str:
    """Return what the model does with texts, or pairs of texts, as the end of a sentence."""
    if task.regression:
        return f"scores {what}"
    labels = markdown(listed(task.labels))
    if task.multi_label:
        return f"finds the labels of {what}: none, one or several of {labels}"
    return f"classifies {what} ({labels})"


def _data(task: Task, record: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    source = record["data"]
    title = markdown(task.title) if task.own else f"GLUE {task.title}"
    what = "synthetic sentences" if manifest.get("synthetic") else f"source: {markdown(str(source['source']))}"
    yield f"- {title}, {what}"
    columns = ", ".join(map(markdown_code, task.text_columns))
    labels = ", ".join(map(markdown_code, task.label_columns or (task.label_column or "–",)))
    yield f"- Columns: text {columns}; label {labels}"
    for split, found in manifest.get("splits", {}).items():
        yield f"- {split}: {found['rows']} rows"
    if more := manifest.get("unlabelled"):
        yield f"- of train, without a label: {more['rows']} rows"
    if record["spec"]["options"].get("soft_labels"):
        yield "- soft labels from the data in place of a teacher"
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


def _int8(int8: Quantized | None, task: Task) -> Iterator[str]:
    if int8 is None:
        return
    same = "correlation of the scores" if task.regression else "rows with the same prediction"
    yield ""
    yield f"ONNX on {task.primary_split}, float32 and int8 (dynamic quantisation):"
    yield ""
    yield "| file | MB | score |"
    yield "|---|---|---|"
    yield f"| onnx/model.onnx | {int8.float_megabytes:.1f} | {_score(int8.float_score)} |"
    yield f"| onnx/model-int8.onnx | {int8.megabytes:.1f} | {_score(int8.score)} |"
    yield ""
    yield f"{same[0].upper()}{same[1:]}: {int8.agreement:.4f}."


def _each_class(result: Result, task: Task) -> Iterator[str]:
    if task.regression or len(task.labels) > MOST_CLASSES:
        return
    rows = result.predictions[result.predictions["split"] == task.primary_split]
    answers = (rows[column].map(lambda text: label_value(task, text)) for column in ("prediction", "label"))
    found = by_class(task.labels, *answers, multi_label=task.multi_label)
    yield ""
    yield f"Each class on {task.primary_split}:"
    yield ""
    yield "| class | rows | precision | recall | F1 |"
    yield "|---|---|---|---|---|"
    for one in found.classes:
        scores = " | ".join(_score(value) for value in (one.precision, one.recall, one.f1))
        yield f"| {markdown(one.label)} | {one.support} | {scores} |"
    if found.confusion is None:
        return
    yield ""
    yield "Confusion, a row per class and a column per prediction:"
    yield ""
    yield f"| class | {' | '.join(map(markdown, task.labels))} |"
    yield f"|---|{'---|' * len(task.labels)}"
    for label, counts in zip(task.labels, found.confusion.tolist(), strict=True):
        yield f"| {markdown(label)} | {' | '.join(map(str, counts))} |"


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
