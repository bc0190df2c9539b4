"""Inference without batch normalization, which is folded into the convolutions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables, check_variables, widen


def fold_batch_norm(model: Model, variables: Tree) -> tuple[Model, Tree]:
    """Fold every normalization into the convolution before it.

    Args:
      model: a classifier or backbone.
      variables: its variables, {"params": …, "batch_stats": …}; other collections, such as sown
        logits, are left out. Numbers in bfloat16 are widened to float32.

    Returns:
      A model with `folded=True` and its variables, {"params": …}: the same outputs up to float
      rounding, without normalization. It is for inference; `train=True` changes only dropout.

    Raises:
      InputError: the model is folded already, or the variables are not those of the model.
    """
    if model.folded:
        raise InputError("the model is folded already")
    expected = abstract_variables(model)
    if not set(expected) <= set(variables):
        collections = " and ".join(sorted(expected, reverse=True))
        raise InputError(
            f"variables hold {sorted(variables)}; accepted: {collections} of this model"
        )
    variables = widen({name: variables[name] for name in expected})
    check_variables(expected, variables, "the given tree")
    stats = variables.get("batch_stats", {})
    params = {
        name: _fold({name: group}, stats, model.epsilon_of(name))[name]
        for name, group in variables["params"].items()
    }
    return model.clone(folded=True), {"params": params}


def _fold(params: Mapping[str, Any], stats: Mapping[str, Any], epsilon: float) -> Tree:
    if set(params) == {"conv", "norm"}:
        return {"conv": _fold_one(params["conv"]["kernel"], params["norm"], stats["norm"], epsilon)}
    return {
        name: _fold(child, stats.get(name, {}), epsilon) if isinstance(child, Mapping) else child
        for name, child in params.items()
    }


def _fold_one(kernel: Any, norm: Tree, stats: Tree, epsilon: float) -> Tree:
    """Scale the kernel's output channels in float64, so that folding rounds once."""
    scale, bias = (np.asarray(norm[name], np.float64) for name in ("scale", "bias"))
    mean, var = (np.asarray(stats[name], np.float64) for name in ("mean", "var"))
    factor = scale / np.sqrt(var + epsilon)
    dtype = np.asarray(kernel).dtype
    return {
        "kernel": (np.asarray(kernel, np.float64) * factor.reshape(1, 1, 1, -1)).astype(dtype),
        "bias": (bias - mean * factor).astype(dtype),
    }
