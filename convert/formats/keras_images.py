"""The layers of a Keras model that prepare images, as statements about preprocessing.

They are those of `keras.layers`, and the operations that `preprocess_input` of
`keras.applications` makes. Images are taken to arrive as pixels in 0..255.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from convert.formats.contents import Statements
from convert.formats.keras_graph import Graph, Layer
from flaxmobile.errors import InputError
from flaxmobile.preprocessing import INTERPOLATIONS

_INACTIVE = re.compile("InputLayer|.*Dropout|Identity|ActivityRegularization|Cast|cast")
"""Layers that pass images on in inference."""
_AUGMENTATION = re.compile("Random(?!Crop).+|GaussianNoise|RandAugment|AugMix|MixUp|CutMix")
_STEM_PADDING = re.compile("(?i)conv1?_pad")
"""Names of the zeros beside the first convolution in Keras 2's networks."""

_WEIGHTED = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense", "BatchNormalization")

_SHIFTS = (np.add, np.subtract)
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("TrueDivide", "Divide", "math.truediv", "math.divide"), np.divide),
    **dict.fromkeys(("Subtract", "math.subtract"), np.subtract),
    **dict.fromkeys(("Multiply", "math.multiply"), np.multiply),
    **dict.fromkeys(("Add", "math.add", "__operators__.add"), np.add),
}
"""Operation of Keras 3 or TensorFlow -> the function of pixels and a number."""

_EPSILON = 1e-7
"""Least deviation of a `Normalization`: `keras.backend.epsilon()`."""


def read_preparation(graph: Graph, tensors: Mapping[str, np.ndarray]) -> "Preparation":
    """Follow the images from the model's input to the first layer of the network.

    Args:
      graph: the model.
      tensors: of its layers by name; a `Normalization` that was adapted has its numbers there.

    Raises:
      InputError: the first layer with weights is not a network's.
    """
    preparation = Preparation(tensors)
    inputs = [place for place, layer in enumerate(graph.layers) if layer.kind == "InputLayer"]
    places = inputs[:1] or list(range(len(graph.layers)))[:1]
    while len(places) == 1:
        layer = graph.layers[places[0]]
        if layer.kind in _WEIGHTED:
            _check_stem(layer)
            break
        preparation.add(layer)
        places = graph.after(places[0])
    return preparation


def _check_stem(layer: Layer) -> None:
    """Raise InputError unless a layer is such as all networks of `keras.applications` begin with.

    It is a 3×3 convolution of stride 2 without bias.
    """
    config = layer.config
    shape = [config.get("kernel_size"), config.get("strides"), config.get("use_bias")]
    if layer.kind != "Conv2D" or shape != [[3, 3], [2, 2], False]:
        raise InputError(
            f"has {layer.name} ({layer.kind}) as its first layer with weights, which no network "
            "has that is known here: a layer before the network is not converted"
        )


class Preparation:
    """The effect of layers on images, in the order in which they are added.

    Attributes:
      fields: of `Preprocessing`: image_size, resize_size, interpolation, mean, std.
      unread: layers whose effect is not one of those fields; then mean and std are left out.
      used: names of layers whose tensors are in the fields.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Start with pixels as they are; `tensors` by name."""
        self.unread: list[str] = []
        self.used: list[str] = []
        self._tensors = tensors
        self._sizes: dict[str, Any] = {}
        self._scale: Any = 1.0
        self._offset: Any = 0.0
        self._scaling: list[str] = []
        self._augmenting: list[str] = []

    def add(self, layer: Layer) -> None:
        """Add the effect of a layer."""
        kind, config = layer.kind, layer.config
        if kind == "InputLayer":
            self._take(config.get("batch_shape") or config.get("batch_input_shape"))
        elif _AUGMENTATION.fullmatch(kind):
            self._augmenting.append(kind)
        elif _INACTIVE.fullmatch(kind) or _STEM_PADDING.fullmatch(layer.name):
            pass
        elif not self._resize(kind, config) and not self._scale_pixels(layer):
            self.unread.append(f"{layer.name} ({kind})")

    def _take(self, shape: Any) -> None:
        """Note the size of the model's input [n, h, w, 3], where it has one that is square."""
        if shape and len(shape) == 4 and shape[1] and shape[1] == shape[2]:
            self._sizes |= {"image_size": shape[1], "resize_size": shape[1]}

    def _resize(self, kind: str, config: Mapping[str, Any]) -> bool:
        """Add the effect of a layer that changes the size; say whether it is one."""
        side = config.get("height")
        if side is None or side != config.get("width"):
            return False
        if kind in ("Resizing", "RandomCrop"):  # which in inference resizes and crops the centre
            self._sizes |= {"image_size": side, "resize_size": side}
            if (name := config.get("interpolation")) in INTERPOLATIONS:
                self._sizes["interpolation"] = name
            return kind == "RandomCrop" or name in INTERPOLATIONS
        if kind == "CenterCrop" and "resize_size" in self._sizes:
            self._sizes["image_size"] = side
            return True
        return False

    def _scale_pixels(self, layer: Layer) -> bool:
        """Add the effect of a layer that scales or shifts pixels; say whether it is one."""
        steps = [] if self.unread else list(self._steps(layer))
        for operation, number in steps:
            self._scale = self._scale if operation in _SHIFTS else operation(self._scale, number)
            self._offset = operation(self._offset, number)
        self._scaling += [layer.name] * bool(steps)
        return bool(steps)

    def _steps(self, layer: Layer) -> Iterator[tuple[Callable[[Any, Any], Any], Any]]:
        """Yield what a layer does to pixels: operations with a number, or one per channel."""
        config = layer.config
        if layer.kind == "Rescaling":
            scale, offset = (_numbers(config[name]) for name in ("scale", "offset"))
            if scale is not None and offset is not None:
                yield from ((np.multiply, scale), (np.add, offset))
        elif layer.kind == "Normalization" and not config.get("invert"):
            mean, variance = (self._statistic(layer, name) for name in ("mean", "variance"))
            if mean is not None and variance is not None:
                deviation = np.maximum(np.sqrt(variance), _EPSILON)
                yield from ((np.subtract, mean), (np.divide, deviation))
        elif layer.kind in _ARITHMETIC and len(layer.arguments) == 2 and layer.arguments[0] is None:
            number = _numbers(layer.arguments[1])
            if number is not None:
                yield _ARITHMETIC[layer.kind], number

    def _statistic(self, layer: Layer, name: str) -> np.ndarray | None:
        """Return a mean or variance: of the configuration, or of the tensors after `adapt`."""
        value = layer.config.get(name)
        if value is None and (value := self._tensors.get(f"{layer.name}/{name}")) is not None:
            self.used = list(dict.fromkeys([*self.used, layer.name]))
        return _numbers(value)

    @property
    def statements(self) -> Statements:
        """The statements about preprocessing."""
        fields = dict(self._sizes)
        scale, offset = (np.broadcast_to(x, 3) * 1.0 for x in (self._scale, self._offset))
        unread = list(self.unread)
        if self._scaling and not unread:
            if (scale > 0).all() and np.isfinite([scale, offset]).all():
                fields |= {
                    "mean": _rounded(-offset / scale / 255),
                    "std": _rounded(1 / scale / 255),
                }
            else:
                unread = self._scaling
        return Statements(fields, unread=tuple(unread))

    def describe(self) -> Iterator[str]:
        """Yield sentences for the user."""
        if self._scaling and not self.unread:
            yield f"the file's own layers prepare pixels of 0..255: {', '.join(self._scaling)}"
        if self._augmenting:
            yield f"left out, as augmentation for training: {', '.join(self._augmenting)}"


def _numbers(value: Any) -> np.ndarray | None:
    """Return one number or three (one per channel) of a configuration; None for anything else."""
    if isinstance(value, Mapping):  # an array
        value = value.get("config", {}).get("value")
    try:
        numbers = np.asarray(value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    return numbers if numbers.size in (1, 3) and np.isfinite(numbers).all() else None


def _rounded(numbers: np.ndarray) -> tuple[float, ...]:
    """Round to more digits than the float32 has with which Keras computes."""
    return tuple(float(f"{number:.9g}") + 0.0 for number in numbers)
