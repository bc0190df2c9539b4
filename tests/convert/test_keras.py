"""Logits of files that Keras saved, from every format; what is read from the names and shapes."""

import jax
import keras
import numpy as np
import pytest
from flax import traverse_util

from convert.references import KERAS, build_reference
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import create_model
from flaxmobile.layers import round_channels
from flaxmobile.models.mobilenet_v2 import STAGES
from flaxmobile.models.mobilenet_v3_tables import LARGE, SMALL, scale
from flaxmobile.registry import get_spec, options_of
from tests.convert import rules
from tests.convert.keras_models import (
    FORMATS,
    drawing_nothing,
    edited,
    forget_names,
    logits,
    random_model,
    save,
)
from tests.models.parity import assert_close

NETWORKS = [
    ("mobilenet_v1", {"alpha": 0.25}, (64, (97, 131))),
    ("mobilenet_v1", {"alpha": 0.1, "depth_multiplier": 2}, (32, (45, 39))),
    ("mobilenet_v2", {"alpha": 0.35}, (64, (75, 98))),
    ("mobilenet_v3_large", {"alpha": 0.35}, (64, (75, 98))),
    ("mobilenet_v3_small", {"alpha": 1.25}, (64, (75, 98))),
    ("mobilenet_v3_small", {"alpha": 0.5, "minimalistic": True}, (64, (75, 98))),
    ("xception", {}, (71, (83, 96))),
    ("inception_v3", {}, (75, (83, 96))),
    ("inception_resnet_v2", {}, (75, (83, 96))),
]


MODULES = {
    "mobilenet_v1": "mobilenet",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3_large": "mobilenet_v3",
    "mobilenet_v3_small": "mobilenet_v3",
    "xception": "xception",
    "inception_v3": "inception_v3",
    "inception_resnet_v2": "inception_resnet_v2",
}
"""Where Keras prepares images for a network."""


def convert(name, path):
    return fill(name, read_source(path).tensors)


def fill(name, tensors, **options):
    return rules.fill(RULES["keras", name], name, tensors, **options)


def flat(variables):
    return traverse_util.flatten_dict(variables, sep="/")


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name


@pytest.mark.parametrize(("name", "options", "sizes"), NETWORKS, ids=lambda v: str(v))
def test_logits_agree_from_every_format(tmp_path, name, options, sizes):
    network = random_model(name, sizes[0], **options)
    files = {form: save(network, tmp_path, form) for form in FORMATS}
    tensors, *others = (read_source(path).tensors for path in files.values())
    for other in others:
        assert_same(other, tensors)
    found = fill(name, tensors)
    model, variables = found.model, found.variables
    for option, value in {"num_classes": 7, "alpha": 1.0, **options}.items():
        assert getattr(model, option) == value
    scales = {path for path in flat(variables) if path.endswith("scale")}
    assert set(found.constants) == (scales if "inception" in name else set())
    with edited(files["weights.h5"]) as file:
        forget_names(file)
    nameless = convert(name, files["weights.h5"])
    assert_same(flat(nameless.variables), flat(variables))
    apply = jax.jit(model.apply)
    for size in sizes:
        shape = (2, *np.broadcast_to(size, 2), 3)
        images = np.random.default_rng(size).uniform(-1, 1, shape).astype(np.float32)
        network = network if size == sizes[0] else random_model(name, size, **options)
        assert_close(apply(variables, images), logits(network, images), 1e-4, f"at {size}")


@pytest.mark.parametrize("name", KERAS)
def test_the_reference_takes_the_file(tmp_path, name):
    """Our rule's tensors are those of Keras's own network, built from our options."""
    rule = RULES["keras", name]
    options = {**rule.options, **rule.variants[0], **({"alpha": 0.5} if rule.widths else {})}
    model = create_model(name, num_classes=7, **options)
    with drawing_nothing():
        network = build_reference("keras", name, options_of(model))
    size = get_spec(name).image_size
    assert (network.input_shape, network.output_shape) == ((None, size, size, 3), (None, 7))
    assert fill(name, read_source(save(network, tmp_path, "weights.h5")).tensors).model == model


def test_an_optimizers_state_is_ignored_with_the_reason(tmp_path):
    network = random_model("mobilenet_v1", 32, alpha=0.1)
    network.compile("adam", "mse")
    network.optimizer.build(network.trainable_variables)
    for form in FORMATS:
        found = convert("mobilenet_v1", save(network, tmp_path, form))
        assert len(found.left_out) == 2 + 2 * len(network.trainable_variables)
        assert set(found.left_out.values()) == {"the optimizer's state"}


@pytest.mark.parametrize("name", KERAS)
def test_images_are_prepared_as_keras_does(name):
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    module = getattr(keras.applications, MODULES[name])
    expected = module.preprocess_input(image.astype(np.float32))
    if name.startswith("mobilenet_v3"):  # its first layer does it
        expected = keras.layers.Rescaling(scale=1 / 127.5, offset=-1)(image)
    found = rules.facts_of(RULES["keras", name]).preprocessing
    np.testing.assert_allclose(found.normalize(image), expected, atol=1e-6)
    assert found.image_size == get_spec(name).image_size


def test_classes_of_imagenet_are_named():
    facts = rules.facts_of(RULES["keras", "xception"])
    assert (facts.class_names[285], facts.preprocessing.image_size) == ("Egyptian cat", 299)
    assert rules.facts_of(RULES["keras", "xception"], num_classes=1001).class_names is None


@pytest.mark.parametrize("alpha", [step / 20 for step in range(2, 41)])
def test_widths_are_those_of_keras(alpha):
    """Of Keras's own formulas: `_make_divisible` of whole numbers, `_depth` of ratios."""
    for stage in STAGES:
        scaled = stage.channels * alpha
        assert round_channels(int(scaled)) == round_channels(scaled)
    ratios = {LARGE: (1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6)}
    ratios[SMALL] = (1, 72.0 / 16, 88.0 / 24, 4, 6, 6, 3, 3, 6, 6, 6)
    for table, expansions in ratios.items():
        channels = 16
        blocks = scale(table, alpha, "keras", False).blocks
        for block, ratio in zip(blocks, expansions, strict=True):
            assert block.row.expanded_channels == round_channels(channels * ratio)
            channels = block.row.channels
