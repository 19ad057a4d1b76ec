"""The training methods, one file each. A method is a class with `step(batch)`.

Classes are imported on first use: a run loads, and depends on, only the file of its own method.

>>> from rkd.methods import ReptileKD
"""

from importlib import import_module, metadata
from importlib.util import find_spec
from inspect import isabstract
from typing import TYPE_CHECKING, Any

from rkd.errors import RkdError

if TYPE_CHECKING:
    from rkd.methods.finetune import FineTune
    from rkd.methods.kd import KD
    from rkd.methods.lgtm import LGTM
    from rkd.methods.metadistil import MetaDistil
    from rkd.methods.online import OnlineKD
    from rkd.methods.pkd import PKD
    from rkd.methods.reptile import ReptileKD
    from rkd.methods.tinybert import TinyBERT

__all__ = ["KD", "LGTM", "PKD", "FineTune", "MetaDistil", "OnlineKD", "ReptileKD", "TinyBERT"]


def __getattr__(name: str) -> Any:
    for facts in _facts().values():
        if facts.class_name == name:
            return by_name(facts.name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Custom methods by name; see `register`.
_REGISTERED: dict[str, Any] = {}


def register(name: str, method: Any) -> None:
    """Register a custom method under a name, for `rkd.distill(…, method=name)`.

    A package can register its methods for all its users with entry points of the group `rkd.methods`.

    Args:
        name: a name that is not taken.
        method: a subclass of `rkd.methods.base.Method`, called with (student, teacher, **settings and options).

    Raises:
        RkdError: the name belongs to one of rkd's own methods, or the class is not a subclass of Method.

    Example:
        >>> register("my-method", MyMethod)
    """
    if _is_own(name):
        raise RkdError(f"method '{name}' is one of rkd's own; expected another name")
    if not (isinstance(method, type) and issubclass(method, _base())):
        raise RkdError(f"method '{name}': found {method!r}; expected a subclass of rkd.methods.base.Method")
    _REGISTERED[name] = method


def by_name(method: str) -> Any:
    """Return the class of a method by name: built in, registered, or from an installed package."""
    if _is_own(method):
        return _class_in(method)
    if method not in _REGISTERED:
        for entry_point in metadata.entry_points(group="rkd.methods", name=method):
            register(method, entry_point.load())
    if method not in _REGISTERED:
        known = ", ".join([*_facts(), *_REGISTERED])
        raise RkdError(f"method: found '{method}'; expected one of {known}, or one given to rkd.methods.register")
    return _REGISTERED[method]


def _is_own(name: str) -> bool:
    return name.isidentifier() and find_spec(f"{__name__}.{name}") is not None


def _class_in(name: str) -> Any:
    """Return the one method that a file here defines."""
    module = import_module(f"{__name__}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, _base()) and value.__module__ == module.__name__
    ]
    if len(found) != 1 or isabstract(found[0]):
        raise RkdError(f"rkd/methods/{name}.py: found {len(found)} methods; expected one subclass of Method")
    return found[0]


def _base() -> Any:
    """Return the base class of all methods; imported by name, because readers of facts must not depend on it."""
    return import_module(f"{__name__}.base").Method


def _facts() -> Any:
    """Return the facts about all methods; imported by name, because a training must not depend on their reader."""
    return import_module(f"{__name__}.facts").METHODS
