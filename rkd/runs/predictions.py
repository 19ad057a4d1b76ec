"""predictions.parquet, the answers of a run."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow

from rkd.errors import RkdError


def read_predictions(file: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a predictions.parquet.

    Args:
        file: its path.
        columns: those to read; all by default.

    Returns:
        A row per example: split (text), idx, label and prediction (numbers), and a number per logit.

    Raises:
        RkdError: the file is missing or damaged, or a column is missing or of another type.
    """
    expected = ("split", "idx", "label", "prediction")
    if not Path(file).is_file():
        raise RkdError(f"{file}: cannot be read as predictions: no such file")
    try:
        frame = pd.read_parquet(file, columns=None if columns is None else list(columns))
        splits = [] if "split" not in frame else list(frame["split"].unique())  # damaged text shows only now
    except (OSError, ValueError, TypeError, KeyError, pyarrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise RkdError(f"{file}: cannot be read as predictions: {reason}") from None
    for name in expected if columns is None else columns:
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
