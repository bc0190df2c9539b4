"""Parts of a batch: how many images go through a network, and its blocks, at a time on a CPU."""

import functools

import jax
import numpy as np
import pytest

import flaxmobile
from flaxmobile.inference import parts
from flaxmobile.layers import Block, Conv, Network
from tests.networks import random_variables, short_model


def test_blocks_of_a_share_take_smaller_maps(monkeypatch):
    """Of eight images four are a share: the same four go through a block two at a time."""
    model = short_model()
    variables = random_variables(model)

    def loops(images):
        images = np.ones((images, 64, 64, 3), np.float32)
        share = functools.partial(parts.apply_in_parts, model, 4)
        return str(jax.make_jaxpr(share)(variables, images, 0)).count("scan[")

    assert loops(8) == loops(4) == 0
    monkeypatch.setattr(parts, "_MAP_BYTES_OF_SHARE", 2**16)
    assert loops(8) > loops(4) == 0


@pytest.mark.parametrize(("channels", "together"), [(14, 8), (24, 4)])
def test_a_large_network_takes_fewer_images_at_a_time(channels, together):
    """Of 224 × 224 pixels: convolutions that make 6 × 2.7 or 6 × 4.6 MiB of each image."""

    class Maps(Network):
        def blocks(self):
            return [Block("conv0", stride=32), *(Block(f"conv{number}") for number in range(1, 6))]

        def build(self, place, unit):
            return Conv(channels, name=place.name)

    model, images = Maps(num_classes=0), jax.ShapeDtypeStruct((16, 224, 224, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    text = jax.jit(flaxmobile.jit_inference(model)).lower(variables, images).as_text()
    assert f"tensor<{16 // together}x{together}x{channels}xf32>" in text


def test_memory_on_a_cpu_does_not_grow_with_the_batch():
    model = short_model()
    infer, variables = jax.jit(flaxmobile.jit_inference(model)), random_variables(model)

    def temporary(count):
        images = jax.ShapeDtypeStruct((count, 64, 64, 3), np.float32)
        return infer.lower(variables, images).compile().memory_analysis().temp_size_in_bytes

    assert temporary(64) < 1.1 * temporary(8)
