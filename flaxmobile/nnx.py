"""Networks as modules of Flax NNX, with the same parameters."""

from typing import Any

import jax
from flax import nnx
from flax.errors import InvalidRngError
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.trees import Tree
from flaxmobile.variables import init

_KINDS: dict[str, type[nnx.Variable[Any]]] = {"params": nnx.Param, "batch_stats": nnx.BatchStat}


class NNXModel(nnx.Module):
    """A network that holds its variables, as NNX does.

    `train()` and `eval()` switch between the two modes, as for NNX's own layers; it begins in the
    second. In training the running statistics are updated in place and dropout draws from `rngs`.

    Attributes:
      model: the Linen module.
      params: parameters by the names of the Linen module, each an `nnx.Param`.
      batch_stats: running statistics, each an `nnx.BatchStat`.
      rngs: streams of random keys: "params" (or "default") at the start, "dropout" in training.
    """

    def __init__(
        self, model: Model, variables: Tree | None = None, *, rngs: nnx.Rngs | None = None
    ) -> None:
        """Hold variables, or new ones.

        Args:
          model: a classifier, backbone, segmenter or detector.
          variables: {"params": …, "batch_stats": …}; by default initialized with `rngs`.
          rngs: needed for new variables, and in training for dropout.

        Raises:
          InputError: neither variables nor rngs.
        """
        if variables is None:
            if rngs is None:
                raise InputError("an NNX network needs variables, or rngs=nnx.Rngs(0) to make them")
            variables = init(model, rngs.params())
        self.model = model
        self.rngs = rngs
        self.deterministic = True  # the attribute that train() and eval() set
        for group, kind in _KINDS.items():
            setattr(self, group, nnx.data(jax.tree.map(kind, variables.get(group, {}))))

    def __call__(self, images: Array) -> Any:
        """Map images [n, h, w, c] to what the Linen module gives, such as logits."""
        if self.deterministic:
            return self.model.apply(self.variables, images)
        keys = {} if self.rngs is None else {"dropout": self.rngs.dropout()}
        try:
            outputs, updates = self.model.apply(
                self.variables, images, train=True, mutable=["batch_stats"], rngs=keys
            )
        except InvalidRngError:
            raise InputError("dropout needs random keys: make the network with rngs") from None
        nnx.update(self.batch_stats, updates.get("batch_stats", {}))
        return outputs

    @property
    def variables(self) -> Tree:
        """The variables of the Linen module, for `save_weights` and every other function."""
        return {
            group: nnx.to_pure_dict(nnx.state(held))
            for group in _KINDS
            if (held := getattr(self, group))
        }

    def load(self, variables: Tree) -> None:
        """Take the values of a Linen module's variables, such as those of `load_weights`."""
        for group in _KINDS:
            nnx.update(getattr(self, group), variables.get(group, {}))
