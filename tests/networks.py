"""Small networks for tests, and variables in which every parameter matters."""

import dataclasses
from functools import cache
from typing import Any

import jax
import numpy as np

import flaxmobile
from flaxmobile.layers import AUX_LOGITS, Network
from flaxmobile.models import (
    ic_conv,
    inception_v1,
    inception_v2,
    inception_v3,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilenet_v4_tables,
    mobilenext,
)
from flaxmobile.registry import get_spec, model_options
from flaxmobile.variables import abstract_variables

abstract = abstract_variables


def blocks_of(model: Network) -> dict[str, Any]:
    """The layer of each block that a network builds, so without stem and pooling, by name."""
    found = {}

    class Recording(type(model)):
        def build(self, place, unit):
            found[place.name] = super().build(place, unit)
            return found[place.name]

    abstract_variables(with_class(model, Recording))
    return found


def with_class(model: Network, network: type[Network]) -> Network:
    """The model as an instance of another class."""
    return network(
        **{field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    )


def numbered_blocks(model: Network) -> dict[tuple[int, int], Any]:
    """The layers of stage1_block1 and on, by (stage, block)."""
    return {
        tuple(map(int, name.removeprefix("stage").split("_block"))): layer
        for name, layer in blocks_of(model).items()
        if name.startswith("stage")
    }


def plain(model: Network) -> Network:
    """The model with the same variables that all its dtypes and ways to be trained share."""
    return model.clone(dtype=np.float32, dropout_rate=0.0, frozen_norm=False, axis_name=None)


def random_variables(model: Network, seed: int = 0):
    """Random variables of a model."""
    return randomised(abstract(plain(model)), seed)


def training_pass(apply, loss_of, variables, images):
    """(loss, outputs, new statistics, gradients), of loss_of([outputs, auxiliary logits…])."""

    def run(params):
        outputs, updates = apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats", AUX_LOGITS]
        )
        loss = loss_of([outputs, *jax.tree.leaves(updates.get(AUX_LOGITS))])
        return loss, (outputs, updates["batch_stats"])

    (loss, aux), gradients = jax.value_and_grad(run, has_aux=True)(variables["params"])
    return loss, *aux, gradients


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


def _short(stages, twice=3):
    """One block in each stage, but two in one of them, so that there is a shortcut."""
    numbered = enumerate(stages, start=1)
    return tuple(stage._replace(blocks=1 + (number == twice)) for number, stage in numbered)


def _short_v3(table):
    """The same of a table whose stages list their blocks' expanded channels."""
    numbered = enumerate(table.stages, start=1)
    stages = (s._replace(expanded=s.expanded[: 1 + (number == 3)]) for number, s in numbered)
    return table._replace(stages=tuple(stages))


def _short_v4(table):
    """A table of V4 with the first two blocks of each stage, and the last of the third."""
    stages = [rows[:2] for rows in table.stages]
    stages[2] += table.stages[2][-1:]
    return table._replace(stages=tuple(stages))


def _without(table, *names):
    """A table without these Inception modules."""
    return tuple(block for block in table if block.name not in names)


SHORT: dict[str, dict[str, Any]] = {
    "ic_conv": {
        "stages": {
            "resnet50": _short(ic_conv.STAGES["resnet50"], twice=1),
            "mobilenet_v2": _short(mobilenet_v2.STAGES),
        },
    },
    "inception_v1": {
        "table": _without(
            inception_v1.TABLE,
            *(f"inception{name}" for name in ("3b", "4b", "4c", "4e", "5b")),
        )
    },
    "inception_v2": {
        "table": _without(
            inception_v2.TABLE, *(f"inception{name}" for name in ("3b", "4a", "4b", "4d", "5a"))
        )
    },
    "inception_v3": {
        "tables": {
            "slim": _without(
                inception_v3.TABLE,
                *(f"mixed{name}" for name in ("5b", "5c", "6b", "6c", "6d", "7c")),
            )
        }
    },
    "mnasnet": {"tables": {"b1": mnasnet.B1._replace(stages=_short(mnasnet.B1.stages))}},
    "mobilenet_v1": {"stages": _short(mobilenet_v1.STAGES)},
    "mobilenet_v2": {"stages": _short(mobilenet_v2.STAGES)},
    "mobilenet_v3_large": {"table": _short_v3(mobilenet_v3.LARGE)},
    "mobilenet_v3_small": {"table": _short_v3(mobilenet_v3.SMALL)},
    "mobilenet_v4": {"tables": {"small": _short_v4(mobilenet_v4_tables.SMALL)}},
    "mobilenext": {"stages": _short(mobilenext.STAGES)},
    "shufflenet_v1": {"units": (1, 2, 1)},
    "shufflenet_v2": {"units": (1, 2, 1)},
}
"""Tables of the networks whose options leave them deep: every kind of block, and few of each."""


def short_model(name: str = "mobilenet_v2", **options):
    """The small model with few blocks: for what does not depend on how many there are."""
    return _shortened(name, small_model(name, **options))


def short_backbone(name: str = "mobilenet_v2", **options):
    """The small backbone with few blocks."""
    return _shortened(name, small_backbone(name, **options))


def _shortened(name: str, model: Network) -> Network:
    return with_class(model, _short_class(name))


@cache
def _short_class(name: str) -> type[Network]:
    network, tables = get_spec(name).network, SHORT.get(name, {})
    assert all(hasattr(network, table) for table in tables), f"{name} reads another table"
    return type(network.__name__, (network,), tables)
