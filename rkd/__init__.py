"""Reptile knowledge distillation: compress a fine-tuned language model with a teacher that learns to teach."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rkd._version import __version__ as __version__
    from rkd.api import distill
    from rkd.distillation.result import Distilled

__all__ = ["Distilled", "distill"]

# Before anything imports the hub's client, which would ask the hub who may be calling and tell it what is installed.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Resolve public names on first use: torch and transformers take seconds to import."""
    if name == "__version__":
        return import_module("rkd._version").__version__  # by a computed name: the version is no part of any job's code
    if name in __all__:
        return getattr(import_module("rkd.api" if name == "distill" else "rkd.distillation.result"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
