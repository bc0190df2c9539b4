"""Options of XLA's CPU compiler."""

import functools

import jax

_ALWAYS = {"xla_cpu_prefer_vector_width": "512"}
"""Use 512-bit vectors where the processor has them; XLA prefers 256 bits. On Zen 5 a training step
runs 2 to 9 percent faster and inference 1 to 5 percent; on Zen 4, which splits them, equally fast.
"""

_INFERENCE = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
"""The first computes matrix products by Eigen instead of YNNPACK, whose threads wait for each other
longer than they compute: MobileNetV2 on two threads is 1.2 times faster. (It also disables
YNNPACK's reductions, without which a training step would be 3.5 times slower.) The second disables
the pass that discards optimization barriers before fusion: see
`flaxmobile.ops.materialize_on_cpu`."""

Options = dict[str, str] | None
"""`compiler_options` of `jax.jit`."""


def training_options(platform: str | None = None) -> Options:
    """Compiler options for a training step.

    Args:
      platform: the platform that will run it; JAX's default if None.

    Returns:
      `compiler_options` of `jax.jit`; None on other platforms, and if the compiler is too new.
    """
    return _if_known(platform or jax.default_backend(), tuple(_ALWAYS.items()))


def inference_options() -> Options:
    """Compiler options for inference on the default platform; see `training_options`."""
    return _if_known(jax.default_backend(), tuple({**_ALWAYS, **_INFERENCE}.items()))


@functools.cache
def _if_known(platform: str, options: tuple[tuple[str, str], ...]) -> Options:
    """Return the options on a CPU, if its compiler knows all of them."""
    if platform != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return dict(options)
