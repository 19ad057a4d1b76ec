"""Sets of labels as whole numbers: bit i says whether label i is in the set. Standard library only.

A task with several labels per text keeps its labels and predictions in this form. They stay one number per example in
every file, table and comparison: two sets are equal if their numbers are.
"""

from collections.abc import Iterable, Sequence

# Beyond this number of labels a set would no longer be exact as a floating-point number, as files have it.
MOST_LABELS = 50
# What stands between the names of labels in a cell by default.
SEPARATOR = ";"


def set_number(ids: Iterable[int]) -> int:
    """Return the number of a set of label ids.

    >>> set_number([0, 2])
    5
    """
    return sum({1 << label for label in ids})


def set_names(number: float, labels: Sequence[str]) -> list[str]:
    """Return the names of the labels in a set, in the order of the labels.

    >>> set_names(5, ["angry", "sad", "glad"])
    ['angry', 'glad']
    """
    return [name for index, name in enumerate(labels) if int(number) >> index & 1]
