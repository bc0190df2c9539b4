"""One operation, one form per platform, chosen when the program is lowered.

XLA's CPU backend needs other forms of these operations than its TPU and GPU backends do. The
choice is left to lowering, not to `jax.default_backend()`, so that a program that is exported or
compiled ahead of time for a TPU on a machine without one gets the TPU form. Converters to other
formats cannot read such a choice: under `native_forms` there is none.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import Array, lax

from flaxmobile.ops.meshes import partition_by_compiler, unify_varying_axes
from flaxmobile.ops.window import Window

Form = Callable[..., Array]
"""An operation (static, *arrays) -> array, with its gradients; static is any hashable value."""

_native: ContextVar[bool] = ContextVar("native_forms", default=False)


class Forms(NamedTuple):
    """Implementations of one operation for the CPU and for accelerators (TPU, GPU).

    Attributes:
      cpu: the form whose gradients are fast on a CPU.
      accelerator: XLA's own operations, as plain as they can be.
      inference: the CPU's form where no gradient is asked for; None if it is `cpu`.
    """

    cpu: Form
    accelerator: Form
    inference: Form | None = None


@contextmanager
def native_forms(enabled: bool = True) -> Iterator[None]:
    """Trace every operation in the accelerator's form, whatever the platform.

    The traced program then has only XLA's own operations, without a choice between platforms
    and without custom gradients: what converters and quantizers expect. The setting is read where
    an operation is traced, so enter the context inside the function that `jax.jit` is given.
    """
    token = _native.set(enabled)
    try:
        yield
    finally:
        _native.reset(token)


def is_native() -> bool:
    """Whether `native_forms` is active.

    Read it when an operation is called: gradients are traced after the context has exited.
    """
    return _native.get()


def apply_form(forms: Forms, static: Hashable, *arrays: Array) -> Any:
    """Compute the operation in the form that suits the platform it is lowered for.

    Differentiable in reverse mode only (under `native_forms` in forward mode too): it has a custom
    VJP, because differentiating through `platform_dependent` would save the residuals of every
    platform's form.

    Args:
      forms: the operation's forms.
      static: first argument of the forms, such as a convolution's geometry.
      *arrays: images, whose first axis is the batch, and weights.

    Returns:
      An array whose first axis is the batch.
    """
    return apply_rule(partial(_apply, forms), forms.accelerator, static, *arrays)


def apply_rule(
    rule: Callable[..., Any],
    plain: Callable[..., Any],
    static: Hashable,
    *arrays: Array,
    statistics: int = 0,
) -> Any:
    """Compute an operation (static, *arrays) that has gradients of its own.

    Args:
      rule: the operation with a custom VJP.
      plain: the one whose gradients are JAX's, under `native_forms`.
      static: their first argument.
      *arrays: the others.
      statistics: see `partition_by_compiler`.
    """
    if is_native():
        return partition_by_compiler(partial(plain, static), *arrays, statistics=statistics)
    arrays = unify_varying_axes(*arrays)
    return partition_by_compiler(partial(rule, static), *arrays, statistics=statistics)


def by_platform(*arrays: Any, default: Callable[..., Any], **forms: Callable[..., Any]) -> Any:
    """Call the form of the platform that the program is lowered for, without a custom VJP.

    Args:
      *arrays: trees of arrays.
      default: the form of platforms that are not named, and under `native_forms`.
      **forms: forms by platform: `cpu`, `tpu`, `cuda`, `rocm`.
    """
    if is_native():
        return default(*arrays)
    return lax.platform_dependent(*arrays, default=default, **forms)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _apply(forms: Forms, static: Hashable, *arrays: Array) -> Array:
    return _value(forms._replace(cpu=forms.inference or forms.cpu), static, *arrays)


def _forward(forms: Forms, static: Hashable, *arrays: Array) -> tuple[Array, tuple[Array, ...]]:
    return _value(forms, static, *arrays), arrays


def _backward(
    forms: Forms, static: Hashable, residuals: tuple[Array, ...], dy: Array
) -> tuple[Array, ...]:
    return _gradients(forms, static, dy, *residuals)


_apply.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=(0, 1))  # so that layers of the same shape are traced once
def _value(forms: Forms, static: Hashable, *arrays: Array) -> Array:
    value: Array = lax.platform_dependent(
        *arrays, cpu=partial(forms.cpu, static), default=partial(forms.accelerator, static)
    )
    return value


@partial(jax.jit, static_argnums=(0, 1))
def _gradients(forms: Forms, static: Hashable, dy: Array, *arrays: Array) -> tuple[Array, ...]:
    def gradients(form: Form, dy: Array, *arrays: Array) -> tuple[Array, ...]:
        return jax.vjp(partial(form, static), *arrays)[1](dy)

    result: tuple[Array, ...] = lax.platform_dependent(
        dy,
        *arrays,
        cpu=partial(gradients, forms.cpu),
        default=partial(gradients, forms.accelerator),
    )
    return result


def native_conv(window: Window, x: Array, kernel: Array) -> Array:
    """XLA's own convolution; grouped where the kernel has fewer input channels than the image."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )
