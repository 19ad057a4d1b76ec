"""The tables that a distillation is given, as files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from rkd.data.files import text_problem
from rkd.data.reading import chosen_columns
from rkd.distillation.earlier import Earlier
from rkd.errors import RkdError
from rkd.utils.files import atomic_path, sha256

Table = pd.DataFrame | str | os.PathLike[str]

# What `distill` calls the table of a split.
_ARGUMENTS = {"train": "data", "validation": "dev"}


def table_file(
    split: str,
    table: Table,
    folder: Path,
    columns: Sequence[str] | None,
    optional: Sequence[str] = (),
    earlier: Earlier | None = None,
) -> dict[str, str]:
    """Return the file of a table, its digest and its name in errors; a DataFrame is written first.

    Args:
        split: the split, or the argument, that the table is.
        table: the table.
        folder: where a DataFrame is written.
        columns: those that are read; None: all.
        optional: columns that are read if they are there.
        earlier: of training data, the earlier distillation whose data they have to be.

    Raises:
        RkdError: a DataFrame that cannot be written, or training data that are not those of the earlier run.
    """

    def digest(file: Path, where: str) -> str:
        found = sha256(file)
        if earlier is not None:
            earlier.refuse_rows(where, found)
        return found

    if isinstance(table, pd.DataFrame):
        path, where = folder / f"{split}.parquet", f"{_ARGUMENTS.get(split, split)} (DataFrame)"
        names = list(table.columns)
        wanted = table if columns is None else table[chosen_columns(where, names, list(columns), optional)]
        wanted = wanted.map(_plain) if wanted.map(_is_array).any(axis=None) else wanted
        try:
            with atomic_path(path) as temporary:
                wanted.to_parquet(temporary, index=False)
                content = digest(temporary, where)
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, RkdError):  # nothing can be written there
                raise
            raise RkdError(_unwritable(where, wanted, error)) from None
        return {"path": str(path), "sha256": content, "where": where}
    return {"path": str(table), "sha256": digest(Path(table), str(table))}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | set | tuple)


def _plain(value: Any) -> Any:
    """Return an array, a tuple or a set as a list, which Parquet can hold whatever its length; others as they are."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, set):
        return sorted(value, key=str)
    return list(value) if isinstance(value, tuple) else value


def _unwritable(where: str, frame: pd.DataFrame, error: Exception) -> str:
    """Return why a DataFrame cannot be written as Parquet."""
    for column in frame:
        values = frame[column].dropna()
        for row, value in enumerate(frame[column], 1):
            if isinstance(value, str) and (problem := text_problem(value)):
                return f"{where}, row {row}, column '{column}': {problem}"
        kinds = sorted({type(value).__name__ for value in values})
        within = sorted({type(item).__name__ for value in values if isinstance(value, list) for item in value})
        for what, found in (("values", kinds), ("lists with values", within)):
            if len(found) > 1:
                return f"{where}, column '{column}': found {what} of the types {', '.join(found)}; expected one type"
    return f"{where}: cannot be written as Parquet: {' '.join(str(error).split())}"
