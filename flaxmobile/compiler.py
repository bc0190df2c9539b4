"""Options of XLA's compiler for a CPU."""

import functools

import jax

_ANY = {"xla_cpu_prefer_vector_width": "512"}
"""Where a processor has registers of 512 bits they are used; XLA prefers 256. On Zen 5 a training
step takes 2 to 9 percent less time and inference 1 to 5; on Zen 4, which halves them, the same."""

_INFERENCE = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
"""The first leaves matrix products to Eigen. YNNPACK's threads wait for each other longer than they
compute: with two of them MobileNetV2 takes 1.2 times as long. (It also leaves YNNPACK's reductions
out, without which a training step would take 3.5 times as long.) The second leaves out the pass
that discards optimization barriers before XLA fuses operations: see
`flaxmobile.ops.materialize_on_cpu`."""

Options = dict[str, str] | None
"""`compiler_options` of `jax.jit`."""


def training_options(platform: str | None = None) -> Options:
    """What `jax.jit` of a training step is to be given.

    Args:
      platform: that it will run on; the default one if None.
    """
    return _known(platform or jax.default_backend(), tuple(_ANY.items()))


def inference_options() -> Options:
    """What `jax.jit` of a network without training is to be given on the default platform."""
    return _known(jax.default_backend(), tuple({**_ANY, **_INFERENCE}.items()))


@functools.cache
def _known(platform: str, options: tuple[tuple[str, str], ...]) -> Options:
    """The options on a CPU, if its compiler knows all of them."""
    if platform != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return dict(options)
