"""Values of Python as arguments: how errors show them, and what they are; no heavy library is imported."""

import numbers
import os
import sys
from collections.abc import Mapping
from typing import Any


def shown(value: Any) -> str:
    """Return a value as errors show it: numbers and words in full, of all others the type.

    >>> shown(0.5), shown("a.csv"), shown(["a"])
    ('0.5', "'a.csv'", 'a list')
    """
    if value is None or isinstance(value, bool | numbers.Real):
        return str(value)[:80]
    if isinstance(value, str | os.PathLike):
        return repr(str(value)[:200])
    kind = type(value)
    name = (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__.split('.')[0]}.{kind.__qualname__}"
    )
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def plain_number(value: Any) -> Any:
    """Convert a NumPy number to a Python number; return everything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def plain_numbers(value: Any) -> Any:
    """Convert NumPy numbers to Python numbers, also those in a NumPy array, a list, a tuple or a mapping.

    >>> plain_numbers({"bad": 1, "good": 2.5})
    {'bad': 1, 'good': 2.5}
    """
    if isinstance(value, Mapping):
        return {key: plain_number(each) for key, each in value.items()}
    numpy = sys.modules.get("numpy")
    if isinstance(value, list | tuple) or (numpy is not None and isinstance(value, numpy.ndarray) and value.ndim == 1):
        return [plain_number(each) for each in value]
    return plain_number(value)


def is_frame(value: Any) -> bool:
    """Tell if a value is a pandas DataFrame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def is_model(value: Any) -> bool:
    """Tell if a value is a model of transformers in memory, without importing torch."""
    modeling = sys.modules.get("transformers.modeling_utils")
    return modeling is not None and isinstance(value, modeling.PreTrainedModel)
