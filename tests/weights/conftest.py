"""A good weights directory, and a copy of it."""

import shutil

import pytest

from flaxmobile import save_weights
from tests.networks import random_variables, small_model
from tests.weights.directories import METADATA, OPTIONS


@pytest.fixture(scope="module")
def variables():
    return random_variables(small_model())


@pytest.fixture(scope="module")
def saved(tmp_path_factory, variables):
    """A good weights directory; only to be read."""
    directory = tmp_path_factory.mktemp("weights") / "good"
    save_weights(directory, "v2", OPTIONS, variables, METADATA)
    return directory


@pytest.fixture
def directory(saved, tmp_path):
    """A copy of it, to be spoiled."""
    return shutil.copytree(saved, tmp_path / "copy")
