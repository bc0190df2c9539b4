"""Channel shuffle (ShuffleNet, Zhang et al. 2018, figure 1c)."""

from jax import Array


def channel_shuffle(x: Array, groups: int) -> Array:
    """Interleave the channel groups of x [..., c]: figure 1c.

    Each new group has channels of all old ones: output channel i * groups + j is channel i of
    input group j.
    """
    *lead, channels = x.shape
    return x.reshape(*lead, groups, channels // groups).swapaxes(-1, -2).reshape(*lead, channels)
