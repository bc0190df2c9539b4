"""Weights directories: what is not saved, and what a failure leaves."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

import flaxmobile
from flaxmobile import InputError, Metadata, load_weights, save_weights
from tests.weights.directories import MISTAKES, OPTIONS, bytes_of, files_of


@MISTAKES
def test_variables_that_are_not_the_models_are_not_saved(tmp_path, variables, spoil, message):
    tree = jax.tree.map(np.copy, variables)
    spoil(tree)
    with pytest.raises(InputError, match=message):
        save_weights(tmp_path / "w", "v2", OPTIONS, tree)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "metadata", "message"),
    [
        ("v9", OPTIONS, None, "unknown model 'v9'"),
        ("v2", {**OPTIONS, "alpha": 0.0}, None, "alpha is 0.0"),
        ("v2", {**OPTIONS, "num_clases": 5}, None, "unknown option"),
        ("v2", OPTIONS, Metadata(class_names=("a", "b")), "2 class names .* for 5 classes"),
    ],
)
def test_a_wrong_name_option_or_number_of_class_names_is_not_saved(
    tmp_path, variables, name, options, metadata, message
):
    with pytest.raises(InputError, match=message):
        save_weights(tmp_path / "w", name, options, variables, metadata)
    assert not list(tmp_path.iterdir())


def test_a_source_that_json_cannot_hold_is_refused_before_anything_is_written(
    tmp_path, variables, monkeypatch
):
    monkeypatch.setattr(ocp, "Checkpointer", None)
    with pytest.raises(InputError, match=r"model\.json cannot hold \{1\} in options or source"):
        save_weights(tmp_path / "w", "v2", OPTIONS, variables, Metadata(source={"a": {1}}))
    assert not list(tmp_path.iterdir())


def test_defects_while_writing_keep_their_traceback(tmp_path, variables, monkeypatch):
    def save(*_):
        raise ValueError("a defect of Orbax")

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    with pytest.raises(ValueError, match="a defect of Orbax") as error:
        save_weights(tmp_path / "w", "v2", OPTIONS, variables)
    assert not isinstance(error.value, InputError)
    assert not list(tmp_path.iterdir())


def test_an_existing_directory_is_refused_and_left_as_it_is(directory, variables):
    before = files_of(directory)
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    with pytest.raises(InputError, match="copy exists already"):
        save_weights(directory, "v2", OPTIONS, other)
    assert files_of(directory) == before


def test_overwriting_replaces_the_whole_directory(directory, variables):
    (directory / "old.txt").write_text("")
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    save_weights(directory, "v2", OPTIONS, other, overwrite=True)
    assert bytes_of(load_weights(directory)[1]) == bytes_of(other)
    assert flaxmobile.load_metadata(directory) == Metadata(output="softmax")
    assert [path.name for path in directory.parent.iterdir()] == ["copy"]
    assert not (directory / "old.txt").exists()


FULL_DISK = """
import resource, sys
from flaxmobile import InputError, save_weights
from tests.networks import random_variables, small_model
variables = random_variables(small_model())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_weights(
        sys.argv[1], "v2", {"alpha": 0.35, "num_classes": 5}, variables, overwrite=True
    )
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("exists", [False, True], ids=["new", "over an old one"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(directory, tmp_path, exists):
    target = directory if exists else tmp_path / "new"
    before = files_of(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, target],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{target} cannot be written: ")
    assert done.stdout.count("\n") == 1
    assert files_of(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
