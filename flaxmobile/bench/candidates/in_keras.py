"""Keras's own network on its JAX backend."""

import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convert.conversion import convert_file
from convert.references import KERAS, build_keras
from flaxmobile.bench.candidates.base import (
    Candidate,
    Missing,
    data,
    dtype,
)
from flaxmobile.bench.candidates.in_jax import Training
from flaxmobile.bench.job import Job
from flaxmobile.bench.objective import LEARNING_RATE, MOMENTUM
from flaxmobile.errors import InputError, pip_install
from flaxmobile.registry import create_model, options_of

_WITHOUT_DROPOUT = {
    "mobilenet_v1": {"dropout": 0.0},
    "mobilenet_v3_large": {"dropout_rate": 0.0},
    "mobilenet_v3_small": {"dropout_rate": 0.0},
}


class KerasNetwork(Candidate):
    """`keras.applications`, with weights of its own: it pads as TensorFlow does.

    So it is compared with our network as `python -m convert` makes it from those weights.
    """

    def __init__(self, job: Job) -> None:
        if job.task == "compile":
            raise Missing("Keras compiles only in the first step")
        if job.model not in KERAS:
            raise Missing(f"Keras has no {job.model}")
        if dtype(job) != np.float32:
            raise Missing("Keras is measured in float32 only")
        os.environ["KERAS_BACKEND"] = "jax"
        try:
            import keras
        except ImportError as error:
            raise Missing(f"{pip_install('keras')}: {error}") from None
        keras.utils.set_random_seed(0)
        self._job, self._arrays = job, data(job)
        options = options_of(create_model(job.model, **job.options))
        self._network = build_keras(
            keras.applications,
            job.model,
            options,
            job.image_size,
            **_WITHOUT_DROPOUT.get(job.model, {}),
        )
        self._ours = self._converted()
        self._network.compile(
            keras.optimizers.SGD(LEARNING_RATE, MOMENTUM),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def _converted(self) -> tuple[Any, Any]:
        """Our network and its variables, from Keras's file."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "network.weights.h5"
            self._network.save_weights(file)
            try:
                found = convert_file(file, self._job.model, source="keras").filled
            except InputError as error:
                raise Missing(f"Keras's {self._job.model} cannot be converted: {error}") from None
        return found.model.clone(dropout_rate=0.0), found.variables

    def call(self) -> np.ndarray:
        """Infer, or take a step."""
        images, labels = self._arrays
        if self._job.task == "inference":
            return np.asarray(self._network.predict_on_batch(images))
        return np.asarray(self._network.train_on_batch(images, labels))

    def expected(self) -> np.ndarray:
        """Return the outputs of our network with the same weights."""
        model, variables = self._ours
        if self._job.task == "inference":
            return np.asarray(jax.jit(model.apply)(variables, self._arrays[0]))
        step = Training(self._job, model, variables)
        step.prepare()
        return step.fetch(step.call())
