"""Keras's networks without top, and with another: backbones, if that is what the user asks for."""

import jax
import keras
import numpy as np
import pytest

from convert.choices import HEADLESS
from convert.sources import read_source
from flaxmobile import InputError
from tests.convert.keras_models import FORMATS, drawing_nothing, logits, random_model, save
from tests.convert.test_keras import fill
from tests.models.parity import assert_close


def test_a_network_without_top_needs_to_be_asked_for(tmp_path):
    for name in ("mobilenet_v2", "mobilenet_v3_small"):
        network = random_model(name, 32, alpha=0.35, num_classes=0)
        tensors = read_source(save(network, tmp_path, "h5")).tensors
        with pytest.raises(InputError, match=r"(predictions|logits)/kernel is missing"):
            fill(name, tensors)
        found = fill(name, tensors, **HEADLESS)
        images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
        features = jax.jit(found.model.apply)(found.variables, images)
        assert_close(features, logits(network, images), 1e-4, name)


def test_another_head_is_left_out_of_a_backbone(tmp_path):
    base = random_model("mobilenet_v2", 32, alpha=0.35, num_classes=0)
    with drawing_nothing():
        network = keras.Sequential([base, keras.layers.Dense(3), keras.layers.Dense(2)])
        network.build((None, 32, 32, 3))
    for form in FORMATS:
        tensors = read_source(save(network, tmp_path, form)).tensors
        found = fill("mobilenet_v2", tensors, **HEADLESS)
        assert len(found.left_out) == 4
        stem = found.variables["params"]["stem"]["conv"]["kernel"]
        assert np.array_equal(stem, tensors["Conv1/kernel"])
