"""SavedModel for TensorFlow Serving, through jax2tf: one operator that holds the whole program."""

from pathlib import Path

from flaxmobile.errors import InputError, first_line
from flaxmobile.exporters.attachments import DESCRIPTION, to_text
from flaxmobile.exporters.program import IMAGES, Program
from flaxmobile.exporters.stablehlo import PLATFORMS

_SIGNATURE = "serving_default"


def write(program: Program, path: Path) -> None:
    """Write a SavedModel directory; what is said about the network is in its assets.extra.

    Raises:
      InputError: TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf
    except ImportError as error:
        raise InputError(
            f"SavedModels need TensorFlow ({first_line(error)}): pip install tensorflow-cpu"
        ) from None
    shape = [size if isinstance(size, int) else None for size in program.images.shape]
    converted = jax2tf.convert(
        program.function,
        with_gradient=False,
        polymorphic_shapes=[None if None not in shape else "n, _, _, _"],
        native_serialization_platforms=PLATFORMS,
    )
    signature = tf.TensorSpec(shape, program.images.dtype.name, name=IMAGES)
    module = tf.Module()
    module.serve = tf.function(converted, autograph=False, input_signature=[signature])
    tf.saved_model.save(module, str(path), signatures={_SIGNATURE: module.serve})
    extra = path / "assets.extra"  # TensorFlow's place for what is not its own
    extra.mkdir()
    (extra / DESCRIPTION).write_text(to_text(program.describe()), encoding="utf-8")
