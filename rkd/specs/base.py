"""The base of all specs: one canonical JSON text, and its strict reader. Standard library only."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, ClassVar, NoReturn, Self, Union, get_args, get_origin, get_type_hints

from rkd.errors import RkdError

# Left out of the JSON when empty.
_OPTIONAL = ("axis", "custom_task", "custom_tasks", "glue_files", "student_tokenizer", "unlabelled")
_KINDS = {dict: "an object", list: "a list", tuple: "a list", str: "text", bool: "true or false"}
_KINDS |= {int: "a whole number", float: "a number"}


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces. Snakemake compares it to decide on a re-run."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Spec:
    """A frozen dataclass that one job hands to another as JSON.

    Example:
        >>> ModelSpec.from_json(ModelSpec("prajjwal1/bert-tiny").json())
        ModelSpec(source='prajjwal1/bert-tiny', revision=None, sha256=None, layers_of=None, content=None)
    """

    title: ClassVar[str] = "spec"  # names the spec in errors

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, without empty ones that few specs have, such as `custom_task`."""
        found = asdict(self)  # type: ignore[call-overload]
        return {key: value for key, value in found.items() if value or key not in _OPTIONAL}

    def json(self) -> str:
        """Return the canonical JSON text of all fields."""
        return canonical_json(self.as_dict())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse what `json` wrote.

        Raises:
            RkdError: the text is not JSON, or a key is missing, unknown or of another type.
        """
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise RkdError(f"{cls.title}: not JSON: {error}; expected {_names(cls)}") from None
        spec: Self = read(cls, value, cls.title)
        return spec


def read(kind: Any, value: Any, where: str) -> Any:
    """Convert a JSON value to an annotated type: a spec, a tuple, a list, a dict, a scalar, or one of them or None.

    Args:
        kind: the type, for example `tuple[int, ...]`.
        value: what `json.loads` returned.
        where: the place that errors name.

    Raises:
        RkdError: the value has another type.

    >>> read(tuple[int, ...], [1, 2], "seeds")
    (1, 2)
    """
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, UnionType):
        options = [option for option in inner if option is not NoneType]
        return None if value is None else read(options[0], value, where)
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _read_fields(kind, value, where)
    expected = list if origin is tuple else origin
    if type(value) is not expected and (kind, type(value)) != (float, int):
        raise RkdError(f"{where}: found {_short(value)}; expected {_KINDS[origin]}")
    if origin is dict and inner:
        return {key: read(inner[1], item, f"{where}/{key}") for key, item in value.items()}
    if origin in (tuple, list) and inner:
        kinds = inner if origin is tuple and inner[-1] is not Ellipsis else inner[:1] * len(value)
        if len(kinds) != len(value):
            raise RkdError(f"{where}: found {len(value)} values; expected {len(kinds)}")
        return origin(read(one, item, f"{where}/{at}") for at, (one, item) in enumerate(zip(kinds, value, strict=True)))
    return value


def _read_fields(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise RkdError(f"{where}: found {_short(value)}; expected an object with {_names(cls)}")
    known = {field.name: field for field in fields(cls)}
    if absent := [name for name, field in known.items() if _required(field) and name not in value]:
        raise RkdError(f"{where}: the key '{absent[0]}' is missing; expected {_names(cls)}")
    if unknown := [key for key in value if key not in known]:
        raise RkdError(f"{where}: the key {_short(unknown[0])} is unknown; expected {_names(cls)}")
    kinds = get_type_hints(cls)
    return cls(**{key: read(kinds[key], item, f"{where}: {key}") for key, item in value.items()})


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _names(cls: Any) -> str:
    return ", ".join(field.name for field in fields(cls))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}")
