"""Networks with published weights: `load_pretrained`, and the same for every command."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from convert.conversion import Conversion, convert_file
from convert.formats.contents import NOTHING_SAID, Statements
from convert.published.fetching import SCHEMES, Fetched, fetch, scheme_of
from convert.published.own import ORIGIN, convert_own
from convert.rule import NO_OPTIONS, Options
from convert.sources import FOUND, Selection
from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.registry import create_backbone
from flaxmobile.tasks import build
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables, adapt_input, heads_of, replace_heads
from flaxmobile.weights import Metadata, WeightsDirectory, open_weights


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """Published weights, fetched and converted; has all that a `WeightsDirectory` has of use.

    Attributes:
      path: their name, such as timm:mobilenetv2_100.ra_in1k.
      conversion: from the file to the network.
    """

    path: Path
    conversion: Conversion

    @property
    def model_name(self) -> str:
        """Registered name of the network."""
        return self.conversion.model_name

    @property
    def options(self) -> Tree:
        """Options of `create_model`."""
        return self.conversion.filled.options

    @property
    def model(self) -> Model:
        """The network."""
        return self.conversion.filled.model

    @property
    def metadata(self) -> Metadata:
        """Preprocessing, class names, output and source."""
        return self.conversion.metadata

    def load(self) -> tuple[Model, Tree]:
        """Return the network and its variables, on the default device."""
        return self.model, jax.tree.map(jnp.asarray, self.conversion.filled.variables)


Weights = WeightsDirectory | PublishedWeights


def open_any_weights(weights: str | os.PathLike[str]) -> Weights:
    """Open a weights directory, or fetch published weights.

    Raises:
      InputError: as `open_weights` and `load_pretrained`.
    """
    if scheme_of(weights) is None:
        return open_weights(weights)
    return open_published(os.fspath(weights))


def open_published(name: str, chosen: Options = NO_OPTIONS) -> PublishedWeights:
    """Fetch published weights and convert them, with options over those of the file's network.

    Raises:
      InputError: as `load_pretrained`.
    """
    fetched = fetch(name, alpha=chosen.get("alpha"))
    return PublishedWeights(Path(name), convert_fetched(fetched, chosen=chosen))


def convert_fetched(
    fetched: Fetched,
    *,
    source: str = "auto",
    chosen: Options = NO_OPTIONS,
    stated: Statements = NOTHING_SAID,
    images: Sequence[Path] = (),
    selection: Selection = FOUND,
) -> Conversion:
    """Fill a network from a file and all that is known about it, see `convert_file`.

    Raises:
      InputError: as `convert_file`.
    """
    if fetched.origin == ORIGIN:
        if images:
            raise InputError(
                "--verify compares with another library, and no other has this network"
            )
        return convert_own(fetched, chosen, stated)
    return convert_file(
        fetched.path,
        fetched.model,
        source=fetched.origin if source == "auto" else source,
        chosen=chosen,
        published=fetched.published,
        stated=stated.over(fetched.said),
        images=images,
        selection=selection,
    )


def load_pretrained(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    out_strides: Sequence[int] | None = None,
    taps: Sequence[str] = (),
    key: jax.Array | None = None,
    **options: Any,
) -> tuple[Model, Tree]:
    """Build a network with published weights, which are fetched once and verified.

    Needs no library of the publisher; `timm:` and `hf:` need the extra `hub`, `keras:` needs h5py,
    `mediapipe:` the extra `tflite`.
    Files are cached where the publisher's library caches its own, and are read from there offline.

    Args:
      name: "torchvision:NAME", "timm:NAME", "keras:NAME" or "mediapipe:NAME", as
        `flaxmobile list --pretrained` shows them, or the network alone
        ("torchvision:mobilenet_v2") for the weights that the library takes by default; or
        "hf:OWNER/REPOSITORY[@REVISION]" of the Hugging Face Hub.
      num_classes: width of the classifier: another than that of the weights gives a new one before
        the backbone as published, 0 gives pooled features; by default that of the weights.
      in_channels: channels of the images; the first kernel is adapted to another number than that
        of the weights, see `flaxmobile.variables.adapt_input`.
      out_strides: which feature maps to return instead of logits, see `create_backbone`.
      taps: further feature maps, see `create_backbone`.
      key: for the initial numbers of a new classifier; by default `jax.random.key(0)`.
      **options: over those of the weights' network, such as `dtype`, `aux_logits` or
        `output_stride`.

    Returns:
      The model, and its variables as float32 arrays on the default device.

    Raises:
      InputError: no such weights or option, the weights cannot be fetched or are damaged, or a
        library for that is not installed.
    """
    if scheme_of(name) is None:
        accepted = ", ".join(f"{scheme}:NAME" for scheme in SCHEMES)
        raise InputError(
            f"{name!r} names no published weights; accepted: {accepted}; load_weights reads a "
            "directory"
        )
    maps = out_strides is not None or bool(taps)
    if maps and num_classes:
        raise InputError(f"num_classes is {num_classes}; with out_strides or taps accepted: 0")
    headless = {"num_classes": 0} if maps or num_classes == 0 else {}
    weights = open_published(name, {**options, **headless})
    model, variables = weights.load()
    options = dict(weights.options)
    if in_channels not in (None, model.in_channels):
        options["in_channels"] = in_channels
        model = build(weights.model_name, **options)
        variables = adapt_input(model, variables)
    if maps:
        model = create_backbone(weights.model_name, out_strides=out_strides, taps=taps, **options)
        return model, _pick(variables, abstract_variables(model))
    if num_classes in (None, model.num_classes):
        return model, variables
    model = build(weights.model_name, **{**options, "num_classes": num_classes})
    images = jnp.zeros((1, *[model.min_image_size] * 2, model.in_channels))
    # Compiled, so that XLA drops everything but the heads' numbers.
    initialize = jax.jit(lambda key: heads_of(model, model.init(key, images)))
    fresh = initialize(jax.random.key(0) if key is None else key)
    return model, replace_heads(model, variables, fresh)


def _pick(variables: Tree, wanted: Tree) -> Tree:
    """Return the variables that are in a smaller tree."""
    flat = traverse_util.flatten_dict(variables)
    return traverse_util.unflatten_dict(
        {path: flat[path] for path in traverse_util.flatten_dict(wanted)}
    )
