"""Variables of a network: how they are made."""

import chex
import jax
import numpy as np

import flaxmobile
from flaxmobile.models import mobilenet_v2
from flaxmobile.variables import abstract_variables
from tests.networks import short_model


def test_init_is_the_networks_and_is_compiled_once(monkeypatch):
    model = short_model()
    variables = flaxmobile.init(model, jax.random.key(3))
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, abstract_variables(model))
    assert 0.009 < np.std(variables["params"]["classifier"]["kernel"]) < 0.011
    monkeypatch.setattr(mobilenet_v2.MobileNetV2, "build", None)  # a second trace would fail
    again = flaxmobile.init(model.clone(), jax.random.key(3), np.int64(32))
    chex.assert_trees_all_equal(again, variables)
