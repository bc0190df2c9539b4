import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flaxmobile.layers import channel_shuffle
from tests.models.parity import from_torch, to_torch


def test_channels_of_the_groups_alternate():
    """Figure 1c: a1 a2 a3, b1 b2 b3 become a1 b1, a2 b2, a3 b3."""
    shuffled = channel_shuffle(jnp.arange(6), 2)
    assert shuffled.tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 12])
def test_shuffle_is_torchs(groups):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 12)).astype(np.float32)
    expected = torch.nn.ChannelShuffle(groups)(to_torch(x))
    np.testing.assert_array_equal(channel_shuffle(jnp.asarray(x), groups), from_torch(expected))


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_the_other_shuffle_undoes_it(groups):
    x = jnp.arange(24).reshape(2, 12)
    np.testing.assert_array_equal(channel_shuffle(channel_shuffle(x, groups), 12 // groups), x)


@pytest.mark.parametrize("groups", [2, 3])
def test_every_group_gets_some_of_all(groups):
    size = 12 // groups
    given = jnp.arange(12) // size  # the group that a channel comes from
    for members in channel_shuffle(given, groups).reshape(groups, size):
        assert set(members.tolist()) == set(range(groups))
