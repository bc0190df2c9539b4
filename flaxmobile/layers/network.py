"""What every network shares: its options, their checks, the endpoints and the classifier."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers.conv import ConvNorm
from flaxmobile.layers.dropout import Dropout
from flaxmobile.ops import global_mean

PADDINGS = ("symmetric", "same")

AUX_LOGITS = "aux_logits"
"""Collection into which a network with auxiliary classifiers sows their logits in training."""


class Network(nn.Module):
    """A classifier, or with `out_strides` a backbone: one module, so one tree of parameters.

    Differentiable in reverse mode, any number of times; not in forward mode (`jax.jvp`). The
    statistics that training updates have no gradient, as in PyTorch.

    Attributes:
      num_classes: width of the classifier; 0 gives pooled features.
      dropout_rate: before the classifier.
      padding: "symmetric" (PyTorch) or "same" (TensorFlow and Keras).
      norm_momentum, norm_epsilon: see `BatchNorm`.
      output_stride: input size over the size of the last feature map: 8, 16 or 32. Strides beyond
        it become dilation, as in DeepLab (Chen et al. 2017, section 3.1).
      out_strides: give a dict {stride: feature map} instead of logits; nothing deeper is built.
      frozen_norm, folded, axis_name: see `ConvNorm`.
      dtype: type of the arithmetic; parameters are float32, logits float32 or wider.
    """

    num_classes: int = 1000
    dropout_rate: float = 0.2
    padding: str = "symmetric"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    output_stride: int = 32
    out_strides: tuple[int, ...] | None = None
    frozen_norm: bool = False
    folded: bool = False
    axis_name: str | None = None
    dtype: Any = jnp.float32

    min_image_size: ClassVar[int] = 32
    aux_weight: ClassVar[float] = 0.0
    """Of the mean loss of each of the logits that training sows under `AUX_LOGITS`."""
    output_strides: ClassVar[tuple[int, ...]] = (8, 16, 32)
    """The values of `output_stride` under the default options."""
    crops_edges: ClassVar[bool] = False
    """Has convolutions without padding: maps may be up to 5 pixels smaller than h / stride."""
    endpoint_strides: ClassVar[tuple[int, ...]] = (2, 4, 8, 16, 32)

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        if self.num_classes < 0:
            raise InputError(f"num_classes is {self.num_classes}; accepted: 0 or more")
        if not 0 <= self.dropout_rate < 1:
            raise InputError(f"dropout_rate is {self.dropout_rate}; accepted: 0 or more, below 1")
        if not 0 <= self.norm_momentum <= 1:
            raise InputError(f"norm_momentum is {self.norm_momentum}; accepted: 0 to 1")
        if not self.norm_epsilon >= 0:
            raise InputError(f"norm_epsilon is {self.norm_epsilon}; accepted: 0 or more")
        if self.padding not in PADDINGS:
            raise unknown("padding", self.padding, PADDINGS)
        accepted = self.accepted_output_strides
        if self.output_stride not in accepted:
            raise InputError(
                f"output_stride is {self.output_stride}; accepted: {_listed(accepted)}"
            )
        offered = [s for s in self.endpoint_strides if s <= self.output_stride]
        wrong = sorted(set(self.out_strides or ()) - set(offered))
        if wrong or self.out_strides == ():
            raise InputError(
                f"out_strides has {_listed(wrong) or 'no stride'}; "
                f"output_stride {self.output_stride} gives {_listed(offered)}"
            )

    @property
    def accepted_output_strides(self) -> tuple[int, ...]:
        """The values of `output_stride` under the other options."""
        return self.output_strides

    def check_images(self, images: Array) -> Array:
        """Raise InputError unless images are [n, h, w, 3], large enough; return them in dtype."""
        least = self.min_image_size
        if images.ndim != 4 or images.shape[3] != 3 or min(images.shape[1:3]) < least:
            raise InputError(
                f"images have shape {list(images.shape)}; accepted: [n, h, w, 3] with h and w of "
                f"at least {least}"
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise InputError(
                f"images have dtype {images.dtype}; accepted: floating point, normalized as the "
                "weights expect (see flaxmobile.Preprocessing)"
            )
        return images.astype(self.dtype)

    def conv_norm(self, **defaults: Any) -> partial[ConvNorm]:
        """Bind the network's options to `ConvNorm` once, for all of its layers."""
        return partial(
            ConvNorm,
            padding="SAME" if self.padding == "same" else self.padding,
            norm_momentum=self.norm_momentum,
            norm_epsilon=self.norm_epsilon,
            frozen_norm=self.frozen_norm,
            folded=self.folded,
            axis_name=self.axis_name,
            dtype=self.dtype,
            **defaults,
        )

    @property
    def deepest_stride(self) -> float:
        """The stride after which a backbone stops; infinite for a classifier."""
        return math.inf if self.out_strides is None else max(self.out_strides)

    def classify(self, x: Array, train: bool) -> Array:
        """Pool x [n, h, w, c], drop, and classify to [n, num_classes] (or [n, c])."""
        x = self.pool(x)
        return x if self.num_classes == 0 else self.logits(x, train)

    def pool(self, x: Array) -> Array:
        """Average x [n, h, w, c] to [n, c] in float32 or wider."""
        return global_mean(x)

    def logits(self, x: Array, train: bool, use_bias: bool = True) -> Array:
        """Drop pooled features x [n, c] and classify them to [n, num_classes]."""
        x = Dropout(self.dropout_rate, self.axis_name, name="dropout")(x, deterministic=not train)
        return nn.Dense(
            self.num_classes,
            use_bias,
            kernel_init=nn.initializers.normal(0.01),
            dtype=jnp.promote_types(self.dtype, jnp.float32),
            name="classifier",
        )(x)

    def runs_auxiliary(self, train: bool) -> bool:
        """Whether auxiliary classifiers are computed: in training, and to make their parameters.

        Never in a backbone, nor without classes.
        """
        classifies = self.num_classes > 0 and self.out_strides is None
        return classifies and (train or self.is_initializing())

    def sow_auxiliary(self, name: str, logits: Array) -> None:
        """Give the logits [n, num_classes] of an auxiliary classifier to the training step."""
        if not self.is_initializing():
            self.sow(AUX_LOGITS, name, logits)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
