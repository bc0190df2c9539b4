"""Every network by name: how to build it, and the facts that belong to it."""

import dataclasses
import types
import typing
from typing import Any

import jax.numpy as jnp

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import Network
from flaxmobile.models.mobilenet_v2 import MobileNetV2


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known about a registered network.

    Attributes:
      network: the module class.
      aliases: short names.
      year, paper: when and where it was published.
      image_size: side of the input that its accuracy was measured at, in pixels.
      top1: ImageNet accuracy in percent of the reference weights, where published.
      top1_source: which weights those are, at the default options.
      head: top-level parameter groups that depend on the number of classes.
      defaults: options whose default differs from the class's.
    """

    network: type[Network]
    aliases: tuple[str, ...]
    year: int
    paper: str
    image_size: int = 224
    top1: float | None = None
    top1_source: str = ""
    head: tuple[str, ...] = ("classifier",)
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)


SPECS: dict[str, Spec] = {
    "mobilenet_v2": Spec(
        network=MobileNetV2,
        aliases=("v2",),
        year=2018,
        paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks (arXiv:1801.04381)",
        top1=72.154,
        top1_source="torchvision IMAGENET1K_V2",
    ),
}
ALIASES = {alias: name for name, spec in SPECS.items() for alias in spec.aliases}

DTYPES = ("float32", "bfloat16", "float16", "float64")
_NOT_OPTIONS = ("parent", "name", "out_strides")


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
    out_strides: tuple[int, ...] | None = None,
    output_stride: int = 32,
    **options: Any,
) -> Network:
    """Build a feature extractor, whose variables are the classifier's without the head.

    Args:
      name: a name of `list_models()` or an alias.
      out_strides: which feature maps to return; by default all that the network has. Layers beyond
        the deepest of them are not built.
      output_stride: the largest stride; beyond it convolutions are dilated instead.
      **options: as for `create_model`.

    Returns:
      A Flax module that maps images [n, h, w, 3] to {stride: features}, where features are
      [n, ceil(h / stride), ceil(w / stride), c].

    Raises:
      InputError: an unknown name or option, or a stride that the network cannot give.
    """
    _check_type("output_stride", output_stride, int)
    if out_strides is None:
        offered = get_spec(name).network.endpoint_strides
        out_strides = tuple(s for s in offered if s <= output_stride)
    _check_type("out_strides", out_strides, tuple | list)
    return _build(name, {**options, "output_stride": output_stride}, out_strides=tuple(out_strides))


def model_options(name: str) -> dict[str, dataclasses.Field[Any]]:
    """The options of a network by name, with their types and defaults."""
    fields = dataclasses.fields(get_spec(name).network)
    return {field.name: field for field in fields if field.name not in _NOT_OPTIONS}


def _build(name: str, options: dict[str, Any], **extra: Any) -> Network:
    spec, offered = get_spec(name), model_options(name)
    for option in options:
        if option not in offered:
            raise unknown(f"option of {resolve_name(name)}", option, offered)
    types_by_name = typing.get_type_hints(spec.network)
    values = {**spec.defaults, **options}
    values["dtype"] = as_dtype(values.get("dtype", jnp.float32))
    for option, value in values.items():
        if option != "dtype":
            _check_type(option, value, types_by_name[option])
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


def _check_type(option: str, value: Any, hint: Any) -> None:
    accepted = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = tuple(typing.get_origin(kind) or kind for kind in accepted)
    if float in plain:
        plain += (int,)
    wrong_bool = isinstance(value, bool) and bool not in plain
    if wrong_bool or not isinstance(value, plain):
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in accepted)
        raise InputError(f"{option} is {value!r}; accepted: {names}")
