"""The mobile CNN family in JAX and Flax Linen: exact, fast, strict."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flaxmobile.detection import detect_faces
    from flaxmobile.dilation_search import load_dilations, save_dilations, search_dilations
    from flaxmobile.errors import InputError
    from flaxmobile.folding import fold_batch_norm
    from flaxmobile.inference import jit_inference
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
    "detect_faces",
    "fold_batch_norm",
    "jit_inference",
    "list_models",
    "load_dilations",
    "load_metadata",
    "load_weights",
    "save_dilations",
    "save_weights",
    "search_dilations",
    "summarize",
]

_HOMES = {
    "detection": ("detect_faces",),
    "dilation_search": ("load_dilations", "save_dilations", "search_dilations"),
    "errors": ("InputError",),
    "folding": ("fold_batch_norm",),
    "inference": ("jit_inference",),
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
