"""One operation, one form per platform, chosen when the program is lowered.

XLA's CPU backend needs other forms of these convolutions than its TPU and GPU backends do. The
choice is left to lowering, not to `jax.default_backend()`, so that a program that is exported or
compiled ahead of time for a TPU on a machine without one gets the TPU form.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from jax import Array, lax

from flaxmobile.ops.meshes import alike, shared_out
from flaxmobile.ops.window import Window

Form = Callable[[Window, Array, Array], Array]
"""A convolution (window, images [n, h, w, c], kernel) -> [n, h', w', c'], with its gradients."""


class Forms(NamedTuple):
    """The same convolution written for the CPU and for accelerators (TPU, GPU).

    Attributes:
      cpu: with the gradients that a CPU computes fast.
      accelerator: the same.
      inference: of the CPU too, instead of `cpu` where no gradient is asked for.
    """

    cpu: Form
    accelerator: Form
    inference: Form | None = None


def apply_form(forms: Forms, window: Window, x: Array, kernel: Array) -> Array:
    """Compute the convolution in the form that suits the platform it is lowered for.

    Differentiable in reverse mode only. The rule is ours because differentiating through
    `platform_dependent` would save the residuals of every platform's form.
    """
    return shared_out(partial(_apply, forms, window), *alike(x, kernel))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _apply(forms: Forms, window: Window, x: Array, kernel: Array) -> Array:
    return _convolution(forms._replace(cpu=forms.inference or forms.cpu), window, x, kernel)


def _forward(
    forms: Forms, window: Window, x: Array, kernel: Array
) -> tuple[Array, tuple[Array, Array]]:
    return _convolution(forms, window, x, kernel), (x, kernel)


def _backward(
    forms: Forms, window: Window, saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    return _gradients(forms, window, *saved, dy)


_apply.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=(0, 1))  # so that layers of the same shape are traced once
def _convolution(forms: Forms, window: Window, x: Array, kernel: Array) -> Array:
    return lax.platform_dependent(
        x, kernel, cpu=partial(forms.cpu, window), default=partial(forms.accelerator, window)
    )


@partial(jax.jit, static_argnums=(0, 1))
def _gradients(
    forms: Forms, window: Window, x: Array, kernel: Array, dy: Array
) -> tuple[Array, Array]:
    def of_form(form: Form, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
        return jax.vjp(partial(form, window), x, kernel)[1](dy)

    return lax.platform_dependent(
        x,
        kernel,
        dy,
        cpu=partial(of_form, forms.cpu),
        default=partial(of_form, forms.accelerator),
    )


def native(window: Window, x: Array, kernel: Array) -> Array:
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
