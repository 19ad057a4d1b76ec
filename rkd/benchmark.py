"""Size and speed of trained models on a file's texts, side by side on this machine."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rkd.config import arguments
from rkd.data.prepare import without_bars
from rkd.errors import RkdError
from rkd.inference import Classifier
from rkd.models.loading import count_parameters
from rkd.models.unpadded import accepted
from rkd.runs.record import spec_of

WARM_UP = 3


@dataclass(frozen=True)
class Speed:
    """The size and speed of a model.

    Attributes:
        model: the reference as given, with " (onnx)" or " (int8)" for such a form of an export.
        parameters: the number of parameters.
        megabytes: size of the weights on disk, in 10⁶ bytes.
        latency_ms: median time of one text, in milliseconds.
        throughput: texts per second in batches.
    """

    model: str
    parameters: int
    megabytes: float
    latency_ms: float
    throughput: float


@without_bars()
def benchmark(
    models: Sequence[str | Path],
    file: str | Path,
    text: str | Sequence[str] | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = 32,
    rounds: int = 30,
    seed: int = 0,
) -> list[Speed]:
    """Measure models in turn on the same texts, drawn at random from a file.

    The timed part is what a service does for a text: tokenisation, padding to the longest text of the batch, and the
    model's forward pass. All models see the same texts, one after the other in each round, so that a slow spell of the
    machine affects all of them. An export with ONNX files is measured in each of its forms.

    Args:
        models: references as of `rkd.inference.Classifier`.
        file: a .csv, .tsv, .jsonl or .parquet file with texts.
        text: the text column or the two; by default those of the first model's run.
        device: auto, cpu or cuda; ONNX forms run on the CPU.
        threads: CPU threads; torch's own number by default.
        batch_size: texts of a batch.
        rounds: timed repetitions, after `WARM_UP` that are not counted.
        seed: decides the texts.

    Returns:
        One `Speed` per model and form, in the order of the models.

    Raises:
        RkdError: an argument is invalid, a model does not load, or the file has no rows.

    Example:
        >>> [one.latency_ms for one in benchmark(["distilled/teacher", "distilled/student"], "reviews.csv")]
        [9.8, 4.1]
    """
    if threads is not None:
        torch.set_num_threads(threads)
    columns = text or (spec_of(models[0]).get("custom_task") or {}).get("text")
    for reference in models:
        try:
            arguments.check_classifier(reference, columns, device=device, file=file)
        except arguments.ArgumentError as error:
            problems = (
                each._replace(argument="models") if each.argument == "reference" else each for each in error.problems
            )
            raise arguments.ArgumentError(*problems) from None
    classifiers = [Classifier(reference, columns, device=device) for reference in models]
    rows = classifiers[0].texts(file)
    forms = [
        form
        for reference, one in zip(models, classifiers, strict=True)
        for form in _forms(reference, one, threads or torch.get_num_threads())
    ]
    draw = np.random.default_rng(seed)
    times: dict[int, list[list[float]]] = {size: [[] for _ in forms] for size in (1, batch_size)}
    for number in range(WARM_UP + rounds):
        for size, found in times.items():
            chosen = [rows[row] for row in draw.integers(len(rows), size=size)]
            for one, seconds in zip(forms, found, strict=True):
                elapsed = _timed(partial(one.run, chosen), one.classifier.device)
                if number >= WARM_UP:
                    seconds.append(elapsed)
    return [
        Speed(
            one.name,
            count_parameters(one.classifier.model)["total"],
            sum(file.stat().st_size for file in one.files) / 1e6,
            1e3 * statistics.median(times[1][index]),
            batch_size / statistics.median(times[batch_size][index]),
        )
        for index, one in enumerate(forms)
    ]


@dataclass(frozen=True)
class _Form:
    """A model in one of the forms that it is stored in; `run` answers texts."""

    name: str
    classifier: Classifier
    files: Sequence[Path]
    run: Callable[[Sequence[tuple[str, ...]]], Any]


def _forms(reference: str | Path, one: Classifier, threads: int) -> Iterator[_Form]:
    one.model.to(one.device).eval()
    weights = [*one.folder.glob("*.safetensors")] or [*one.folder.glob("*.bin")]
    yield _Form(str(reference), one, weights, partial(_forward, one))
    for file, kind in (("model.onnx", "onnx"), ("model-int8.onnx", "int8")):
        if (path := one.folder / "onnx" / file).is_file():
            yield _Form(f"{reference} ({kind})", one, [path], partial(_onnx, one, _session(path, threads)))


def _inputs(one: Classifier, texts: Sequence[tuple[str, ...]]) -> dict[str, torch.Tensor]:
    columns = [list(column) for column in zip(*texts, strict=True)]
    return accepted(
        one.model,
        dict(one.tokenizer(*columns, padding=True, truncation=True, max_length=one.max_length, return_tensors="pt")),
    )


@torch.inference_mode()
def _forward(one: Classifier, texts: Sequence[tuple[str, ...]]) -> Any:
    inputs = {name: tensor.to(one.device) for name, tensor in _inputs(one, texts).items()}
    return one.model(**inputs).logits


def _onnx(one: Classifier, session: Any, texts: Sequence[tuple[str, ...]]) -> Any:
    inputs = _inputs(one, texts)
    return session.run(["logits"], {each.name: inputs[each.name].numpy() for each in session.get_inputs()})


def _session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RkdError(f"{path}: needs a missing package (onnxruntime): pip install -e '.[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
