"""Data of a task, from a source of GLUE or the user's own files to a tokenised Arrow dataset."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rkd.data.raw import SOURCES, load_raw

__all__ = ["SOURCES", "load_raw"]


def __getattr__(name: str) -> Any:
    """Resolve public names on first use: a job that needs one reader should not depend on all of them."""
    if name in __all__:
        return getattr(import_module("rkd.data.raw"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
