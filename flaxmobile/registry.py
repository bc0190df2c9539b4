"""Networks by name: how they are built, and which options they have."""

import dataclasses
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from flaxmobile.errors import InputError, check_choice, unknown
from flaxmobile.layers import Network
from flaxmobile.nnx import NNXModel
from flaxmobile.specs import ALIASES, SPECS, Spec

DTYPES = ("float32", "bfloat16", "float16", "float64")
_NOT_OPTIONS = ("parent", "name", "out_strides", "taps", "remat", "chunk_bytes", "native")


def list_models() -> tuple[str, ...]:
    """Names that `create_model` accepts, without the aliases."""
    return tuple(SPECS)


def resolve_name(name: str) -> str:
    """Return the registered name for a name or an alias such as `v2`, with "-" or "_".

    Raises:
      InputError: no such network; suggests the nearest valid name.
    """
    spelled = str(name).replace("-", "_")
    resolved = ALIASES.get(spelled.replace("_", "-"), spelled)
    if resolved not in SPECS:
        raise unknown("model", name, [*SPECS, *ALIASES])
    return resolved


def get_spec(name: str) -> Spec:
    """Return the facts about a network, by its name or alias."""
    return SPECS[resolve_name(name)]


@typing.overload
def create_model(name: str, /, *, api: Literal["linen"] = ..., **options: Any) -> Network: ...


@typing.overload
def create_model(
    name: str, /, *, api: Literal["nnx"], rngs: nnx.Rngs, **options: Any
) -> NNXModel: ...


def create_model(
    name: str, /, *, api: str = "linen", rngs: nnx.Rngs | None = None, **options: Any
) -> Network | NNXModel:
    """Build a classifier.

    Args:
      name: a name of `list_models()` or an alias such as "v2".
      **options: fields of the network's class, such as `alpha`, `num_classes`, `dtype` (a type or
        its name), `padding`, `output_stride`; `flaxmobile info NAME` explains all of them. `name`
        is Flax's own: the name as a submodule, inside your module.
      api: "linen", or "nnx" for a module of Flax NNX.
      rngs: random keys of an NNX module, such as `nnx.Rngs(0)`.

    Returns:
      A Flax module: `model.init(key, images)` and `model.apply(variables, images, train=False)`
      for images [n, h, w, 3] give logits [n, num_classes] in float32. With "nnx" an
      `flaxmobile.NNXModel`, which holds its variables: `model(images)`.

    Raises:
      InputError: an unknown name or option, or a value that the network does not offer.
    """
    check_choice("api", api, ("linen", "nnx"))
    if rngs is not None and api == "linen":
        raise InputError('rngs are for api="nnx"; a Linen module gets its keys with each call')
    model = _build(name, options)
    return model if api == "linen" else NNXModel(model, rngs=rngs)


def create_backbone(
    name: str,
    /,
    *,
    out_strides: Sequence[int] | None = None,
    output_stride: int | None = None,
    taps: Sequence[str] = (),
    **options: Any,
) -> Network:
    """Build a feature extractor, whose variables are the classifier's without the head.

    Args:
      name: a name of `list_models()` or an alias.
      out_strides: which feature maps to return; by default all that the network has. Deeper layers
        are not built.
      output_stride: the largest stride; beyond it convolutions are dilated instead. By default the
        largest that the network has: 32, for BlazeFace 16.
      taps: further maps by name: "stage6_block1" for the output of a block, "stage6_block1/expand"
        for the output of a unit inside it.
      **options: as for `create_model`.

    Returns:
      A Flax module that maps images [n, h, w, 3] to {stride or tap: features}, where features are
      [n, ceil(h / stride), ceil(w / stride), c].

      Its `channels` are {stride or tap: c}.

    Raises:
      InputError: an unknown name or option, a stride that the network cannot give, or a tap in no
        block of the network. A tap of a unit that its block does not have raises when the network
        runs.
    """
    if output_stride is None:
        output_stride = max(_build(name, options, parent=None).output_strides)
    check_type("output_stride", plain(output_stride), int)
    if out_strides is None:
        offered = get_spec(name).network.endpoint_strides
        out_strides = tuple(s for s in offered if s <= output_stride)
    maps = {"out_strides": plain(out_strides), "taps": plain(taps)}
    for option, hint in (("out_strides", tuple[int, ...]), ("taps", tuple[str, ...])):
        check_type(option, maps[option], hint)
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
    options, submodule = dict(options), options.get("name")
    options.pop("name", None)
    check_type("name", submodule, str | None)
    if asked := {"pretrained", "weights"} & options.keys():
        raise InputError(
            f"create_model has no option {asked.pop()}; for published weights call "
            "load_pretrained(NAME), where NAME is one that `flaxmobile list --pretrained` shows"
        )
    for option in options:
        if option not in offered:
            raise unknown(f"option of {resolve_name(name)}", option, offered)
    if options.get("quantized") and not spec.network.quantizes:
        accepted = ", ".join(each for each in SPECS if SPECS[each].network.quantizes)
        raise InputError(
            f"{resolve_name(name)} cannot be quantized in training; accepted: {accepted}. An "
            "export in int8 with calibration takes any network"
        )
    types_by_name = typing.get_type_hints(spec.network)
    values = {**options, "dtype": as_dtype(options.get("dtype", jnp.float32))}
    for option, value in values.items():
        if option != "dtype":
            values[option] = plain(value)
            check_type(option, values[option], types_by_name[option])
    network = spec.network(**values, **extra, name=submodule)
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


def plain(value: Any) -> Any:
    """Turn lists and NumPy's arrays, which Flax cannot hash, into tuples of Python's numbers."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.item() if isinstance(value, np.generic) else value


def check_type(option: str, value: Any, hint: Any) -> None:
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
    name: str = "True or False" if kind is bool else getattr(kind, "__name__", str(kind))
    elements = typing.get_args(kind)
    return f"{name} of {_type_name(elements[0])}" if Ellipsis in elements else name
