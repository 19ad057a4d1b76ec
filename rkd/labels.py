"""One rule for the names of labels, in a config, in a model and in data of every format. Standard library only."""

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from rkd.errors import RkdError

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")
_NO_VALUE = ("nan", "none", "null", "na", "n/a", "<na>", "nat")


def label_name(value: Any) -> str:
    """The name by which a label is compared.

    White space at the ends does not count, a whole number has no decimal places, and truth values are in lower case:
    `1`, `1.0`, `"1"` and `"1.0 "` are one label, and so are `True`, `"true"` and `"True"`.

    >>> [label_name(value) for value in (1.0, " 1.0", True, "Good ", "007")]
    ['1', '1', 'true', 'Good', '007']
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = (format(value, "f") if isinstance(value, Decimal) else str(value)).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    if whole := _WHOLE.fullmatch(text):
        return "0" if whole[1] == "-0" else whole[1]
    return text


def is_missing(value: Any) -> bool:
    """True for what stands for no value in a file: None, NaN, an empty text, white space.

    >>> [is_missing(value) for value in (None, math.nan, " ", "nan", 0)]
    [True, True, True, False, False]
    """
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def reads_as_missing(name: str) -> bool:
    """True for a label's name that programs write where there is no value, such as `nan` or `None`.

    >>> reads_as_missing("NaN")
    True
    """
    return name.lower() in _NO_VALUE


def check_names(where: str, names: Iterable[Any]) -> None:
    """Refuse names of labels that are blank, and two that are one label by `label_name`.

    Raises:
        RkdError: the message begins with `where` and shows the names.

    >>> check_names("labels", ["bad", "good"])
    """
    seen: dict[str, Any] = {}
    for name in names:
        key = label_name(name)
        if not key:
            raise RkdError(f"{where}: found the blank label {name!r}; expected a name")
        if key in seen:
            raise RkdError(f"{where}: found {seen[key]!r} and {name!r}, which are one label; expected different ones")
        seen[key] = name


def listed(names: Iterable[Any], most: int = 20) -> str:
    """Names on one line, divided by commas; of more than `most` only the first.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, … (3 in all)'
    """
    names = [str(name) for name in names]
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])}, … ({len(names)} in all)"
