"""flaxmobile's networks with plain `flax.linen.Conv` and `BatchNorm`, as Flax users write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flaxmobile.layers import BatchNorm, Conv
from flaxmobile.models.ic_conv import ICConv
from flaxmobile.ops import make_window


@contextmanager
def plain_layers() -> Iterator[None]:
    """Make flaxmobile's networks compute with Flax's own layers, on the same variables.

    Only `apply` is replaced: initialize outside.
    """
    with nn.intercept_methods(_replace):
        yield


def _replace(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    if context.method_name != "__call__" or not isinstance(module, Conv | BatchNorm):
        return call(*args, **kwargs)
    if isinstance(module, Conv):
        return _conv(module, *args)
    return _norm(module, *args, **kwargs)


def _conv(module: Conv, x: Any) -> Any:
    params = module.variables["params"]
    if not isinstance(module, ICConv):
        return _plain_conv(module, x, params["kernel"], params.get("bias"), module.dilation)
    parts: list[Any] = []
    order: list[int] = []
    for pair in sorted(set(module.dilations)):
        channels = np.asarray([i for i, each in enumerate(module.dilations) if each == pair])
        seen = x if module.groups == 1 else x[..., channels * module.groups // module.features]
        dilation = (module.dilation * pair[0], module.dilation * pair[1])
        bias = params["bias"][channels] if module.use_bias else None
        parts.append(_plain_conv(module, seen, params["kernel"][..., channels], bias, dilation))
        order.extend(channels)
    return jnp.concatenate(parts, -1)[..., np.argsort(order)]


def _plain_conv(module: Conv, x: Any, kernel: Any, bias: Any, dilation: Any) -> Any:
    window = make_window(x.shape[1:3], kernel.shape[:2], module.stride, module.padding, dilation)
    conv = nn.Conv(
        kernel.shape[-1],
        kernel.shape[:2],
        window.strides,
        window.padding,
        kernel_dilation=window.dilation,
        feature_group_count=x.shape[-1] // kernel.shape[2],
        use_bias=bias is not None,
        dtype=module.dtype,
    )
    return conv.apply({"params": {"kernel": kernel, **({} if bias is None else {"bias": bias})}}, x)


def _norm(
    module: BatchNorm, x: Any, use_running_average: bool = True, product_of: Any = None
) -> Any:
    norm = nn.BatchNorm(
        use_running_average,
        momentum=module.momentum,
        epsilon=module.epsilon,
        dtype=module.dtype,
        axis_name=module.axis_name,
    )
    variables = {name: module.variables[name] for name in ("params", "batch_stats")}
    if use_running_average:
        return norm.apply(variables, x)
    y, updates = norm.apply(variables, x, mutable=["batch_stats"])
    for name, value in updates["batch_stats"].items():
        module.put_variable("batch_stats", name, value)
    return y
