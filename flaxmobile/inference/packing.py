"""Variables packed into few arrays: every argument of a compiled program costs time per call."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Packed = tuple[list[Array | None], list[Array]]
"""Leaves that are not vectors, in order, and one array for all vectors of each dtype."""


def pack_vectors(variables: Any) -> tuple[Packed, Callable[[Packed], Any]]:
    """Concatenate all vectors of each dtype; return the packed tree and its inverse."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, variables))
    vectors: dict[Any, list[int]] = {}
    for place, leaf in enumerate(leaves):
        if leaf.ndim == 1:
            vectors.setdefault(leaf.dtype, []).append(place)
    sizes = [[len(leaves[place]) for place in places] for places in vectors.values()]
    joined = [jnp.concatenate([leaves[place] for place in places]) for places in vectors.values()]
    others = [None if leaf.ndim == 1 else leaf for leaf in leaves]

    def unpack(packed: Packed) -> Any:
        leaves, joined = list(packed[0]), packed[1]
        for places, array, parts in zip(vectors.values(), joined, sizes, strict=True):
            for place, vector in zip(places, lax.split(array, parts), strict=True):
                leaves[place] = vector
        return jax.tree.unflatten(structure, leaves)

    return (others, joined), unpack
