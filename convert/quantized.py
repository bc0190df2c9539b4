"""torch's quantized networks under the names of ours: kernels with steps, activations with ranges.

A quantized network (`torch.ao.quantization.convert`) has integer kernels, float biases, and for the
output of each layer a scale and a zero point. One that trains for it (`prepare_qat`) has the
numbers from which `convert` makes them: float kernels with normalization beside them, and observers
of every kernel and activation. Both become float kernels with `steps`, biases, and for every
activation the least and the most number of its 256 steps.
"""

import itertools
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from convert.formats.qtensors import STEPS
from convert.layouts import QUANTIZED, TORCH, WITHOUT_RANGES
from convert.rule import Names, Rule
from flaxmobile.errors import InputError
from flaxmobile.layers import Model

Arrays = Mapping[str, np.ndarray]

_OBSERVER, _KERNEL = ".activation_post_process", ".weight_fake_quant"
_MOST = 255
"""Largest integer of an activation, in torch's networks; the least is 0."""
_HALF = 127.5
"""Half of the steps of a kernel, which has the integers -128 to 127."""
_NEW = 0.01
"""Share of a kernel in its observer's average, which `convert` asks once more."""
_EPSILON = 1e-5
"""Of normalization, where an origin's networks say none."""


def quantized(rule: Rule) -> Rule:
    """Return the rule for an origin's quantized files.

    Where the origin's network rounds in other places than ours, or ours nowhere, it is the rule for
    the float network of the same kernels.
    """
    if rule.layout is not TORCH:
        return rule.folded()
    prepare = partial(to_floats, epsilon=rule.options.get("norm_epsilon", _EPSILON))
    folded, ranges = rule.folded()._replace(prepare=prepare), rule.ranges
    if ranges is None:
        note = (
            "was quantized to int8: read as float, for inference, without the ranges of its "
            "activations: the logits are not quite those of the quantized network"
        )
        return folded._replace(layout=WITHOUT_RANGES, note=note)

    def names(model: Model) -> Names:
        return itertools.chain(folded.modules(model), ranges.names(model))

    return folded._replace(
        layout=QUANTIZED,
        modules=names,
        other_names=(),
        own_options={
            **folded.own_options,
            "quantized": True,
            "given_steps": True,
            **ranges.options,
        },
        constants={**folded.constants, **ranges.constants},
        note="was quantized to int8: kernels keep the file's steps, activations its ranges",
    )


def to_floats(tensors: Arrays, epsilon: float) -> dict[str, np.ndarray]:
    """Turn a file's tensors into kernels with steps, biases, and ranges: `least` and `most`.

    Args:
      tensors: of a quantized network, or of one that trains for it, as the file names them.
      epsilon: of the normalizations.

    Returns:
      By the layers' names; what is not used keeps its own.

    Raises:
      InputError: a scale or a zero point is none.
    """
    left = dict(tensors)
    made = dict([*_trained_kernels(left, epsilon), *_ranges(left)])
    return {**left, **made}


def _ranges(left: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Take scales and zero points out of the tensors, and yield ranges.

    Those of a sum that the network does not compute are 1 and 0, and stay.
    """
    for name in [each for each in left if each.endswith(".scale")]:
        place = name.removesuffix(".scale")
        scale, zero = left[name], left.get(f"{place}.zero_point", np.zeros(0))
        if scale.size != 1 or zero.size != 1 or place.count(_OBSERVER) > 1:
            continue
        step, middle = float(scale.item()), int(zero.item())
        if not (0 < step < np.inf and 0 <= middle <= _MOST):
            raise InputError(
                f"{place} has scale {step:g} and zero point {middle}; accepted: a scale above 0, "
                f"and a zero point of 0 to {_MOST}"
            )
        if (step, middle) != (1, 0):
            del left[name], left[f"{place}.zero_point"]
            site = place.removesuffix(_OBSERVER)
            yield f"{site}.least", np.asarray(-middle * step, np.float32)
            yield f"{site}.most", np.asarray((_MOST - middle) * step, np.float32)


def _trained_kernels(
    left: dict[str, np.ndarray], epsilon: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Take kernels that train for quantization out of the tensors, and yield what they become."""
    for end in [name for name in left if name.endswith(f"{_KERNEL}.scale")]:
        layer = end.removesuffix(f"{_KERNEL}.scale")
        if f"{layer}.weight" not in left:
            continue
        observer = {
            name.rpartition(".")[2]: left.pop(name)
            for name in [*left]
            if name.startswith(f"{layer}{_KERNEL}.")
        }
        kernel, bias = _fold(left, layer, epsilon)
        steps = np.broadcast_to(_steps(kernel, observer), kernel.shape[:1])
        if not (np.isfinite(steps) & (steps > 0)).all():
            raise InputError(f"{layer} has steps that are no numbers above 0")
        each = steps.reshape(-1, *(1,) * (kernel.ndim - 1))
        yield f"{layer}.weight", np.clip(np.round(kernel * (1 / each)), -128, 127) * each
        yield f"{layer}.{STEPS}", steps
        if bias is not None:
            yield f"{layer}.bias", bias


def _fold(
    left: dict[str, np.ndarray], layer: str, epsilon: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Take a kernel and its bias out of the tensors, its normalization folded in, as torch does."""
    kernel, bias = left.pop(f"{layer}.weight"), left.pop(f"{layer}.bias", None)
    names = [f"{layer}.bn.{each}" for each in ("weight", "bias", "running_mean", "running_var")]
    if not all(name in left for name in names):
        return kernel, bias
    scale, shift, mean, variance = (left.pop(name) for name in names)
    inverse = 1 / np.sqrt(variance + np.float32(epsilon))
    factor = (scale * inverse).reshape(-1, *(1,) * (kernel.ndim - 1))
    return kernel * factor, ((0 if bias is None else bias) - mean) * inverse * scale + shift


def _steps(kernel: np.ndarray, observer: Arrays) -> np.ndarray:
    """Return the steps of a kernel, whose observer, if it is at work, sees it once more.

    They are those of the observer's ends. The scale beside them, with which the network trains, may
    be another one.
    """
    steps = observer["scale"].ravel()
    low, high = (observer.get(name, np.zeros(0)).ravel() for name in ("min_val", "max_val"))
    if not low.size or not high.size:
        return steps
    if observer.get("observer_enabled", np.zeros(1)).any():
        axes = tuple(range(low.size > 1, kernel.ndim))
        low = low + np.float32(_NEW) * (kernel.min(axes) - low)
        high = high + np.float32(_NEW) * (kernel.max(axes) - high)
    return np.maximum(np.maximum(-low, high) / np.float32(_HALF), np.finfo(np.float32).eps)
