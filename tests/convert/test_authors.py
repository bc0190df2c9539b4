"""Files with the names of the authors' repositories, from the file to the logits."""

from functools import cache, partial

import jax
import numpy as np
import pytest
import torch

from convert.__main__ import main
from convert.rules import RULES
from convert.rules.authors import shufflenet_v1, shufflenet_v2
from flaxmobile import InputError, load_weights
from flaxmobile.layers import ConvNorm
from flaxmobile.models.shufflenet_v1 import ShuffleNetUnit
from flaxmobile.models.shufflenet_v2 import ShuffleUnit
from tests.convert.authors import BlazeFace, MobileNeXt, ShuffleNet, ShuffleUnitV1, ShuffleUnitV2
from tests.convert.rules import facts_of, fill
from tests.models.parity import (
    Pair,
    assert_block_agrees,
    assert_close,
    assert_logits_agree,
    batch_of,
    block,
    randomised,
    to_torch,
)

V1_WIDTHS = {  # groups, alpha -> stem and stage 2
    (3, 0.5): (12, 120),
    (3, 1.0): (24, 240),
    (3, 1.5): (24, 360),
    (3, 2.0): (48, 480),
    (8, 0.5): (16, 192),
    (8, 1.0): (24, 384),
    (8, 1.5): (24, 576),
    (8, 2.0): (48, 768),
}
V2_WIDTHS = {  # stages and the last convolution
    0.5: ((48, 96, 192), 1024),
    1.0: ((116, 232, 464), 1024),
    1.5: ((176, 352, 704), 1024),
    2.0: ((244, 488, 976), 2048),
}


def build(name, alpha, groups=None):
    """A network of the authors'; `alpha` is the camera of BlazeFace."""
    if name == "mobilenext":
        return MobileNeXt(alpha)
    if name == "blazeface":
        return BlazeFace(back_model=alpha == "back")
    if name == "shufflenet_v2":
        stages, head = V2_WIDTHS[alpha]
        return ShuffleNet(24, stages, head=head)
    stem, width = V1_WIDTHS[groups, alpha]
    return ShuffleNet(stem, (width, 2 * width, 4 * width), groups)


@cache
def network(*key):
    return randomised(build(*key))


def arrays(network):
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


CLASSIFIERS = [
    ("mobilenext", 0.35, None),
    ("shufflenet_v1", 0.5, 3),
    ("shufflenet_v2", 1.0, None),
]
every_classifier = pytest.mark.parametrize(("name", "alpha", "groups"), CLASSIFIERS)


def convert(path, output, name, *flags):
    return main(["--model", name, "--weights", str(path), "--output", str(output), *flags])


@every_classifier
def test_a_file_gives_the_authors_logits(tmp_path, capsys, name, alpha, groups):
    theirs = network(name, alpha, groups)
    state = {f"module.{key}": tensor for key, tensor in theirs.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    assert convert(tmp_path / "w.pth", tmp_path / "flax", name) == 0
    assert f"authors's {name} with alpha {alpha} and 10 classes" in capsys.readouterr().out
    model, variables = load_weights(tmp_path / "flax")
    if groups:
        assert model.groups == groups
    pair = Pair(theirs, model, variables, dict)
    for size in (64, 97):
        assert_logits_agree(pair, size)


PUBLISHED = [
    *[("mobilenext", alpha, None) for alpha in (0.5, 0.75, 1.0, 1.4)],
    *[("shufflenet_v1", alpha, groups) for groups, alpha in V1_WIDTHS],
    *[("shufflenet_v2", alpha, None) for alpha in V2_WIDTHS],
]


@pytest.mark.parametrize(("name", "alpha", "groups"), PUBLISHED)
def test_every_published_width_is_recognised(name, alpha, groups):
    found = fill(RULES["authors", name], name, arrays(build(name, alpha, groups)))
    assert (found.options["alpha"], found.options.get("groups")) == (alpha, groups)


def unit_name(layers):
    """The authors' name of a layer of a unit, from the list that it is in."""
    places = {layer: (branch, place) for layer, branch, place in layers}

    def name(path):
        layer, leaf = path.split("/")
        branch, place = places[layer]
        return f"{branch}.{place + (leaf == 'norm')}"

    return name


@pytest.mark.parametrize(("channels", "groups"), [(60, 3), (64, 8)])
def test_a_unit_of_shufflenet_v1_trains_as_theirs(channels, groups):
    """Of stride 1: one of stride 2 rectifies what is not negative in ours, and leaves it theirs."""
    theirs = ShuffleUnitV1(channels, channels, groups, first=False, stride=1)
    ours = ShuffleNetUnit(
        channels, groups, variant="megvii", unit=partial(ConvNorm, dtype=np.float64)
    )
    pair = block(theirs, ours, channels, names=unit_name(shufflenet_v1.LAYERS))
    assert_block_agrees(pair, (3, 11, 11, channels))


@pytest.mark.parametrize(("channels", "features"), [(20, 20), (12, 20)])
def test_a_unit_of_shufflenet_v2_trains_as_theirs(channels, features):
    stride = 2 if channels != features else 1
    theirs = ShuffleUnitV2(channels // (3 - stride), features, stride)
    ours = ShuffleUnit(features, stride, variant="megvii", unit=partial(ConvNorm, dtype=np.float64))
    pair = block(theirs, ours, channels, names=unit_name(shufflenet_v2.LAYERS))
    assert_block_agrees(pair, (3, 11, 11, channels))


@pytest.mark.parametrize(("form", "size"), [("front", 128), ("back", 256)])
def test_a_port_of_blazeface_gives_the_same_numbers(tmp_path, form, size):
    theirs = network("blazeface", form)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    assert convert(tmp_path / "w.pth", tmp_path / "flax", "blazeface") == 0
    model, variables = load_weights(tmp_path / "flax")
    images, _ = batch_of(size, 2, np.float32)
    with torch.no_grad():
        boxes, scores = theirs(to_torch(images))
    ours = jax.jit(model.apply)(variables, images)
    assert ours["boxes"].shape == (2, 896, 16)
    assert_close(ours["boxes"], boxes, 1e-4, "boxes")
    assert_close(ours["scores"], scores[..., 0], 1e-4, "scores")


def test_megviis_images_are_blue_first_and_unscaled():
    facts = facts_of(RULES["authors", "shufflenet_v1"])
    found = facts.preprocessing.normalize(np.asarray([[[255, 128, 0]]], np.uint8))
    np.testing.assert_allclose(found, [[[0, 128, 255]]], rtol=1e-6)
    assert (facts.preprocessing.image_size, facts.preprocessing.resize_size) == (224, 256)
    assert facts.class_names[285] == "Egyptian cat"
    assert facts.source["repository"] == "megvii-model/ShuffleNet-Series"


@pytest.mark.parametrize(
    ("given", "name", "message"),
    [
        (("shufflenet_v1", 0.5, 3), "shufflenet_v2", "features.0.branch"),
        (("blazeface", "front"), "mobilenext", "backbone1.0.weight is unknown"),
    ],
)
def test_another_networks_file_is_refused(given, name, message):
    with pytest.raises(InputError) as caught:
        fill(RULES["authors", name], name, arrays(network(*given)))
    assert message in str(caught.value)
