"""JSON that is read: one `RkdError` names the file, the key, what was found and what was expected."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from rkd.errors import RkdError

# JSON's types in messages.
TYPE_NAMES = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}

# Schemas that many files share.
NON_EMPTY = {"type": "string", "minLength": 1}
WORD = {"type": "string", "pattern": r"\A[A-Za-z0-9][A-Za-z0-9_.-]*\Z"}  # becomes a part of paths
TEXTS = {"type": "array", "items": {"type": "string"}}


def object_schema(required: Sequence[str] | None = None, **properties: Any) -> dict[str, Any]:
    """JSON Schema of an object with these keys, all of them required unless `required` names some."""
    names = list(properties) if required is None else list(required)
    return {"type": "object", "required": names, "properties": properties}


def read_text(file: str | Path) -> str:
    """Read a UTF-8 file; `RkdError` if it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise RkdError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RkdError(f"{file}: cannot be read: {error}; expected UTF-8 text") from None


def read_json(file: str | Path) -> Any:
    """Read a JSON file; see `parse_json`."""
    return parse_json(read_text(file), str(file))


def parse_json(text: str, where: str) -> Any:
    """Parse a JSON text.

    Args:
        text: what to read. NaN and infinity are not JSON, and numbers that a float cannot hold and characters that
            UTF-8 cannot hold are refused, too: nothing could be written from them.
        where: what an error names, a file for example.

    Raises:
        RkdError: the text is not JSON.

    >>> parse_json("[1, 2", "runs.json")
    Traceback (most recent call last):
    rkd.errors.RkdError: runs.json: not JSON: Expecting ',' delimiter: line 1 column 6 (char 5)
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RkdError(f"{where}: not JSON: found half of a surrogate pair; expected whole characters") from None
    except ValueError as error:
        raise RkdError(f"{where}: not JSON: {error}") from None
    except RecursionError:
        raise RkdError(f"{where}: not JSON that can be read: nested too deeply") from None
    return value


def checked(schema: dict[str, Any] | Draft202012Validator, value: Any, where: str) -> Any:
    """Return a JSON value that a schema allows; refuse others.

    Raises:
        RkdError: the message names `where`, the key, what was found and what was expected.
    """
    validator = schema if isinstance(schema, Draft202012Validator) else Draft202012Validator(schema)
    if problem := best_match(validator.iter_errors(value)):
        key = "/".join(map(str, problem.absolute_path))
        raise RkdError(f"{where}: {key + ': ' if key else ''}{_told(problem)}")
    return value


def _told(problem: Any) -> str:
    """Describe what is wrong with a value, in the project's words if jsonschema's are its own jargon."""
    if problem.validator == "required":
        missing = next(key for key in problem.validator_value if key not in problem.instance)
        return f"the key '{missing}' is missing; found {_short(', '.join(problem.instance)) or 'no key'}"
    if problem.validator == "type":
        kinds = problem.validator_value
        expected = " or ".join(TYPE_NAMES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))
        return f"found {_short(json.dumps(problem.instance, ensure_ascii=False))}; expected {expected}"
    return _short(problem.message, 300)


def _short(text: str, limit: int = 80) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}; expected a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"found the number {_short(text, 20)}; expected a finite one")
    return value


def _whole(text: str) -> int:
    _finite(text)
    return int(text)
