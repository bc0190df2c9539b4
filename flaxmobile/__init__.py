"""The mobile CNN family in JAX and Flax Linen: exact, fast, strict."""

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
