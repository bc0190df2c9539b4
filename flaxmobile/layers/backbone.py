"""The walk over a network's blocks: how they are built and run, and which maps are returned."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, check_value, unknown
from flaxmobile.layers.chunks import in_chunks
from flaxmobile.layers.conv import Conv, ConvNorm
from flaxmobile.layers.rows import Unit
from flaxmobile.layers.stages import Block, Place, plan_places
from flaxmobile.layers.taps import Maps, block_of, tapped
from flaxmobile.ops import Padding

PADDINGS: dict[str, Padding] = {"symmetric": "symmetric", "same": "SAME"}
"""Option -> rule of `flaxmobile.ops.make_window`."""

REMAT_STRIDE = 4
"""Smallest stride of the maps whose blocks are recomputed. Maps of smaller strides have too few
channels to fill a v5e's tiles of 128: recomputing MobileNetV2's two blocks on maps of stride 2
costs 7 percent more memory traffic over the step, and saves 1.4 of 9.0 MB of memory per image."""

MakeUnit = Callable[..., Any]
"""Constructor of a unit (convolution, normalization, activation): `ConvNorm` with options bound."""
Layer = Callable[..., Array]
"""A block, a unit or a bare convolution; or a function of maps without parameters."""


class Backbone(nn.Module):
    """A sequence of blocks, and their feature maps.

    A subclass lists its blocks (`blocks`) and makes the layer of each (`build`).

    Attributes:
      padding: "symmetric" (PyTorch) or "same" (TensorFlow and Keras).
      norm_momentum: weight of the old running statistics in an update (1 - PyTorch's momentum).
      norm_epsilon: added to the variance by each normalization.
      output_stride: input size over the size of the last feature map: 8, 16 or 32. Strides beyond
        it become dilation, as in DeepLab (Chen et al. 2017, section 3.1).
      frozen_norm: use the running statistics in training too, and leave them as they are.
      folded: every normalization is folded into a kernel and a bias, see `fold_batch_norm`.
      quantized: compute with the numbers of the int8 model (fake quantization), see
        `layers.quantization`; the network is folded.
      given_steps: the scales of a quantized network's kernels are variables, as they are in a file
        that was quantized elsewhere.
      axis_name: the `jax.pmap` axis over which statistics of the batch are averaged.
      dtype: type of the arithmetic; parameters are float32.
      out_strides: strides of the feature maps to return; deeper blocks are not built.
      taps: names of further maps to return: "stage6_block1", the output of a block, or
        "stage6_block1/expand", the output of a unit inside it.
      remat: recompute blocks in the backward pass instead of saving their activations.
      chunk_bytes: in inference, run each block on chunks of images whose widest map fits into this
        many bytes; None runs the whole batch at once.
      native: compute every operation in the form that an accelerator gets, whatever the platform.
    """

    padding: str = "symmetric"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    output_stride: int = 32
    frozen_norm: bool = False
    folded: bool = False
    quantized: bool = False
    given_steps: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32
    out_strides: tuple[int, ...] | None = None
    taps: tuple[str, ...] = ()
    remat: bool = False
    chunk_bytes: int | None = None
    native: bool = False

    quantizes: ClassVar[bool] = False
    """Whether the network marks which activations its int8 model stores, as `quantized` needs."""
    dilates: ClassVar[bool] = True
    """Whether blocks can dilate instead of shrinking, so that `output_stride` is a choice."""
    endpoint_strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)
    inverted_residuals: ClassVar[bool] = False
    """Whether blocks are inverted residuals, whose units are "expand", where they widen, and
    "depthwise": heads tap them."""

    def blocks(self) -> Iterable[Block]:
        """List the network's blocks in order, the stem first."""
        raise NotImplementedError

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block, unless its row is a `Unit` or a function of maps."""
        raise NotImplementedError

    @property
    def output_strides(self) -> tuple[int, ...]:
        """Values of `output_stride` that the network offers under its other options."""
        deepest = math.prod(block.stride for block in self.blocks())
        return tuple(s for s in (8, 16, 32) if s <= deepest) if self.dilates else (deepest,)

    @property
    def is_backbone(self) -> bool:
        """Whether the output is feature maps instead of logits."""
        return self.out_strides is not None or bool(self.taps)

    def places(self) -> list[Place]:
        """List the network's blocks in order, with their strides and dilations."""
        return plan_places(self.blocks(), self.output_stride)

    @property
    def window_padding(self) -> Padding:
        """The rule of `flaxmobile.ops.make_window` that `padding` names."""
        return PADDINGS[self.padding]

    def unit(self, **defaults: Any) -> partial[ConvNorm]:
        """Bind the network's options to `ConvNorm` once, for all of its layers."""
        return partial(
            ConvNorm,
            padding=self.window_padding,
            norm_momentum=self.norm_momentum,
            norm_epsilon=self.norm_epsilon,
            frozen_norm=self.frozen_norm,
            folded=self.folded,
            axis_name=self.axis_name,
            dtype=self.dtype,
            **defaults,
        )

    def walk(self, x: Array, train: bool) -> Maps:
        """Run the blocks in order; a backbone stops after the last map that it returns."""
        maps, unit, stride = Maps(), self.unit(), 1
        for place in self._places_to_run():
            outputs: dict[str, Array] = {}
            inside = any(tap.startswith(f"{place.name}/") for tap in self.taps)
            layer = self._make(place, tapped(unit, place.name, outputs) if inside else unit)
            x, outputs = self._run(layer, x, train, stride, outputs)
            maps.add(place, x, outputs)
            stride = place.geometry.total
        return maps

    def _make(self, place: Place, unit: MakeUnit) -> Layer:
        if isinstance(place.row, Unit):
            layer: Layer = place.row.make(unit)
            return layer
        return place.row if callable(place.row) else self.build(place, unit)

    def _places_to_run(self) -> list[Place]:
        places = self.places()
        if not self.is_backbone:
            return places
        deepest, names = max(self.out_strides or (0,)), set(map(block_of, self.taps))
        asked = [
            number
            for number, place in enumerate(places, start=1)
            if place.geometry.total <= deepest or place.name in names
        ]
        return places[: asked[-1]]

    def run(self, layer: Layer, x: Array, train: bool) -> Array:
        """Run a layer after the blocks as blocks are run, recomputed or in chunks."""
        return self._run(layer, x, train, self.output_stride, {})[0]

    def _run(
        self, layer: Layer, x: Array, train: bool, stride: int, outputs: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Apply a layer to a map of this stride; return its output and its tapped units'."""
        if not isinstance(layer, nn.Module):
            return layer(x), {}

        def apply(layer: nn.Module, x: Array) -> tuple[Array, dict[str, Array]]:
            y = layer(x) if isinstance(layer, Conv) else layer(x, train)
            return y, dict(outputs)  # returned through `nn.remat` or the loop

        if self.remat and train and stride >= REMAT_STRIDE:
            recomputed: tuple[Array, dict[str, Array]] = nn.remat(apply)(layer, x)
            return recomputed
        # A quantized block finds the ranges that it shares by its path, which a chunk lacks.
        if self.chunk_bytes is None or train or self.quantized or self.is_initializing():
            return apply(layer, x)
        function = nn.apply(apply, layer.clone(parent=None))
        return in_chunks(partial(function, layer.variables), x, self.chunk_bytes)

    def check_maps(self) -> None:
        """Raise InputError for a stride or a tap that the network does not have."""
        stride, strides = self.output_stride, self.output_strides
        check_value("output_stride", stride, stride in strides, ", ".join(map(str, strides)))
        offered = [s for s in self.endpoint_strides if s <= self.output_stride]
        wrong = sorted(set(self.out_strides or ()) - set(offered))
        if wrong or (self.out_strides == () and not self.taps):
            raise InputError(
                f"out_strides has {', '.join(map(str, wrong)) or 'no stride'}; output_stride "
                f"{self.output_stride} gives {', '.join(map(str, offered))}"
            )
        names = [block.name for block in self.blocks()] if self.taps else []
        for tap in self.taps:
            if block_of(tap) not in names:
                raise unknown("tap", tap, names)
