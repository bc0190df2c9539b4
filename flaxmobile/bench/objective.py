"""The objective of all candidates in training: cross entropy, by SGD with momentum."""

import optax

from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing
from train.step import Objective

LEARNING_RATE, MOMENTUM = 1e-3, 0.9

_AS_THEY_ARE = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


def sgd(model: Network) -> Objective:
    """Make the objective of `train.step.train_step`, for images that are normalized already."""
    return Objective(
        model=model,
        preprocessing=_AS_THEY_ARE,
        optimizer=optax.sgd(LEARNING_RATE, MOMENTUM),
        schedule=optax.constant_schedule(LEARNING_RATE),
        norm_warmup=False,  # the peers have none
    )
