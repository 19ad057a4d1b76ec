"""The kind of answer that a classifier gives: one label per text, or any number of them."""

from typing import Any

MULTI_LABEL = "multi_label_classification"


def gives_sets(model: Any) -> bool:
    """Return True for a classifier that gives each text any number of labels, by the problem_type of its config."""
    return getattr(getattr(model, "config", None), "problem_type", None) == MULTI_LABEL
