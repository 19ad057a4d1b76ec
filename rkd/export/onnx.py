"""ONNX forms of a model: float32 with the same logits, and int8."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel

from rkd.errors import RkdError
from rkd.models import loading
from rkd.models.tokenizer import load_tokenizer
from rkd.models.unpadded import accepted

# Largest difference of a logit between torch and ONNX: float32 sums depend on the order.
TOLERANCE = 1e-3


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
