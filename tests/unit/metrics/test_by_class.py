"""Scores of single classes, against scikit-learn's."""

import numpy as np
import pytest

from rkd.metrics.by_class import by_class


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    found = by_class(["a", "b", "c", "d"], predictions, labels)
    expected = metrics.precision_recall_fscore_support(labels, predictions)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [getattr(one, name) for one in found.classes] == pytest.approx(list(values))
    assert (found.confusion == metrics.confusion_matrix(labels, predictions)).all()


def test_what_is_undefined_is_nan():
    never, always, absent = by_class(["never", "always", "absent"], [1, 1], [0, 1]).classes
    assert np.isnan(never.precision)
    assert (never.recall, never.f1) == (0.0, 0.0)
    assert (always.precision, always.recall) == (0.5, 1.0)
    assert np.isnan([absent.precision, absent.recall, absent.f1]).all()
