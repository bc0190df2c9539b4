"""Published weights by name, such as `timm:mobilenetv3_large_100.ra_in1k`.

The library that publishes them downloads them into its own cache and checks their hash.
"""

import contextlib
import importlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

from convert.rule import Published
from convert.rules import RULES
from convert.rules.timm import files as timm_files
from convert.rules.torchvision import files as torchvision_files
from flaxmobile.errors import InputError, first_line, unknown


class Fetched(NamedTuple):
    """A file of weights.

    Attributes:
      path: of the file.
      origin: origin of its names.
      published: its publisher's statements about it, if it was fetched.
    """

    path: Path
    origin: str
    published: Published | None = None


Announce = Callable[[str], object]
"""Called with the address of a file before it is fetched."""


def publisher_of(weights: Path) -> str | None:
    """Return the publisher in PUBLISHER:NAME; None for anything else and for files that exist."""
    publisher, colon, _ = str(weights).partition(":")
    return publisher if colon and publisher in _FETCHERS and not weights.exists() else None


def fetch(weights: Path, model: str, alpha: float | None, announce: Announce) -> Fetched:
    """Fetch published weights.

    Args:
      weights: PUBLISHER:NAME, see `publisher_of`.
      model: registered name of the network.
      alpha: its width, where one name stands for several; by default 1.0.
      announce: called with the address before the file is fetched.

    Raises:
      InputError: the library is not installed, publishes no such weights of the network, or cannot
        fetch them.
    """
    publisher, _, name = str(weights).partition(":")
    return _FETCHERS[publisher](name, model, alpha, announce)


_TORCHVISION = {
    "inception_v1": "googlenet",
    "mnasnet": "mnasnet{width}",
    "shufflenet_v2": "shufflenet_v2_x{width}",
}
"""Registered name -> torchvision's name, where they differ."""

_TIMM = {
    "mobilenet_v1": ("mobilenetv1_100", "mobilenetv1_125"),
    "mobilenet_v2": ("mobilenetv2_050", "mobilenetv2_100", "mobilenetv2_140"),
    "mobilenet_v3_large": (
        "mobilenetv3_large_100",
        "tf_mobilenetv3_large_075",
        "tf_mobilenetv3_large_100",
        "tf_mobilenetv3_large_minimal_100",
    ),
    "mobilenet_v3_small": (
        "mobilenetv3_small_050",
        "mobilenetv3_small_075",
        "mobilenetv3_small_100",
        "tf_mobilenetv3_small_075",
        "tf_mobilenetv3_small_100",
        "tf_mobilenetv3_small_minimal_100",
    ),
    "inception_v3": ("inception_v3",),
    "inception_v4": ("inception_v4",),
    "inception_resnet_v2": ("inception_resnet_v2",),
    "xception": ("legacy_xception",),
}
"""Registered name -> timm's names of the published widths."""


def _from_torchvision(name: str, model: str, alpha: float | None, announce: Announce) -> Fetched:
    alpha, rule = 1.0 if alpha is None else alpha, RULES.get(("torchvision", model))
    published = sorted({known.alpha for known in rule.published}) if rule else []
    if alpha not in published:
        accepted = ", ".join(map(str, published)) or "none"
        raise InputError(
            f"torchvision publishes no weights of {model} with alpha {alpha}; accepted: {accepted}"
        )
    library = _import("torchvision.models")
    theirs = _TORCHVISION.get(model, model).format(width=str(alpha).replace(".", "_"))
    enum = library.get_model_weights(theirs)
    if name not in enum.__members__:
        raise unknown(f"weights of torchvision's {theirs}", name, enum.__members__)
    weights = enum[name]
    folder = Path(_import("torch.hub").get_dir()) / "checkpoints"
    with _fetching(weights.url, announce):
        weights.get_state_dict(
            model_dir=str(folder), check_hash=True, progress=False, weights_only=True
        )
    path = folder / Path(urlparse(weights.url).path).name
    return Fetched(path, "torchvision", torchvision_files.from_enum(model, weights))


def _from_timm(name: str, model: str, alpha: float | None, announce: Announce) -> Fetched:
    del alpha  # the name contains it, and the file is checked against it
    timm, hub = _import("timm"), _import("timm.models._hub")
    networks = _TIMM.get(model)
    if networks is None:
        raise InputError(f"timm publishes no weights of {model}; accepted: {', '.join(_TIMM)}")
    tagged = [each for network in networks for each in timm.list_pretrained(f"{network}.*")]
    if name not in (*networks, *tagged):
        raise unknown(f"weights of timm's {model}", name, tagged)
    config = timm.get_pretrained_cfg(name)
    url = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url
    with _fetching(url, announce):
        if config.hf_hub_id:
            path = hub.download_from_hf(config.hf_hub_id, "model.safetensors")
        else:
            path = hub.download_cached_file(config.url, check_hash=True)
    origin = "timm-tf" if name.startswith("tf_") else "timm"
    return Fetched(Path(path), origin, timm_files.from_config(name, url, config))


_FETCHERS: dict[str, Callable[[str, str, float | None, Announce], Fetched]] = {
    "torchvision": _from_torchvision,
    "timm": _from_timm,
}


@contextlib.contextmanager
def _fetching(url: str, announce: Announce) -> Iterator[None]:
    """Turn a failure into a one-line InputError, and keep the library silent."""
    announce(url)
    quiet, disabled = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            yield
    except Exception as error:  # libraries for the network raise anything, from OSError to theirs
        raise InputError(f"{url} cannot be fetched: {first_line(error)}") from None
    finally:
        logging.disable(disabled)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        library = name.partition(".")[0]
        raise InputError(
            f"fetching these weights needs {library}: pip install 'flaxmobile[torch]'"
        ) from None
