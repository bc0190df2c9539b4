"""The origins' own networks, to compare ours with."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from flaxmobile.errors import InputError

Options = Mapping[str, Any]


def build_reference(origin: str, model: str, options: Options) -> Any:
    """Build the network of an origin's library that corresponds to ours.

    Args:
      origin: "torchvision" or "timm".
      model: registered name of our network.
      options: of our network, all of those that the origin's rule names, with "num_classes".

    Returns:
      A `torch.nn.Module` without dropout, with random weights.

    Raises:
      InputError: the library is not installed, or has no such network.
    """
    build = _BUILDERS.get((origin, model))
    if build is None:
        raise InputError(f"{origin} has no {model}")
    try:
        library = importlib.import_module(_MODULES[origin])
    except ImportError:
        raise InputError(f"{origin} is not installed: pip install 'flaxmobile[torch]'") from None
    return build(library, options)


_MODULES = {"torchvision": "torchvision.models", "timm": "timm"}


def _mobilenet_v2(models: Any, options: Options) -> Any:
    return models.mobilenet_v2(
        width_mult=options["alpha"], num_classes=options["num_classes"], dropout=0.0
    )


_BUILDERS: dict[tuple[str, str], Callable[[Any, Options], Any]] = {
    ("torchvision", "mobilenet_v2"): _mobilenet_v2,
}
