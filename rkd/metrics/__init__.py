"""The metrics of all tasks: `rkd.metrics.compute`, and `rkd.metrics.GlueMetric` for code that uses `evaluate`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rkd.metrics.evaluate_metric import GlueMetric
    from rkd.metrics.scores import compute

__all__ = ["GlueMetric", "compute"]


def __getattr__(name: str) -> Any:
    """Resolve public names on first use: `evaluate` takes seconds to import."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.{'scores' if name == 'compute' else 'evaluate_metric'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
