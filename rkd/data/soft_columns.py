"""The columns of soft labels: which label each is of. Standard library only."""

from collections.abc import Mapping, Sequence
from typing import Any

from rkd.errors import RkdError
from rkd.labels import label_name, listed

# `rkd predict` writes the probability of a label into a column of this name.
PREFIX = "p_"


def columns_of(labels: Sequence[str], given: Sequence[str] | Mapping[Any, str]) -> list[str]:
    """Return the column of each label's probability, in the order of the labels.

    Args:
        labels: names of the labels; none in a regression task, which has one column of any name.
        given: the columns by label; or columns that are called as the labels, or as `rkd predict` calls them.

    Raises:
        RkdError: a label has no column, or a column is of no label.

    >>> columns_of(["bad", "good"], ["p_good", "p_bad"])
    ['p_bad', 'p_good']
    """
    if not labels:
        if isinstance(given, Mapping) or len(given) != 1:
            raise RkdError(f"found {listed(map(str, given))}; expected one column, that of the score")
        return list(given)
    by_label = {label_name(key): column for key, column in given.items()} if isinstance(given, Mapping) else {}
    if not isinstance(given, Mapping):
        for label in labels:
            named = [column for column in (f"{PREFIX}{label}", label) if column in given]
            by_label.update({label: named[0]} if named else {})
    if missing := [label for label in labels if label not in by_label]:
        raise RkdError(
            f"found no column of the label {missing[0]!r} among {listed(map(str, given)) or 'none'}; expected one per "
            f"label, named {PREFIX}LABEL or LABEL, or a mapping of labels to columns"
        )
    columns = [by_label[label] for label in labels]
    if twice := [column for index, column in enumerate(columns) if column in columns[:index]]:
        raise RkdError(f"found {twice[0]!r} for two labels; expected a column for each")
    if isinstance(given, Mapping):
        unknown = [str(key) for key in given if label_name(key) not in labels]
    else:
        unknown = [column for column in given if column not in columns]
    if unknown:
        raise RkdError(f"found {unknown[0]!r}, which is of no label; expected those of {listed(labels)}")
    return columns


def labels_of(given: Sequence[str] | Mapping[Any, str]) -> list[str]:
    """Return the labels that columns of soft labels are of, in their order.

    >>> labels_of(["p_bad", "p_good"]), labels_of({"bad": "negative", "good": "positive"})
    (['bad', 'good'], ['bad', 'good'])
    """
    if isinstance(given, Mapping):
        return [label_name(key) for key in given]
    prefixed = all(column.startswith(PREFIX) and column != PREFIX for column in given)
    return [label_name(column.removeprefix(PREFIX) if prefixed else column) for column in given]
