"""Probabilistic metrics of a classifier: likelihood, calibration, and agreement with a teacher.

The expected calibration error compares the confidence of the predicted class with its accuracy, in bins of equal size
("adaptive" bins; Nixon et al., 2019, CVPR Workshops; Nguyen and O'Connor, 2015, EMNLP). The 15 equal-width bins of Guo
et al. (2017, ICML) have two drawbacks. With two classes no confidence is below 0.5, so half of them are empty, and
nearly all examples of a confident model fall into one bin.

Any binned estimate is above 0 even for a perfectly calibrated classifier, because the accuracy of a bin is noisy: with
15 bins by about 5 points on RTE's 277 examples, by 0.5 on QQP's 40 430. `calibration_noise` estimates this level for
the given confidences. Compare a calibration error with it, and compare classifiers only on the same examples.

None of these is defined for regression.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from rkd.errors import RkdError
from rkd.metrics.facts import PROBABILISTIC

BINS = 15

Values = NDArray[np.float64]


def probabilistic(logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Compute all measures of one split for a metrics file, by the names in PROBABILISTIC.

    Args:
        logits: shape (examples, classes).
        labels: class ids, shape (examples,).

    Raises:
        RkdError: as `negative_log_likelihood`.
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    values = (negative_log_likelihood(z, y), expected_calibration_error(z, y), calibration_noise(z))
    return dict(zip(PROBABILISTIC, values, strict=True))


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike) -> float:
    """Compute the mean of −log p(label), in nats.

    Args:
        logits: shape (examples, classes).
        labels: class ids, shape (examples,).

    Raises:
        RkdError: invalid shapes, logits or labels.

    >>> round(negative_log_likelihood([[0.0, 0.0], [0.0, 0.0]], [0, 1]), 3)
    0.693
    """
    z, y = _checked(logits, labels)
    return float(-log_softmax(z, axis=1)[np.arange(y.size), y].mean())


def expected_calibration_error(logits: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """Compute the mean of |accuracy − mean confidence| over bins, weighted by bin size; a fraction.

    Args:
        logits: shape (examples, classes).
        labels: class ids, shape (examples,).
        bins: number of bins of equal size, in the order of confidence. Examples of equal confidence share a bin, so
            there may be fewer.

    Raises:
        RkdError: as `negative_log_likelihood`.

    >>> expected_calibration_error([[0.0, 40.0]] * 4, [1, 1, 1, 0])  # certain, and right in three of four cases
    0.25
    """
    z, y = _checked(logits, labels)
    confidence, place = _binned(z, bins)
    excess = (z.argmax(axis=1) == y) - confidence
    return float(np.abs(np.bincount(place, excess)).sum() / y.size)


def calibration_noise(logits: ArrayLike, bins: int = BINS) -> float:
    """Return the expected calibration error of a perfectly calibrated classifier with the same confidences.

    Correct answers are then independent draws with the confidences as probabilities, and their sum in a bin is
    approximately normal. The result is a fraction.

    Args:
        logits: shape (examples, classes).
        bins: as in `expected_calibration_error`.

    >>> round(calibration_noise([[0.0, 0.0]] * 100), 3)  # one bin: √(2/π) · √(0.25/100)
    0.04
    """
    z, _ = _checked(logits, None)
    confidence, place = _binned(z, bins)
    deviation = np.sqrt(np.bincount(place, confidence * (1 - confidence)))
    return float(math.sqrt(2 / math.pi) * deviation.sum() / len(z))


def agreement(logits: ArrayLike, teacher_logits: ArrayLike) -> float:
    """Return the fraction of examples on which student and teacher predict the same class.

    Args:
        logits, teacher_logits: shape (examples, classes) each.

    Raises:
        RkdError: different shapes, or invalid logits.

    >>> agreement([[1.0, 0.0], [0.0, 1.0]], [[2.0, 1.0], [2.0, 1.0]])
    0.5
    """
    student, _ = _checked(logits, None)
    teacher, _ = _checked(teacher_logits, None)
    if student.shape != teacher.shape:
        raise RkdError(f"agreement: logits of shapes {student.shape} and {teacher.shape}; expected equal shapes")
    return float((student.argmax(axis=1) == teacher.argmax(axis=1)).mean())


def _binned(logits: Values, bins: int) -> tuple[Values, NDArray[np.intp]]:
    """Return the confidence of the predicted class and its bin number, shape (examples,) each."""
    if bins < 1:
        raise RkdError(f"calibration: {bins} bins; expected at least 1")
    confidence: Values = np.exp(log_softmax(logits, axis=1).max(axis=1))
    edges = np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf")
    return confidence, np.searchsorted(edges, confidence, side="left")


def _checked(logits: ArrayLike, labels: ArrayLike | None) -> tuple[Values, NDArray[np.int64]]:
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != 2 or z.shape[0] == 0 or z.shape[1] < 2:
        raise RkdError(f"logits: shape {z.shape}; expected (examples, classes), at least 1 by 2")
    if not np.isfinite(z).all():
        raise RkdError("logits: NaN or infinite values; expected finite ones")
    y = np.asarray([] if labels is None else labels, dtype=np.float64)
    if labels is not None and y.shape != z.shape[:1]:
        raise RkdError(f"labels: shape {y.shape}; expected {z.shape[:1]}, one per row of logits")
    if not np.isin(y, np.arange(z.shape[1])).all():
        raise RkdError(f"labels: values other than class ids; expected 0 to {z.shape[1] - 1}")
    return z, y.astype(np.int64)
