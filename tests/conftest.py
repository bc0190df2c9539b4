"""Settings of the whole suite: 8 virtual CPU devices, strict ranks, warnings are errors."""

import gc
import os
from pathlib import Path

from flaxmobile import tpu
from tests.xla import FLAGS

# Before JAX is imported anywhere: it reads these once. Child processes inherit them.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(FLAGS)
os.environ.update(tpu.SETTINGS)  # libtpu, installed for its compiler, finds no TPU here
os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"  # in several processes at once, to compile only
os.environ["MPLBACKEND"] = "agg"
os.environ["KERAS_BACKEND"] = "jax"
# A program that several tests, workers or runs of the suite need is compiled once.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "xla")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# Tracing makes objects by the million: looking for garbage among them takes a quarter of its time.
gc.freeze()
gc.set_threshold(100_000, 50, 100)


@pytest.fixture
def for_a_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile as users do: libtpu ends the process at a flag that it does not know."""
    jax.devices()  # reads the flags of CPUs
    monkeypatch.delenv("XLA_FLAGS")
    compile_lowered = jax.stages.Lowered.compile
    options = {"xla_backend_optimization_level": 3}
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda lowered: compile_lowered(lowered, options)
    )


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)
