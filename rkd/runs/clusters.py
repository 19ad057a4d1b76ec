"""Files with the clusters of related dev examples, such as all pairs of MNLI with one premise.

A file has a row per example: split (text), idx and cluster (whole numbers). Clusters describe the data, not a run, so
they are kept apart from predictions and can be defined after the trainings.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rkd.errors import RkdError

Ids = NDArray[np.int64]
COLUMNS = ("split", "idx", "cluster")


def read_clusters(file: str | Path, split: str, idx: Ids) -> Ids:
    """Return the cluster ids of examples of a dev split.

    Args:
        file: a file as described in the module's docstring.
        split: the split's name.
        idx: the examples' numbers, shape (examples,).

    Returns:
        Cluster ids, shape (examples,).

    Raises:
        RkdError: the file cannot be read, or has no cluster or several for an example.
    """
    try:
        frame = pd.read_parquet(file, columns=list(COLUMNS))
    except Exception as error:  # pandas and pyarrow raise many kinds for a missing or damaged file
        raise RkdError(f"{file}: cannot be read as clusters: {' '.join(str(error).split())}") from None
    known = frame[frame["split"] == split]
    if known["idx"].duplicated().any():
        raise RkdError(f"{file}: an example of {split} occurs more than once; expected one cluster per example")
    found = known.set_index("idx")["cluster"].reindex(idx)
    if (missing := np.flatnonzero(found.isna())).size:
        raise RkdError(
            f"{file}: found no cluster for {missing.size} examples of {split}, the first is idx {idx[missing[0]]}; "
            "expected the dev examples of the predictions"
        )
    return found.to_numpy(np.int64)
