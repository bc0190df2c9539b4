"""Keras's networks in which every number is random, and the files that it writes of them."""

import contextlib
import warnings
import zipfile
from unittest import mock

import h5py
import jax
import keras
import numpy as np
from keras import initializers

from convert.references import build_keras

FORMATS = ("h5", "weights.h5", "keras")
MEMBER = "model.weights.h5"


def random_model(name, size, **options):
    """Statistics and affine parameters too; variances are positive. The same for all sizes."""
    defaults = {"alpha": 1.0, "num_classes": 7, "depth_multiplier": 1, "minimalistic": False}
    with drawing_nothing():
        model = build_keras(keras.applications, name, {**defaults, **options}, size)
    rng = np.random.default_rng(0)
    model.set_weights([draw(rng, weight.name, weight.shape) for weight in model.weights])
    return model


def draw(rng, name, shape):
    if name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if not name.endswith("kernel"):
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)
    depthwise = len(shape) == 4 and shape[-1] <= 4 < shape[-2]
    fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
    return (rng.standard_normal(shape, np.float32) * np.sqrt(2 / fan_in)).astype(np.float32)


@contextlib.contextmanager
def drawing_nothing():
    """Parameters begin at 0: Keras compiles a program for every shape that it draws."""

    def zeros(self, shape, dtype=None):
        return np.zeros(shape, np.float32)

    with contextlib.ExitStack() as stack:
        for kind in (initializers.VarianceScaling, initializers.Zeros, initializers.Ones):
            stack.enter_context(mock.patch.object(kind, "__call__", zeros))
        yield


def save(model, path, form):
    """Write a file of a format and give its path."""
    path = path / f"saved.{form}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older format, and of NumPy 2
        (model.save_weights if form == "weights.h5" else model.save)(path)
    return path


def logits(model, images):
    """What Keras computes from images [n, h, w, 3], in one compiled program."""

    def apply(trained, others, images):
        return model.stateless_call(trained, others, images, training=False)[0]

    kinds = (model.trainable_variables, model.non_trainable_variables)
    values = [[variable.value for variable in kind] for kind in kinds]
    with jax.numpy_rank_promotion("allow"):  # Keras adds biases without a thought
        return np.asarray(jax.jit(apply)(*values, images))


@contextlib.contextmanager
def edited(path):
    """The HDF5 file in a file of any format, to be changed."""
    if path.suffix != ".keras":
        with h5py.File(path, "r+") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inner = path.with_name(MEMBER)
    inner.write_bytes(members[MEMBER])
    with h5py.File(inner, "r+") as file:
        yield file
    members[MEMBER] = inner.read_bytes()
    inner.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def forget_names(file):
    """Make an HDF5 file of Keras before 3.8, which kept the layers' classes and numbers alone."""

    def forget(_, group):
        group.attrs.pop("name", None)  # its result would end the walk

    file.visititems(forget)
