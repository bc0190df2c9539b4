"""Learning beside torchvision, on images that are made here."""

import gzip
import struct

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from flaxmobile.bench import learning
from train.optimizers import make_optimizer, make_schedule


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Ten patterns under noise, in IDX files."""
    folder, rng = tmp_path_factory.mktemp("idx"), np.random.default_rng(0)
    labels = rng.integers(0, 10, 640, np.uint8)
    patterns = rng.integers(0, 200, (10, 28, 28), np.uint8)
    pixels = patterns[labels] + rng.integers(0, 50, (640, 28, 28), np.uint8)
    for name, values in (("images", pixels), ("labels", labels)):
        header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        path = folder / f"train-{name}-idx{values.ndim}-ubyte.gz"
        path.write_bytes(gzip.compress(header + values.tobytes()))
    return learning.read_split(folder, "train")


def test_torchvisions_loop_has_our_optimizer_and_schedule(images):
    """On a network of one layer; convolutions: tests/models/test_parity.py."""
    steps = 3 * (len(images.labels) // learning.BATCH)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10)).double()
    layer = {"kernel": module[1].weight.detach().numpy().T, "bias": module[1].bias.detach().numpy()}

    def loss_of(layer, pixels, labels):
        # torch's pixels are [n, c, h, w]
        flat = learning.PRESET.normalize(pixels).transpose(0, 3, 1, 2).reshape(len(labels), -1)
        logits = flat @ layer["kernel"] + layer["bias"][None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    losses = []
    with jax.enable_x64(True):
        layer = jax.tree.map(jnp.asarray, layer)
        schedule = make_schedule(learning.SETTINGS, steps // learning.EPOCHS, steps)
        optimizer = make_optimizer(learning.SETTINGS, schedule, steps // learning.EPOCHS)
        state = optimizer.init(layer)
        for batch in learning.batches(images, 0, steps):
            loss, gradients = jax.value_and_grad(loss_of)(layer, *batch)
            updates, state = optimizer.update(gradients, state, layer)
            layer = optax.apply_updates(layer, updates)
            losses.append(float(loss))
    theirs = learning.train_torchvision(module, learning.batches(images, 0, steps), steps, images)
    np.testing.assert_allclose(losses, theirs.losses, rtol=1e-6, atol=1e-7)
    assert 0 <= theirs.accuracy <= 1


def test_batches_depend_on_the_seed_alone(images):
    first, again, other = (
        [np.concatenate([batch[0].ravel() for batch in learning.batches(images, seed, 6)])]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_every_image_is_in_an_epoch_once(images):
    labels = np.concatenate([labels for _, labels in learning.batches(images, 0, 5)])
    np.testing.assert_array_equal(np.bincount(labels), np.bincount(images.labels))
