import numpy as np
import pytest

from tests.exporters.weights import METADATA
from tests.networks import random_variables, short_model


@pytest.fixture(scope="session")
def network():
    """The shortest MobileNet V2, and its variables."""
    return short_model(), random_variables(short_model())


@pytest.fixture(scope="session")
def metadata():
    return METADATA


@pytest.fixture(scope="session")
def images():
    """Raw images."""
    return np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
