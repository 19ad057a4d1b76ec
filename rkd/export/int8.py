"""An ONNX model with weights in int8, and what that costs on dev."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from rkd.errors import RkdError
from rkd.metrics.scores import compute
from rkd.tasks import Task, primary_score

# Below this agreement with the float model the int8 model is another classifier.
LEAST_AGREEMENT = 0.9
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Quantized:
    """An int8 model beside the float model that it was made from, on the same dev rows.

    Attributes:
        score, float_score: primary scores, as fractions.
        agreement: the fraction of rows with the same prediction, or for scores the correlation of the predictions.
        megabytes, float_megabytes: sizes of the files, in 10⁶ bytes.
    """

    score: float
    float_score: float
    agreement: float
    megabytes: float
    float_megabytes: float


def quantize(model: Path, out: Path) -> None:
    """Write an ONNX model with its matrices in int8 (dynamic quantisation of onnxruntime).

    Weights are quantised per column and to 7 bits, so that processors without VNNI do not saturate.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(model, out, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)


def compared(
    model: Path, float_model: Path, task: Task, tokenizer: PreTrainedTokenizerBase, rows: Any, logits: NDArray[Any]
) -> Quantized:
    """Compare an int8 model with the float one on dev rows.

    Args:
        model, float_model: the ONNX files.
        task: the task.
        tokenizer: that of the model.
        rows: the dev rows, with tokens and labels; see `rkd.export.data.dev_rows`.
        logits: the float model's logits of these rows, shape (rows, classes).

    Raises:
        RkdError: the models agree on fewer rows than `LEAST_AGREEMENT`.
    """
    labels = np.asarray(rows["label"][:], dtype=np.float64)
    ours, theirs = _decided(task, _logits(model, tokenizer, rows)), _decided(task, logits)
    if task.regression:
        agreement = float(np.corrcoef(ours, theirs)[0, 1]) if np.ptp(ours) and np.ptp(theirs) else 0.0
    else:
        agreement = float(np.mean(ours == theirs))
    if not agreement >= LEAST_AGREEMENT:
        what = "a correlation with its scores" if task.regression else "agreement with its predictions"
        raise RkdError(
            f"--quantize: the int8 model falls apart: found {what} of {agreement:.3f} on {task.primary_split}; "
            f"expected at least {LEAST_AGREEMENT}: export without --quantize"
        )
    scores = [primary_score(task, compute(task, found, labels)) for found in (ours, theirs)]
    sizes = [file.stat().st_size / 1e6 for file in (model, float_model)]
    return Quantized(scores[0], scores[1], agreement, sizes[0], sizes[1])


def _decided(task: Task, z: NDArray[Any]) -> NDArray[np.float64]:
    if task.multi_label:
        return ((z > 0) @ (1 << np.arange(z.shape[1]))).astype(np.float64)
    return (z[:, 0] if task.regression else z.argmax(axis=1)).astype(np.float64)


def _logits(model: Path, tokenizer: PreTrainedTokenizerBase, rows: Any) -> NDArray[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    columns = [name for name in rows.column_names if name in tokenizer.model_input_names]
    parts = []
    for start in range(0, len(rows), _BATCH_SIZE):
        batch = rows[start : start + _BATCH_SIZE]
        padded = tokenizer.pad({name: batch[name] for name in columns}, return_tensors="np")
        (found,) = session.run(["logits"], {name: np.asarray(padded[name], dtype=np.int64) for name in names})
        parts.append(found)
    return np.concatenate(parts)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice of onnxruntime's quantiser in a block."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
