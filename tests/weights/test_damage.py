"""Weights directories: every way in which one can be wrong when it is read."""

import json

import jax
import numpy as np
import pytest

import flaxmobile
from flaxmobile import InputError, load_weights
from tests.weights.directories import MISTAKES, edit, edit_options, files_of, store


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "mobilenet_v22"}, r"model\.json: unknown model 'mobilenet_v22'.*'mobilenet_v2'"),
        ({"format": 2}, r"model\.json has format 2; this version reads format 1"),
        ({"format": None}, r"model\.json has format None"),
        ({"model": None}, r"model\.json is damaged: it has no 'model'"),
        ({"options": []}, r"model\.json is damaged: it has no 'options'"),
        ({"sha256": None}, r"model\.json is damaged: it has no 'sha256'"),
    ],
)
def test_a_wrong_description_is_refused(directory, change, message):
    edit(directory, **change)
    with pytest.raises(InputError, match=message):
        load_weights(directory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.0}, r"does not fit the model: .*stem/conv/kernel is float32\[3, 3, 3, 16\]"),
        ({"alpha": 0}, r"model\.json: alpha is 0"),
        ({"num_classes": 4}, r"classifier/kernel is float32\[1280, 5\], .* float32\[1280, 4\]"),
        ({"num_classes": 0}, "classifier/kernel is not a parameter of the model"),
        ({"width": 2}, r"model\.json: unknown option of mobilenet_v2 'width'"),
        ({"dtype": "float33"}, r"model\.json: unknown dtype 'float33'"),
        ({"shortcut": "projection"}, "shortcut/conv/kernel is missing"),
    ],
)
def test_options_that_do_not_fit_the_numbers_are_refused(directory, options, message):
    edit_options(directory, **options)
    with pytest.raises(InputError, match=message):
        load_weights(directory)


@pytest.mark.parametrize(
    "names", [["daisy"], [], "daisy", 5, {"0": "daisy"}, ["a", "b", "c", "d", 5]]
)
def test_class_names_that_do_not_fit_the_classes_are_refused(directory, names):
    edit(directory, class_names=names)
    with pytest.raises(InputError, match=r"model\.json.*class.names"):
        flaxmobile.load_metadata(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_sise": 64}, "unknown preprocessing field 'image_sise'.*'image_size'"),
        ({"interpolation": "lanczos"}, "unknown interpolation 'lanczos'.*bilinear"),
        ({"image_size": "64"}, "image_size"),
        ({"image_size": 64.5}, "image_size"),
        ({"image_size": 0}, "image_size is 0"),
        ({"mean": [0.5]}, "mean"),
        ({"mean": ["a", "b", "c"]}, "mean"),
        ({"std": [1, 1, 0]}, "std above 0"),
    ],
)
def test_wrong_preprocessing_is_refused(directory, change, message):
    preprocessing = json.loads((directory / "model.json").read_text())["preprocessing"]
    edit(directory, preprocessing={**preprocessing, **change})
    with pytest.raises(InputError, match=message):
        flaxmobile.load_metadata(directory)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00{", b'{"format": 1}'])
@pytest.mark.parametrize("load", [load_weights, flaxmobile.load_metadata])
def test_a_broken_description_is_refused(directory, content, load):
    (directory / "model.json").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.json is damaged: "):
        load(directory)


@pytest.mark.parametrize("path", [".", "missing", "empty", "file"])
def test_what_is_no_weights_directory_is_refused(tmp_path, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"is not a weights directory: it has no model\.json"):
        load_weights(tmp_path / path)


def test_of_a_training_run_the_best_weights_are_named(directory):
    run = directory.parent / "run"
    run.mkdir()
    directory.rename(run / "best")
    with pytest.raises(InputError, match=f"that run's best weights are {run / 'best'}$"):
        load_weights(run)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing: the weights directory is incomplete"),
        (_truncate, "is damaged: its SHA-256 is not"),
        (_flip_a_byte, "is damaged: its SHA-256 is not"),
    ],
    ids=["missing", "truncated", "one bit flipped"],
)
def test_damage_to_any_file_is_refused_and_the_file_named(directory, damage, message):
    for name, content in files_of(directory).items():
        if name.name != "model.json":
            damage(directory / name)
            with pytest.raises(InputError, match=f"{name} {message}"):
                load_weights(directory)
            (directory / name).write_bytes(content)
    load_weights(directory)


def test_a_file_without_a_sum_is_refused(directory):
    sums = json.loads((directory / "model.json").read_text())["sha256"]
    edit(directory, sha256=dict(list(sums.items())[1:]))
    with pytest.raises(InputError, match=f"{next(iter(sums))}.*SHA-256"):
        load_weights(directory)


@MISTAKES
def test_stored_numbers_that_are_not_the_models_are_refused(directory, variables, spoil, message):
    tree = jax.tree.map(np.copy, variables)
    spoil(tree)
    store(directory, tree)
    with pytest.raises(InputError, match=message):
        load_weights(directory)
