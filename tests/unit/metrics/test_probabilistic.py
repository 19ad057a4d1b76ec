"""Likelihood, calibration and agreement, against scikit-learn, hand counts and simulations."""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from rkd.errors import RkdError
from rkd.metrics.probabilistic import (
    agreement,
    calibration_noise,
    expected_calibration_error,
    negative_log_likelihood,
)


def calibrated(rng, examples, classes=2):
    """Logits, and labels drawn with the very probabilities that they state."""
    logits = rng.normal(0, 1.5, (examples, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits, (rng.random((examples, 1)) > p.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_likelihood_is_that_of_scikit_learn(classes):
    logits, labels = calibrated(np.random.default_rng(0), 200, classes)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert negative_log_likelihood(logits, labels) == pytest.approx(log_loss(labels, p, labels=range(classes)))
    assert negative_log_likelihood(logits + 1000, labels) == pytest.approx(negative_log_likelihood(logits, labels))


def test_the_calibration_error_by_hand():
    """Two bins of two: confidences 0.6 and 0.7 with one right, 0.8 and 0.9 with both right."""
    confidences = np.array([0.6, 0.9, 0.7, 0.8])
    logits = np.stack([np.zeros(4), np.log(confidences / (1 - confidences))], axis=1)
    found = expected_calibration_error(logits, [0, 1, 1, 1], bins=2)
    assert found == pytest.approx(0.5 * abs(0.5 - 0.65) + 0.5 * abs(1 - 0.85))
    assert expected_calibration_error(logits, [0, 1, 1, 1], bins=1) == pytest.approx(0.0)


def test_equal_confidences_share_a_bin():
    """Their order in the file decides nothing."""
    labels = np.array([0, 1] * 20)
    found = [expected_calibration_error(np.zeros((40, 2)), order) for order in (labels, np.sort(labels))]
    assert found == pytest.approx([0.0, 0.0])


def test_an_overconfident_classifier_is_found():
    logits, labels = calibrated(np.random.default_rng(1), 5000)
    good = expected_calibration_error(logits, labels)
    assert good < 2 * calibration_noise(logits)
    assert expected_calibration_error(3 * logits, labels) > 5 * good


@pytest.mark.parametrize("examples", [277, 2000])
def test_the_noise_is_the_error_of_a_calibrated_classifier(examples):
    rng = np.random.default_rng(2)
    drawn = [calibrated(rng, examples) for _ in range(200)]
    errors = [expected_calibration_error(logits, labels) for logits, labels in drawn]
    assert np.mean([calibration_noise(logits) for logits, _ in drawn]) == pytest.approx(np.mean(errors), rel=0.05)


def test_agreement_counts_equal_predictions():
    assert agreement([[0.1, 0.2, 0.3], [1, 0, 0]], [[0.0, 0.0, 9.0], [0, 1, 0]]) == 0.5
    with pytest.raises(RkdError, match=r"shapes \(1, 2\) and \(2, 2\); expected equal shapes"):
        agreement([[0, 1]], [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.5], [0.2]], [0, 0], r"logits: shape \(2, 1\); expected \(examples, classes\)"),
        (np.zeros((0, 2)), [], r"logits: shape \(0, 2\)"),
        ([0.5, 0.2], [0, 0], r"logits: shape \(2,\)"),
        ([[math.nan, 0.0]], [0], "logits: NaN or infinite values; expected finite ones"),
        ([[0.0, 0.0]], [0, 1], r"labels: shape \(2,\); expected \(1,\)"),
        ([[0.0, 0.0]], [2], "labels: values other than class ids; expected 0 to 1"),
        ([[0.0, 0.0]], [0.5], "labels: values other than class ids"),
        ([[0.0, 0.0]], [math.nan], "labels: values other than class ids"),
    ],
)
def test_what_is_no_classifier_is_told(logits, labels, message):
    for measure in (negative_log_likelihood, expected_calibration_error):
        with pytest.raises(RkdError, match=message):
            measure(logits, labels)


def test_bins_are_at_least_one():
    with pytest.raises(RkdError, match="calibration: 0 bins; expected at least 1"):
        expected_calibration_error([[0.0, 1.0]], [1], bins=0)
