"""Activations that turn a network's outputs into its answer; their name is stored in model.json."""

from collections.abc import Callable, Mapping

import jax
from jax import Array

OUTPUTS: Mapping[str, Callable[[Array], Array]] = {
    "softmax": jax.nn.softmax,  # one class of several
    "sigmoid": jax.nn.sigmoid,  # each class by itself: two classes in one number, or several labels
    "none": lambda logits: logits,  # numbers that are no probabilities, as of a regression
}
"""Name -> outputs [n, classes] -> answer [n, classes]."""


def default_output(num_classes: int) -> str:
    """Return the activation of weights that do not say theirs; a softmax of one class is 1."""
    return "sigmoid" if num_classes == 1 else "softmax"
