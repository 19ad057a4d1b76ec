"""Reptile knowledge distillation: compress a fine-tuned language model with a teacher that learns to teach."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rkd.distilling import Distilled, distill

__all__ = ["Distilled", "distill"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The public functions on first use: torch and transformers take seconds to import."""
    if name in __all__:
        return getattr(import_module("rkd.distilling"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
