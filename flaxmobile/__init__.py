"""The mobile CNN family in JAX and Flax Linen: exact, fast, strict."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flaxmobile.errors import InputError
    from flaxmobile.folding import fold_batch_norm
    from flaxmobile.preprocessing import Preprocessing
    from flaxmobile.registry import create_backbone, create_model, list_models
    from flaxmobile.summary import Summary, summarize
    from flaxmobile.weights import Metadata, load_metadata, load_weights, save_weights

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "Metadata",
    "Preprocessing",
    "Summary",
    "create_backbone",
    "create_model",
    "fold_batch_norm",
    "list_models",
    "load_metadata",
    "load_weights",
    "save_weights",
    "summarize",
]

_HOMES = {
    "errors": ("InputError",),
    "folding": ("fold_batch_norm",),
    "preprocessing": ("Preprocessing",),
    "registry": ("create_backbone", "create_model", "list_models"),
    "summary": ("Summary", "summarize"),
    "weights": ("Metadata", "load_metadata", "load_weights", "save_weights"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: JAX takes a second, `flaxmobile --help` none."""
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"flaxmobile.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
