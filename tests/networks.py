"""Small networks for tests, and variables in which every parameter matters."""

from functools import cache
from typing import Any

import jax
import numpy as np

import flaxmobile
from flaxmobile.layers import Network
from flaxmobile.registry import get_spec, model_options

QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""Compiler options for programs that run once: compiled in a third of the time, not fast."""
if jax.__version_info__ < (0, 11):  # later ones have no choice of emitters
    QUICK["xla_cpu_use_fusion_emitters"] = False


@cache
def abstract(model: Network):
    """Shapes and dtypes of a model's variables."""
    images = jax.ShapeDtypeStruct((1, model.min_image_size, model.min_image_size, 3), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def random_variables(model: Network, seed: int = 0):
    """Random variables of a model."""
    return randomised(abstract(model), seed)


def randomised(variables, seed: int = 0):
    """Numbers like a trained network's: no scale or variance is 1, no bias or mean 0."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return rng.normal(0, np.sqrt(2 / fan_in), leaf.shape).astype(leaf.dtype)
        low, high = (0.5, 1.5) if name in ("scale", "var") else (-0.5, 0.5)
        return rng.uniform(low, high, leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, variables)


SMALL: dict[str, dict[str, Any]] = {
    "ic_conv": {
        "alpha": 0.1,
        "pattern": {
            "stage1_block2/filter": [[1, 1], [1, 2], [3, 1], [2, 2], [1, 2], [4, 4], [1, 1], [3, 1]]
        },
    },
    "inception_v1": {"alpha": 0.1, "aux_logits": True, "aux_dropout_rate": 0.0},
    "inception_v2": {"alpha": 0.1},
    "inception_v3": {"alpha": 0.1, "aux_logits": True},
    "inception_v4": {"alpha": 0.1, "repeats": (1, 1, 1)},
    "inception_resnet_v2": {"alpha": 0.1, "repeats": (1, 1, 2)},
    "mobilenext": {"alpha": 0.1},
    "shufflenet_v1": {"alpha": 0.25},
    "shufflenet_v2": {"alpha": 0.5},
    "xception": {"alpha": 0.1, "middle_blocks": 1},
}
"""Options of the smallest variant that still has every kind of layer, where alpha is not enough."""


def small_model(name: str = "mobilenet_v2", **options):
    """The smallest network that is tested, with 5 classes."""
    return flaxmobile.create_model(name, **{**small_options(name), "num_classes": 5, **options})


def small_backbone(name: str = "mobilenet_v2", **options):
    """The smallest backbone that is tested."""
    return flaxmobile.create_backbone(name, **{**small_options(name), **options})


def small_options(name: str):
    return SMALL.get(name, {"alpha": 0.35} if "alpha" in model_options(name) else {})


def small_size(name: str) -> int:
    """Side of images that are quick and leave more than one pixel where that can be."""
    return max(64, get_spec(name).network.min_image_size)
