"""One rule for the names of labels, in a config, in a model and in data of every format. Standard library only."""

import math
import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from rkd.errors import RkdError

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0+)?")
# Characters that show nothing: soft hyphen, zero-width spaces and joiners, marks of direction, variation selectors.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_NO_VALUE = ("nan", "none", "null", "na", "n/a", "<na>", "nat")


def label_name(value: Any) -> str:
    """Return the name by which labels are compared.

    White space at the ends does not count, a whole number has no decimal places, truth values are in lower case, and
    text is in Unicode's normal form C: `1`, `1.0`, `"1"` and `"1.0 "` are one label, and so are `True`, `"true"` and
    `"True"`, and an accented letter and the letter with the accent after it.

    >>> [label_name(value) for value in (1.0, " 1.0", True, "Good ", "007")]
    ['1', '1', 'true', 'Good', '007']
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = (format(value, "f") if isinstance(value, Decimal) else str(value)).strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if text.lower() in ("true", "false"):
        return text.lower()
    if whole := _WHOLE.fullmatch(text):
        return "0" if whole[1] == "-0" else whole[1]
    return text


def look(name: Any) -> str:
    """Remove invisible characters from a label's name: names that look alike are not two labels.

    >>> look("good\\u200b") == look("good ")
    True
    """
    return label_name(_INVISIBLE.sub("", label_name(name)))


def nearly(name: Any) -> str:
    """Normalise case, width and blanks of a label's name.

    >>> nearly("Very  Good"), nearly("１")
    ('very good', '1')
    """
    return " ".join(unicodedata.normalize("NFKC", look(name)).casefold().split())


def is_missing(value: Any) -> bool:
    """Return True for a missing value in a file: None, NaN, empty text, white space, invisible characters.

    >>> [is_missing(value) for value in (None, math.nan, " ", "nan", 0)]
    [True, True, True, False, False]
    """
    if isinstance(value, str):
        return not look(value)
    return value is None or (isinstance(value, float | Decimal) and math.isnan(value))


def reads_as_missing(name: str) -> bool:
    """Return True for a label's name that programs write for a missing value, such as `nan` or `None`.

    >>> reads_as_missing("NaN")
    True
    """
    return name.lower() in _NO_VALUE


def check_names(where: str, names: Iterable[Any]) -> None:
    """Refuse names of labels that are blank, and two that are one label by `label_name` or look alike.

    Raises:
        RkdError: the message begins with `where` and shows the names.

    >>> check_names("labels", ["bad", "good"])
    """
    seen: dict[str, Any] = {}
    for name in names:
        key = look(name)
        if not key:
            raise RkdError(f"{where}: found the blank label {name!r}; expected a name")
        if key in seen:
            same = label_name(name) == label_name(seen[key])
            what = "are one label" if same else "differ in invisible characters alone"
            raise RkdError(f"{where}: found {seen[key]!a} and {name!a}, which {what}; expected different ones")
        seen[key] = name


def listed(names: Iterable[Any], most: int = 20) -> str:
    """Names on one line, separated by commas; of more than `most` only the first. Those with a comma are quoted.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, … (3 in all)'
    >>> print(listed(["yes", "yes, but"]))
    yes, 'yes, but'
    """
    names = [repr(name) if "," in name and name[0] not in "'\"" else name for name in map(str, names)]
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])}, … ({len(names)} in all)"
