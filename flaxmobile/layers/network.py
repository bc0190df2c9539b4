"""Base classes of all networks: options, their checks, and the classifier."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, check_choice, check_value
from flaxmobile.layers.activations import ACTIVATIONS
from flaxmobile.layers.backbone import PADDINGS, Backbone
from flaxmobile.layers.dropout import Dropout
from flaxmobile.layers.parameters import trace_init
from flaxmobile.layers.quantization import Dense, activate, join_ranges, quantize, quantizing
from flaxmobile.layers.taps import Maps
from flaxmobile.ops import global_mean, native_forms

AUX_LOGITS = "aux_logits"
"""Collection into which a network with auxiliary classifiers sows their logits in training."""


class Network(Backbone):
    """A classifier, or with `out_strides` or `taps` a backbone, with the same parameters.

    Differentiable in reverse mode, any number of times; not in forward mode (`jax.jvp`). The
    statistics that training updates have no gradient, as in PyTorch.

    Attributes:
      num_classes: width of the classifier; 0 gives pooled features.
      dense_layers: channels and activation of each dense layer between the pooled features and the
        classifier, such as ((100, "relu"),); see `ACTIVATIONS`. Without classes there is none.
      in_channels: channels of the images.
      dropout_rate: dropout before the classifier.
      dtype: type of the arithmetic; parameters are float32, logits float32 or wider.
      The others: see `Backbone`.
    """

    num_classes: int = 1000
    dense_layers: tuple[tuple[int, str], ...] = ()
    in_channels: int = 3
    dropout_rate: float = 0.2

    min_image_size: ClassVar[int] = 32
    heads: ClassVar[tuple[str, ...]] = ("classifier",)
    """Top-level parameter groups that depend on the number of classes."""
    aux_weight: ClassVar[float] = 0.0
    """Weight of each auxiliary classifier's loss."""
    detector_channels: ClassVar[int] = 0
    """Channels at alpha 1 of the classifier's last 1×1 convolution, where the paper's detector has
    that too; otherwise 0."""

    @property
    def gives_logits(self) -> bool:
        """Whether the output is logits [n, …, num_classes]."""
        return self.num_classes > 0 and not self.is_backbone

    @property
    def channels(self) -> dict[int | str, int]:
        """Channels of a backbone's maps by stride or tap, without running it.

        Raises:
          InputError: the network is a classifier, which gives no maps.
        """
        if not self.is_backbone:
            raise InputError("a classifier has no maps; accepted: a backbone (create_backbone)")
        return dict(_trace_channels(self.clone(parent=None, name=None)))

    def countable(self) -> "Network":
        """Return a form of the network that calls each layer once, for `summarize`."""
        return self

    def size_text(self) -> str:
        """Name the size of the network, for messages."""
        return f"{self.num_classes} classes"

    def epsilon_of(self, group: str) -> float:
        """Return the epsilon of the normalizations in a top-level group of parameters."""
        return self.norm_epsilon

    def momentum_of(self, group: str) -> float:
        """Return the momentum of the normalizations in a top-level group of parameters."""
        return self.norm_momentum

    def without_momentum(self) -> Self:
        """Return a form of the network whose new running statistics are those of the batch."""
        return self.clone(norm_momentum=0.0)

    def shared_ranges(self) -> Sequence[Sequence[str]]:
        """List groups of blocks whose outputs have one range in the int8 model."""
        return ()

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        self.check_options()
        self.check_maps()

    def check_options(self) -> None:
        """Raise InputError for a wrong option, other than a stride or a tap."""
        if self.quantized:
            self._check_quantized()
        elif self.given_steps:
            raise InputError("given_steps is True; accepted: in a quantized network")
        rate, momentum, epsilon = self.dropout_rate, self.norm_momentum, self.norm_epsilon
        check_value("num_classes", self.num_classes, self.num_classes >= 0, "0 or more")
        check_value("in_channels", self.in_channels, self.in_channels >= 1, "1 or more")
        check_value("dropout_rate", rate, 0 <= rate < 1, "0 or more, below 1")
        check_value("norm_momentum", momentum, 0 <= momentum <= 1, "0 to 1")
        check_value("norm_epsilon", epsilon, epsilon >= 0, "0 or more")
        check_choice("padding", self.padding, PADDINGS)
        for layer in self.dense_layers:
            fine = len(layer) == 2 and isinstance(layer[0], int) and layer[0] > 0
            check_value("dense_layers", layer, fine, "pairs of channels and an activation")
            check_choice("the activation in dense_layers", layer[1], ACTIVATIONS)

    def _check_quantized(self) -> None:
        if not self.quantizes:
            raise InputError(f"{type(self).__name__} cannot be quantized in training")
        if not self.folded or jnp.dtype(self.dtype) != jnp.float32:
            raise InputError("quantized is True; accepted: with folded=True, in float32")

    def check_images(self, images: Array) -> Array:
        """Raise InputError unless images are [n, h, w, in_channels], large enough; cast them."""
        check_is_array(images)
        least, channels = self.min_image_size, self.in_channels
        if images.ndim != 4 or images.shape[3] != channels or min(images.shape[1:3]) < least:
            raise InputError(
                f"images have shape {list(images.shape)}; accepted: [n, h, w, {channels}] with h "
                f"and w of at least {least}"
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"images have dtype {images.dtype}; accepted: floating point, normalized as the "
                "weights expect (see flaxmobile.Preprocessing)"
            )
        return images.astype(self.dtype)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Any:
        """Map images [n, h, w, in_channels] to logits [n, num_classes], or {stride or tap: map}."""
        self.check()
        _check_train(train)
        with self._forms(train):
            maps = self.walk(quantize(self.check_images(images), "images_range"), train)
            if self.is_backbone:
                return maps.pick(self.out_strides or (), self.taps)
            return self.finish(maps, train)

    @contextlib.contextmanager
    def _forms(self, train: bool) -> Iterator[None]:
        """Trace operations in the form, and with the rounding, that the options ask for."""
        with contextlib.ExitStack() as stack:
            if self.native:
                stack.enter_context(native_forms())
            if self.quantized:
                stack.enter_context(
                    quantizing(
                        updates=train and not self.frozen_norm,
                        momentum=self.norm_momentum,
                        marks=self.native and not train,
                        shared=self._joined_ranges(),
                        given_steps=self.given_steps,
                    )
                )
            yield

    def _joined_ranges(self) -> dict[tuple[str, ...], tuple[Any, Any]]:
        joined = join_ranges(self.shared_ranges(), self.variables.get("batch_stats", {}))
        return {(*self.path, *path): ends for path, ends in joined.items()}

    # Not `head`: `nnx.bridge.ToNNX` refuses methods called like a group of parameters.
    def finish(self, maps: Maps, train: bool) -> Any:
        """Map the blocks' outputs to logits [n, num_classes], or without classes to [n, c]."""
        return self.classify(maps.last, train)

    def classify(self, x: Array, train: bool) -> Array:
        """Pool x [n, h, w, c], apply dropout, and classify to [n, num_classes] (or [n, c])."""
        return self.logits(self.pool(x), train)

    def pool(self, x: Array) -> Array:
        """Average x [n, h, w, c] to [n, c] in float32 or wider."""
        return quantize(global_mean(x), "pooled_range")

    def logits(self, x: Array, train: bool, use_bias: bool = True) -> Array:
        """Apply the dense layers to x [n, c], dropout, and the classifier; without classes none."""
        if self.num_classes == 0:
            return x
        for number, (channels, activation) in enumerate(self.dense_layers, start=1):
            x = Dense(channels, dtype=x.dtype, name=f"dense{number}")(x)
            x = activate(ACTIVATIONS[activation], x, f"dense{number}_range")
        x = Dropout(self.dropout_rate, self.axis_name, name="dropout")(x, deterministic=not train)
        logits = Dense(
            self.num_classes,
            use_bias,
            kernel_init=nn.initializers.normal(0.01),
            dtype=jnp.promote_types(self.dtype, jnp.float32),
            name="classifier",
        )(x)
        return quantize(logits, "logits_range")

    def runs_auxiliary(self, train: bool) -> bool:
        """Whether auxiliary classifiers are computed: in training and at initialization."""
        return self.gives_logits and (train or self.is_initializing())

    def sow_auxiliary(self, name: str, logits: Array) -> None:
        """Sow the logits [n, num_classes] of an auxiliary classifier, for the training step."""
        if not self.is_initializing():
            self.sow(AUX_LOGITS, name, logits)


@functools.lru_cache(maxsize=64)
def _trace_channels(backbone: Network) -> dict[int | str, int]:
    side = backbone.min_image_size
    images = jax.ShapeDtypeStruct((1, side, side, backbone.in_channels), jnp.float32)
    maps, _ = trace_init(backbone, images)
    return {name: each.shape[-1] for name, each in maps.items()}


def check_is_array(images: Any) -> None:
    """Raise InputError unless images are an array of NumPy or JAX."""
    if not isinstance(images, np.ndarray | Array):
        kind = f"{type(images).__module__}.{type(images).__name__}".removeprefix("builtins.")
        raise InputError(
            f"images are of type {kind}; accepted: an array of NumPy or JAX, floating point "
            "[n, h, w, c], normalized as the weights expect (see flaxmobile.Preprocessing)"
        )


def _check_train(train: Any) -> None:
    try:
        bool(train)
    except jax.errors.TracerBoolConversionError:
        raise InputError(
            "train is traced by jit; accepted: True or False when it compiles, such as by "
            'jax.jit(model.apply, static_argnames="train")'
        ) from None
