"""Compiler options: only on a CPU, and only those that its compiler knows."""

import jax
import numpy as np
import pytest

from flaxmobile import compiler
from flaxmobile.compiler import inference_options, training_options
from tests.xla import THOROUGH


@pytest.fixture(autouse=True)
def _empty_cache():
    compiler._if_known.cache_clear()
    yield
    compiler._if_known.cache_clear()


@pytest.mark.parametrize("options", [inference_options, training_options])
def test_options_that_the_compiler_does_not_know_are_left_out(options, monkeypatch):
    monkeypatch.setattr(compiler, "_ALWAYS", {"xla_cpu_of_next_year": ""})
    assert options() is None


def test_other_platforms_have_none(monkeypatch):
    assert training_options("tpu") is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert training_options() is None
    assert inference_options() is None


def test_in_inference_matrix_products_are_eigens():
    lowered = jax.jit(lambda x: x @ x).lower(np.ones((64, 64), np.float32))
    assert "ynn" in lowered.compile(THOROUGH).as_text()
    text = lowered.compile({**THOROUGH, **inference_options()}).as_text()
    assert "ynn" not in text


def test_this_compiler_knows_all_options():
    """If a new jaxlib drops one, measure again what it was for.

    Training's changes the machine code alone, which JAX does not show.
    """
    assert training_options()
    assert training_options().items() < inference_options().items()
