"""Precision, recall and F1 of every class, and the confusion matrix, from predictions and labels."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class, as fractions.

    Attributes:
        label: the name of the class.
        support: the number of examples with this label.
        predicted: the number of examples that are predicted to have it.
        precision: TP / (TP + FP); NaN if the class is never predicted.
        recall: TP / (TP + FN); NaN if no example has the label.
        f1: 2·TP / (2·TP + FP + FN); NaN if the class is neither predicted nor labelled.
    """

    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ByClass:
    """The scores of all classes, in the task's order.

    Attributes:
        classes: the scores by class.
        confusion: the number of examples, shape (classes, classes): a row per label, a column per prediction. None
            where an example may have several labels.
    """

    classes: tuple[ClassScores, ...]
    confusion: NDArray[np.int64] | None

    def as_dict(self) -> dict[str, Any]:
        """Return `classes` and `confusion` as JSON values; undefined scores are NaN."""
        confusion = {} if self.confusion is None else {"confusion": self.confusion.tolist()}
        return {"classes": [asdict(one) for one in self.classes], **confusion}


def by_class(names: Sequence[str], predictions: ArrayLike, labels: ArrayLike, *, multi_label: bool = False) -> ByClass:
    """Compute the scores of every class.

    Args:
        names: the names of the classes, in the order of their ids.
        predictions: class ids, shape (n,).
        labels: the true class ids, shape (n,).
        multi_label: whether both are numbers of sets of labels, see `rkd.label_sets`. Such sets have no confusion
            matrix.

    >>> found = by_class(["bad", "good"], predictions=[1, 1, 0, 1], labels=[1, 1, 0, 0])
    >>> found.classes[0]
    ClassScores(label='bad', support=2, predicted=1, precision=1.0, recall=0.5, f1=0.6666666666666666)
    >>> found.confusion.tolist()
    [[1, 1], [0, 2]]
    """
    predicted, true = (np.asarray(values).astype(np.int64) for values in (predictions, labels))
    confusion: NDArray[np.int64] | None = None
    if multi_label:
        given, chosen = (sets[:, None] >> np.arange(len(names)) & 1 for sets in (true, predicted))
        hits, support, answers = (given & chosen).sum(axis=0), given.sum(axis=0), chosen.sum(axis=0)
    else:
        confusion = np.zeros((len(names), len(names)), dtype=np.int64)
        np.add.at(confusion, (true, predicted), 1)
        hits, support, answers = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    classes = tuple(
        ClassScores(
            name,
            int(support[index]),
            int(answers[index]),
            _ratio(hits[index], answers[index]),
            _ratio(hits[index], support[index]),
            _ratio(2 * hits[index], answers[index] + support[index]),
        )
        for index, name in enumerate(names)
    )
    return ByClass(classes, confusion)


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan
