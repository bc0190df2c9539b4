"""Weights directories: exact round trips."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np

import flaxmobile
from flaxmobile import Metadata, load_weights, save_weights
from flaxmobile.registry import options_of
from tests.networks import random_variables, small_model
from tests.weights.directories import METADATA, OPTIONS, bytes_of, files_of


def test_round_trip_is_exact_to_the_bit(tmp_path, variables):
    strange = jax.tree.map(np.copy, variables)
    bias = strange["params"]["stem"]["norm"]["bias"]
    bias[:5] = np.float32([-0.0, 1e-45, np.inf, np.nan, np.finfo(np.float32).max])
    given = {**strange, "params": jax.tree.map(jnp.asarray, strange["params"])}  # jax and numpy
    save_weights(tmp_path / "a" / "b", "v2", OPTIONS, given)
    model, loaded = load_weights(tmp_path / "a" / "b")
    assert model == small_model()
    assert bytes_of(loaded) == bytes_of(strange)
    leaves = jax.tree.leaves(loaded)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert {leaf.sharding.device_set == {jax.devices()[0]} for leaf in leaves} == {True}


def test_options_come_back_dtype_included(tmp_path):
    options = {**OPTIONS, "dtype": jnp.bfloat16, "padding": "same", "norm_epsilon": 1e-3}
    save_weights(tmp_path / "w", "mobilenet_v2", options, random_variables(small_model()))
    model, loaded = load_weights(tmp_path / "w")
    assert model == flaxmobile.create_model("v2", **options)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype("float32")}


def test_metadata_comes_back(saved):
    assert flaxmobile.load_metadata(saved) == METADATA


def test_description_says_model_options_classes_preprocessing_source_and_version(saved):
    description = json.loads((saved / "model.json").read_text())
    assert description["model"] == "mobilenet_v2"
    assert description["options"] == {**OPTIONS, "dtype": "float32"}
    assert description["num_classes"] == 5
    assert description["class_names"] == list(METADATA.class_names)
    assert description["preprocessing"]["image_size"] == 64
    assert description["source"] == METADATA.source
    assert description["library"] == f"flaxmobile {flaxmobile.__version__}"


def test_nothing_is_pickled(saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    for name, content in files_of(saved).items():
        assert not content.startswith(b"\x80"), name  # the first byte of a binary pickle
        assert name.suffix not in (".pkl", ".pickle", ".npy", ".npz", ".pt", ".pth")
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    load_weights(saved)


def test_a_directory_can_be_moved_and_given_as_text(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    assert load_weights("copy/")[0] == small_model()


def test_bfloat16_is_stored_as_float32(tmp_path, variables):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    save_weights(tmp_path / "w", "v2", OPTIONS, narrow)
    _, loaded = load_weights(tmp_path / "w")
    assert bytes_of(loaded) == bytes_of(jax.tree.map(lambda leaf: leaf.astype(np.float32), narrow))


def test_options_as_a_module_has_them_come_back(tmp_path):
    """Flax freezes the dictionaries of a module."""
    options = {"alpha": 0.1, "num_classes": 5}
    layer, channels = next(iter(flaxmobile.create_model("ic_conv", **options).layers().items()))
    model = flaxmobile.create_model("ic_conv", **options, pattern={layer: [[1, 2]] * channels})
    save_weights(tmp_path / "w", "ic_conv", options_of(model), random_variables(model))
    assert load_weights(tmp_path / "w")[0] == model


def test_numbers_of_numpy_are_kept_as_plain_ones(tmp_path, variables):
    source = {"accuracy": np.float32(0.5), "images": np.int64(3)}
    save_weights(tmp_path / "w", "v2", OPTIONS, variables, Metadata(source=source))
    assert flaxmobile.load_metadata(tmp_path / "w").source == {"accuracy": 0.5, "images": 3}
