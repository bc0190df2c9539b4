"""Feature pyramids: torchvision's numbers, and every network below them."""

from functools import partial

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

import flaxmobile
from flaxmobile import FeaturePyramid, InputError
from flaxmobile.layers import ConvNorm
from tests.models import parity
from tests.networks import short_backbone, small_size

WIDTHS, FEATURES = {8: 6, 16: 10, 32: 14}, 4
EXTRAS = {
    None: lambda: None,
    "pool": LastLevelMaxPool,
    "retinanet": partial(LastLevelP6P7, WIDTHS[32], FEATURES),
    "fcos": partial(LastLevelP6P7, FEATURES, FEATURES),
}
SIZES = {
    "even": [(12, 20), (6, 10), (3, 5)],
    "odd": [(21, 9), (11, 5), (6, 3)],
    "one pixel": [(5, 2), (3, 1), (2, 1)],
    "any": [(13, 7), (5, 7), (3, 4)],
}


def name_in_torch(path):
    """Our path of a module -> torchvision's name of it."""
    level, *inner = path.split("/")
    if level.startswith("extra"):
        return {"extra64": "extra_blocks.p6", "extra128": "extra_blocks.p7"}[level]
    group = "inner_blocks" if level.startswith("lateral") else "layer_blocks"
    number = [*WIDTHS].index(int("".join(filter(str.isdigit, level))))
    return f"{group}.{number}.{1 if inner == ['norm'] else 0}"


def step(model, variables, maps, directions, train):
    """Levels; gradients along the directions, of the maps and the parameters; statistics."""

    def along(params, maps):
        given = {**variables, "params": params}
        levels, updates = model.apply(given, maps, train, mutable=["batch_stats"])
        total = sum((levels[stride] * each).sum() for stride, each in directions.items())
        return total, (levels, updates)

    gradient = jax.grad(along, (0, 1), has_aux=True)
    (params, of_maps), (levels, updates) = gradient(variables["params"], maps)
    return levels, of_maps, {"params": params, **updates}


@pytest.mark.parametrize(
    ("extra", "normalized", "sizes"),
    [
        (None, False, "any"),
        ("pool", False, "odd"),
        ("retinanet", False, "even"),
        ("fcos", False, "one pixel"),
        ("retinanet", True, "odd"),
    ],
)
def test_levels_gradients_and_statistics_are_torchvisions(extra, normalized, sizes):
    rng = np.random.default_rng(0)
    maps = {
        stride: rng.normal(size=(2, *size, width))
        for (stride, width), size in zip(WIDTHS.items(), SIZES[sizes], strict=True)
    }
    norm = nn.BatchNorm2d if normalized else None
    theirs = FeaturePyramidNetwork([*WIDTHS.values()], FEATURES, EXTRAS[extra](), norm)
    unit = partial(ConvNorm, dtype=np.float64) if normalized else None
    ours = FeaturePyramid(FEATURES, extra, unit, np.float64)
    with jax.enable_x64(True):
        shapes = jax.eval_shape(ours.init, jax.random.key(0), maps)
    pair = parity.paired(theirs, ours, shapes, name_in_torch)

    network = parity.double(pair.torch).train(normalized)
    given = {str(stride): parity.to_torch(x).requires_grad_() for stride, x in maps.items()}
    expected = [*network(given).values()]
    strides = (8, 16, 32, 64, 128)[: len(expected)]
    directions = {
        stride: rng.normal(size=parity.from_torch(level).shape)
        for stride, level in zip(strides, expected, strict=True)
    }
    along = zip(expected, directions.values(), strict=True)
    sum((level * parity.to_torch(direction)).sum() for level, direction in along).backward()
    with jax.enable_x64(True):
        variables = parity.cast(pair.variables, np.float64)
        run = jax.jit(partial(step, ours, train=normalized))
        levels, of_maps, changes = run(variables, maps, directions)

    assert tuple(levels) == strides
    for stride, level in zip(strides, expected, strict=True):
        parity.assert_close(levels[stride], parity.from_torch(level), 1e-8, f"level {stride}")
    for stride in maps:
        wanted = parity.from_torch(given[str(stride)].grad)
        parity.assert_close(of_maps[stride], wanted, 1e-8, f"gradient of map {stride}")
    found = pair.back(changes)
    parity.assert_gradients_close(found, parity.gradients_of(network), 1e-8)
    parity.assert_all_close(found, parity.statistics_of(network), 1e-8)


def test_it_begins_as_torchvisions():
    """Uniform, with a variance of one over the inputs, and no bias."""
    maps = {stride: np.zeros((1, 8, 8, 64), np.float32) for stride in (16, 8)}
    params = jax.jit(FeaturePyramid(64).init)(jax.random.key(0), maps)["params"]
    torch.manual_seed(0)
    theirs = FeaturePyramidNetwork([64, 64], 64)
    names = {"lateral8": "inner_blocks.0.0", "output8": "layer_blocks.0.0"}
    for ours, name in names.items():
        wanted = theirs.get_submodule(name).weight.detach().numpy()
        kernel = np.asarray(params[ours]["kernel"])
        assert np.abs(kernel).max() == pytest.approx(np.abs(wanted).max(), rel=0.01)
        assert kernel.std() == pytest.approx(wanted.std(), rel=0.02)
        assert not params[ours]["bias"].any()


@pytest.mark.parametrize("name", flaxmobile.list_models())
def test_every_network_can_be_below_it(name):
    size = small_size(name) + 31
    backbone = short_backbone(name, dtype=np.float16)
    model = FeaturePyramid(8, "pool", backbone.unit())
    shape = jax.ShapeDtypeStruct((2, size, size + 16, 3), np.float32)
    key = jax.eval_shape(jax.random.key, 0)
    maps, _ = jax.eval_shape(backbone.init_with_output, key, shape)
    levels, variables = jax.eval_shape(model.init_with_output, key, maps)
    assert tuple(levels) == (*maps, 2 * max(maps))
    for stride, x in maps.items():
        assert levels[stride].shape == (*x.shape[:3], 8)
        assert levels[stride].dtype == np.float16
    assert "batch_stats" in variables


MAPS = {8: np.zeros((1, 4, 4, 3), np.float32)}


@pytest.mark.parametrize(
    ("options", "maps", "message"),
    [
        ({"features": 0}, MAPS, "features is 0; accepted: 1 or more"),
        ({"extra": "p6p7"}, MAPS, "unknown extra 'p6p7'; accepted: pool, retinanet, fcos"),
        ({}, {}, "the pyramid's maps have no entry; accepted: {stride: "),
        (
            {},
            {"stage1": MAPS[8]},
            r"the pyramid's maps have {'stage1': \(1, 4, 4, 3\)}; accepted: ",
        ),
        ({}, {8: MAPS[8][0]}, r"the pyramid's maps have {8: \(4, 4, 3\)}; accepted: {stride: "),
    ],
)
def test_other_options_and_maps_are_one_line(options, maps, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        FeaturePyramid(**options).init(jax.random.key(0), maps)
    assert "\n" not in str(error.value)
