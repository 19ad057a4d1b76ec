"""The training methods, one file each; each is a class with `step(batch)`.

The classes are imported on first use, so that a run loads (and depends on) only the file of its own method.

>>> from rkd.methods import ReptileKD
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rkd.methods.finetune import FineTune
    from rkd.methods.kd import KD
    from rkd.methods.metadistil import MetaDistil
    from rkd.methods.online import OnlineKD
    from rkd.methods.pkd import PKD
    from rkd.methods.reptile import ReptileKD
    from rkd.methods.tinybert import TinyBERT

__all__ = ["KD", "PKD", "FineTune", "MetaDistil", "OnlineKD", "ReptileKD", "TinyBERT"]

MODULES = {
    "FineTune": "finetune",
    "KD": "kd",
    "ReptileKD": "reptile",
    "PKD": "pkd",
    "TinyBERT": "tinybert",
    "MetaDistil": "metadistil",
    "OnlineKD": "online",
}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)


def by_name(method: str) -> Any:
    """The class of a method by its name in the config, for example `reptile`: the name of its file."""
    classes = {module: name for name, module in MODULES.items()}
    return __getattr__(classes[method])
