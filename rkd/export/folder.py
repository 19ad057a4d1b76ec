"""Export of a trained student to a folder."""

import shutil
from pathlib import Path

from rkd.config import arguments
from rkd.errors import RkdError
from rkd.export.card import model_card
from rkd.export.data import dev_rows
from rkd.export.int8 import Quantized, compared
from rkd.export.int8 import quantize as quantize_onnx
from rkd.export.onnx import write_onnx
from rkd.models import loading
from rkd.models.tokenizer import load_tokenizer
from rkd.runs.record import read_record
from rkd.runs.result import Result, read_result
from rkd.runs.task import task_of
from rkd.utils.files import atomic_path, atomic_write_text, sha256


def export(run: str | Path, out: str | Path, *, onnx: bool = False, quantize: bool = False) -> Path:
    """Write the student of a finished run as a folder that `transformers.pipeline` opens.

    With `truncation=True`, as its model card shows, the pipeline truncates texts as the training did and gives
    the same answers as `rkd predict`.

    Args:
        run: a run's folder, with run.json and model/.
        out: the folder to write: a new or empty one, or an unchanged export of the same run. Anything else, such as an
            edited model card or the export of another run, is never overwritten.
        onnx: write onnx/model.onnx as well, and check that it gives the same logits (needs rkd's extra `onnx`).
        quantize: write onnx/model-int8.onnx, too, with its dev score in the model card.

    Returns:
        The path of the folder.

    Raises:
        RkdError: the run is missing, unfinished, damaged or changed; `out` has other content, lies in the run's folder
            or cannot be written; the ONNX model's logits differ; or the int8 model falls apart, or the run's data, on
            which it is scored, are gone.

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
        if onnx or quantize:
            write_onnx(folder, folder / "onnx" / "model.onnx")
        int8 = _quantized(result, folder) if quantize else None
        atomic_write_text(folder / "README.md", model_card(result, out.name, int8))
        _check_kept(out, folder)
    return out


def _quantized(result: Result, folder: Path) -> Quantized:
    """Write the int8 model of an export and compare it with the float one on the run's dev rows."""
    file = result.folder / "run.json"
    record = read_record(file, "spec", "data/sha256")
    task = task_of(record["spec"], file)
    own = record["spec"]["options"].get("student_tokenizer") == "own"
    rows = dev_rows(result.folder, task.name, record["data"]["sha256"], task.primary_split, own_tokens=own)
    known = result.predictions
    known = known[known["split"] == task.primary_split].set_index("idx").loc[rows["idx"][:]]
    logits = known[[name for name in known.columns if name.startswith("logit_")]].to_numpy()
    float_model, model = folder / "onnx" / "model.onnx", folder / "onnx" / "model-int8.onnx"
    quantize_onnx(float_model, model)
    return compared(model, float_model, task, load_tokenizer(folder), rows, logits)


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
