"""Grad-CAM: the places of an image that speak for a class."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flaxmobile.errors import InputError
from flaxmobile.layers import Network
from flaxmobile.layers.parameters import trace_init
from flaxmobile.trees import Tree

_SEEN = "seen"  # collections of the observed network
_OFFSETS = "perturbations"


def grad_cam(model: Network, variables: Tree, images: ArrayLike, classes: ArrayLike) -> Array:
    """Show which places of the last map speak for a class (Selvaraju et al. 2017, section 3).

    The last map is the one that is averaged before the classifier. Its channels are weighted by the
    gradient of the class's logit and summed; what speaks against the class counts as 0.

    Args:
      model: a classifier.
      variables: of the model.
      images: [n, h, w, c] floating point, normalized as the weights expect.
      classes: integers [n], a class for each image.

    Returns:
      float32 [n, h', w'] of the last map's size, such as h / 32: 1 at the strongest place of each
      image, 0 where nothing speaks for the class.

    Raises:
      InputError: the model is no classifier.
    """
    if not isinstance(model, Network) or not model.gives_logits:
        raise InputError("the model gives no logits of an image; accepted: a classifier")
    return _heat(model, variables, jnp.asarray(images), jnp.asarray(classes))


@functools.partial(jax.jit, static_argnums=0)
def _heat(model: Network, variables: Tree, images: Array, classes: Array) -> Array:
    observed = _observed(model)

    def score(offsets: Tree) -> tuple[Array, Array]:
        both = {**variables, _OFFSETS: offsets}
        logits, seen = observed.apply(both, images, mutable=[_SEEN])
        return jnp.take_along_axis(logits, classes[:, None], axis=1).sum(), seen[_SEEN]["map"][0]

    shapes = trace_init(observed, images)[1][_OFFSETS]
    offsets = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    gradients, last = jax.grad(score, has_aux=True)(offsets)
    weights = gradients["pooled"].astype(jnp.float32)
    heat = jax.nn.relu(jnp.einsum("nhwc,nc->nhw", last.astype(jnp.float32), weights))
    strongest = heat.max((1, 2), keepdims=True)
    return heat / jnp.where(strongest > 0, strongest, 1)


def _observed(model: Network) -> Network:
    """Make a network that shows the map it pools, and whose pooled features have a gradient."""

    class Observed(type(model)):  # type: ignore[misc]
        def pool(self, x: Array) -> Array:
            self.sow(_SEEN, "map", x)
            pooled: Array = self.perturb("pooled", super().pool(x), _OFFSETS)
            return pooled

    options = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    observed: Network = Observed(**options | {"parent": None, "name": None})
    return observed
