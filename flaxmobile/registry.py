"""Every network by name: how to build it, and the facts that belong to it."""

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import Network
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.models.ic_conv import ICConvNet
from flaxmobile.models.inception_resnet_v2 import InceptionResNetV2
from flaxmobile.models.inception_v1 import InceptionV1
from flaxmobile.models.inception_v2 import InceptionV2
from flaxmobile.models.inception_v3 import InceptionV3
from flaxmobile.models.inception_v4 import InceptionV4
from flaxmobile.models.mnasnet import MnasNet
from flaxmobile.models.mobilenet_v1 import MobileNetV1
from flaxmobile.models.mobilenet_v2 import MobileNetV2
from flaxmobile.models.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from flaxmobile.models.mobilenext import MobileNeXt
from flaxmobile.models.shufflenet_v1 import ShuffleNetV1
from flaxmobile.models.shufflenet_v2 import ShuffleNetV2
from flaxmobile.models.xception import Xception


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known about a registered network.

    Attributes:
      network: the module class.
      aliases: short names.
      year, paper: when and where it was published.
      params, macs: at the default options and `image_size`, as `summarize` counts them.
      image_size: side of the input that its accuracy was measured at, in pixels.
      top1: ImageNet accuracy in percent of the reference weights, where published.
      top1_source: which weights those are, at the default options.
    """

    network: type[Network]
    aliases: tuple[str, ...]
    year: int
    params: int
    macs: int
    paper: str
    image_size: int = 224
    top1: float | None = None
    top1_source: str = ""


SPECS: dict[str, Spec] = {
    "mobilenet_v1": Spec(
        network=MobileNetV1,
        aliases=("v1",),
        year=2017,
        params=4_231_976,
        macs=568_740_352,
        paper=(
            "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications "
            "(arXiv:1704.04861)"
        ),
        top1=70.9,
        top1_source="TF-slim MobileNet_v1_1.0_224",
    ),
    "mobilenet_v2": Spec(
        network=MobileNetV2,
        aliases=("v2",),
        year=2018,
        params=3_504_872,
        macs=300_774_272,
        paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks (arXiv:1801.04381)",
        top1=72.154,
        top1_source="torchvision IMAGENET1K_V2",
    ),
    "mobilenet_v3_large": Spec(
        network=MobileNetV3Large,
        aliases=("v3", "v3-large"),
        year=2019,
        params=5_483_032,
        macs=216_589_760,
        paper="Searching for MobileNetV3 (arXiv:1905.02244)",
        top1=75.274,
        top1_source="torchvision IMAGENET1K_V2",
    ),
    "mobilenet_v3_small": Spec(
        network=MobileNetV3Small,
        aliases=("v3-small",),
        year=2019,
        params=2_542_856,
        macs=56_510_400,
        paper="Searching for MobileNetV3 (arXiv:1905.02244)",
        top1=67.668,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "mobilenext": Spec(
        network=MobileNeXt,
        aliases=(),
        year=2020,
        params=3_535_416,
        macs=311_342_592,
        paper=(
            "Rethinking Bottleneck Structure for Efficient Mobile Network Design (arXiv:2007.02269)"
        ),
        top1=74.02,
        top1_source="the authors' MobileNeXt-1.00",
    ),
    "mnasnet": Spec(
        network=MnasNet,
        aliases=(),
        year=2018,
        params=4_383_312,
        macs=314_415_872,
        paper=("MnasNet: Platform-Aware Neural Architecture Search for Mobile (arXiv:1807.11626)"),
        top1=73.456,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "shufflenet_v1": Spec(
        network=ShuffleNetV1,
        aliases=(),
        year=2017,
        params=1_864_728,
        macs=137_460_672,
        paper=(
            "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices "
            "(arXiv:1707.01083)"
        ),
    ),
    "shufflenet_v2": Spec(
        network=ShuffleNetV2,
        aliases=(),
        year=2018,
        params=2_278_604,
        macs=144_907_992,
        paper=(
            "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design "
            "(arXiv:1807.11164)"
        ),
        top1=69.362,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "inception_v1": Spec(
        network=InceptionV1,
        aliases=("googlenet",),
        year=2014,
        params=6_624_904,
        macs=1_498_376_192,
        paper="Going Deeper with Convolutions (arXiv:1409.4842)",
        top1=69.778,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "inception_v2": Spec(
        network=InceptionV2,
        aliases=(),
        year=2015,
        params=11_188_224,
        macs=1_934_857_216,
        paper=(
            "Batch Normalization: Accelerating Deep Network Training by Reducing Internal "
            "Covariate Shift (arXiv:1502.03167)"
        ),
    ),
    "inception_v3": Spec(
        network=InceptionV3,
        aliases=(),
        year=2015,
        params=23_834_568,
        macs=5_713_216_096,
        paper="Rethinking the Inception Architecture for Computer Vision (arXiv:1512.00567)",
        image_size=299,
        top1=77.294,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "inception_v4": Spec(
        network=InceptionV4,
        aliases=(),
        year=2016,
        params=42_679_816,
        macs=12_253_974_624,
        paper=(
            "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning "
            "(arXiv:1602.07261)"
        ),
        image_size=299,
    ),
    "inception_resnet_v2": Spec(
        network=InceptionResNetV2,
        aliases=(),
        year=2016,
        params=55_843_464,
        macs=13_155_794_016,
        paper=(
            "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning "
            "(arXiv:1602.07261)"
        ),
        image_size=299,
    ),
    "xception": Spec(
        network=Xception,
        aliases=(),
        year=2016,
        params=22_855_952,
        macs=8_357_403_496,
        paper="Xception: Deep Learning with Depthwise Separable Convolutions (arXiv:1610.02357)",
        image_size=299,
    ),
    "ic_conv": Spec(
        network=ICConvNet,
        aliases=(),
        year=2021,
        params=25_557_032,
        macs=4_089_184_256,
        paper="Inception Convolution with Efficient Dilation Search (arXiv:2012.13587)",
    ),
    "blazeface": Spec(
        network=BlazeFace,
        aliases=(),
        year=2019,
        params=156_760,
        macs=32_774_400,
        paper=(
            "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs (arXiv:1907.05047)"
        ),
        image_size=128,
    ),
}
ALIASES = {alias: name for name, spec in SPECS.items() for alias in spec.aliases}

DTYPES = ("float32", "bfloat16", "float16", "float64")
_NOT_OPTIONS = ("parent", "name", "out_strides", "taps", "remat", "chunk_bytes", "native")


def list_models() -> tuple[str, ...]:
    """Names that `create_model` accepts, without the aliases."""
    return tuple(SPECS)


def resolve_name(name: str) -> str:
    """Return the registered name for a name or an alias such as `v2`.

    Raises:
      InputError: no such network; says the nearest valid name.
    """
    resolved = ALIASES.get(name, name)
    if resolved not in SPECS:
        raise unknown("model", name, [*SPECS, *ALIASES])
    return resolved


def get_spec(name: str) -> Spec:
    """Return what is known about a network, by its name or alias."""
    return SPECS[resolve_name(name)]


def create_model(name: str, **options: Any) -> Network:
    """Build a classifier.

    Args:
      name: a name of `list_models()` or an alias such as "v2".
      **options: fields of the network's class, such as `alpha`, `num_classes`, `dtype` (a type or
        its name), `padding`, `output_stride`.

    Returns:
      A Flax module: `model.init(key, images)` and `model.apply(variables, images, train=False)`
      for images [n, h, w, 3] give logits [n, num_classes] in float32.

    Raises:
      InputError: an unknown name or option, or a value that the network does not offer.
    """
    return _build(name, options)


def create_backbone(
    name: str,
    *,
    out_strides: Sequence[int] | None = None,
    output_stride: int | None = None,
    taps: Sequence[str] = (),
    **options: Any,
) -> Network:
    """Build a feature extractor, whose variables are the classifier's without the head.

    Args:
      name: a name of `list_models()` or an alias.
      out_strides: which feature maps to return; by default all that the network has. Layers beyond
        the deepest of them are not built.
      output_stride: the largest stride; beyond it convolutions are dilated instead. By default the
        largest that the network has: 32, of BlazeFace 16.
      taps: further maps by name: "stage6_block1" for the output of a block, "stage6_block1/expand"
        for that of a unit inside it.
      **options: as for `create_model`.

    Returns:
      A Flax module that maps images [n, h, w, 3] to {stride or tap: features}, where features are
      [n, ceil(h / stride), ceil(w / stride), c].

    Raises:
      InputError: an unknown name or option, a stride that the network cannot give, or a tap in no
        block of the network. A tap of a block without such a unit is found when the network runs.
    """
    if output_stride is None:
        output_stride = max(_build(name, options).output_strides)
    _check_type("output_stride", _plain(output_stride), int)
    if out_strides is None:
        offered = get_spec(name).network.endpoint_strides
        out_strides = tuple(s for s in offered if s <= output_stride)
    maps = {"out_strides": _plain(out_strides), "taps": _plain(taps)}
    for option, hint in (("out_strides", tuple[int, ...]), ("taps", tuple[str, ...])):
        _check_type(option, maps[option], hint)
    return _build(name, {**options, "output_stride": output_stride}, **maps)


def model_options(name: str) -> dict[str, dataclasses.Field[Any]]:
    """The options of a network by name, with their types and defaults."""
    fields = dataclasses.fields(get_spec(name).network)
    return {field.name: field for field in fields if field.name not in _NOT_OPTIONS}


def options_of(model: Network) -> dict[str, Any]:
    """The values of a network's options, by name."""
    fields = (field.name for field in dataclasses.fields(model))
    return {name: getattr(model, name) for name in fields if name not in _NOT_OPTIONS}


def _build(name: str, options: dict[str, Any], **extra: Any) -> Network:
    spec, offered = get_spec(name), model_options(name)
    for option in options:
        if option not in offered:
            raise unknown(f"option of {resolve_name(name)}", option, offered)
    types_by_name = typing.get_type_hints(spec.network)
    values = dict(options)
    values["dtype"] = as_dtype(values.get("dtype", jnp.float32))
    for option, value in values.items():
        if option != "dtype":
            values[option] = _plain(value)
            _check_type(option, values[option], types_by_name[option])
    network = spec.network(**values, **extra)
    network.check()
    return network


def as_dtype(dtype: Any) -> jnp.dtype:
    """Turn a floating-point type or its name into a dtype."""
    try:
        found = jnp.dtype(dtype if dtype is not None else "None")  # numpy takes None for float64
    except TypeError:
        raise unknown("dtype", dtype, DTYPES) from None
    if found.name not in DTYPES:
        raise unknown("dtype", found.name, DTYPES)
    return found


def _plain(value: Any) -> Any:
    """Turn lists, which Flax cannot hash, into tuples, and NumPy's scalars into Python's."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _check_type(option: str, value: Any, hint: Any) -> None:
    """Raise InputError unless a value, and each of its elements, has the type of an option."""
    accepted = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if not any(_has_type(value, kind) for kind in accepted):
        names = " or ".join(map(_type_name, accepted))
        raise InputError(f"{option} is {value!r}; accepted: {names}")


def _has_type(value: Any, kind: Any) -> bool:
    plain, elements = typing.get_origin(kind) or kind, typing.get_args(kind)
    if Ellipsis in elements:
        return isinstance(value, plain) and all(_has_type(each, elements[0]) for each in value)
    if isinstance(value, bool):
        return plain is bool
    return isinstance(value, (int, float) if plain is float else plain)


def _type_name(kind: Any) -> str:
    name: str = getattr(kind, "__name__", str(kind))
    elements = typing.get_args(kind)
    return f"{name} of {_type_name(elements[0])}" if Ellipsis in elements else name
