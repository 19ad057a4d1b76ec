"""predictions.parquet, the answers of a run, and logits.parquet beside it, which is large with many classes."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow

from rkd.errors import RkdError

PREDICTIONS, LOGITS = "predictions.parquet", "logits.parquet"
ANSWERS = ("split", "idx", "label", "prediction")


def read_predictions(file: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a predictions.parquet.

    Args:
        file: its path.
        columns: those to read; by default all, with the logits in logits.parquet beside the file if that is there.

    Returns:
        A row per example: split (text), idx, label and prediction (numbers), and a number per logit.

    Raises:
        RkdError: a file is missing or damaged, or a column is missing or of another type.
    """
    answers = _read(file, ANSWERS if columns is None else columns, None if columns is None else columns)
    beside = Path(file).with_name(LOGITS)
    if columns is not None or not beside.is_file() or any(str(name).startswith("logit_") for name in answers):
        return answers  # records of earlier versions have logits in the same file
    z = _read(beside, ("split", "idx"), None)
    if not z[["split", "idx"]].equals(answers[["split", "idx"]]):
        raise RkdError(f"{beside}: found other examples; expected those of {Path(file).name}, in the same order")
    return pd.concat([answers, z.drop(columns=["split", "idx"])], axis="columns")


def write_predictions(frame: pd.DataFrame, folder: Path) -> None:
    """Write predictions.parquet and logits.parquet into a folder.

    Args:
        frame: as `read_predictions` returns it.
        folder: where to write.
    """
    frame[[*ANSWERS]].to_parquet(folder / PREDICTIONS, index=False)
    frame.drop(columns=["label", "prediction"]).to_parquet(folder / LOGITS, index=False)


def _read(file: str | Path, expected: Sequence[str], columns: Sequence[str] | None) -> pd.DataFrame:
    if not Path(file).is_file():
        raise RkdError(f"{file}: cannot be read as predictions: no such file")
    try:
        frame = pd.read_parquet(file, columns=None if columns is None else list(columns))
        splits = [] if "split" not in frame else list(frame["split"].unique())  # damaged text shows only now
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise RkdError(f"{file}: cannot be read as predictions: {reason}") from None
    for name in expected:
        if name not in frame:
            raise RkdError(f"{file}: no column '{name}'; found {', '.join(map(str, frame.columns))}")
    for name in map(str, frame.columns):
        if name == "split":
            right = all(isinstance(value, str) for value in splits)
        else:
            right = pd.api.types.is_numeric_dtype(frame[name])
        if not right:
            kind = "text" if name == "split" else "numbers"
            raise RkdError(f"{file}: column '{name}': found {frame[name].dtype}; expected {kind}")
    return frame
