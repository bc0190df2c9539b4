"""StableHLO: one file of `jax.export` for CPUs, NVIDIA GPUs and TPUs, and its loader."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import jax
from jax import Array, export
from jax.typing import ArrayLike

from flaxmobile.errors import InputError, first_line, pip_install
from flaxmobile.exporters.attachments import DESCRIPTION, attach, read_description, to_text
from flaxmobile.exporters.program import Program
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.weights import Metadata

PLATFORMS = ("cpu", "cuda", "tpu")


def write(program: Program, path: Path) -> None:
    """Write a program in the form of each platform; XLA takes that of the one it runs on.

    Raises:
      InputError: flatbuffers is not installed.
    """
    exported = export.export(jax.jit(program.function), platforms=PLATFORMS)(program.images)
    try:
        path.write_bytes(exported.serialize())
    except ImportError:
        raise InputError(
            f"jax.export writes files with flatbuffers: {pip_install('export')}"
        ) from None
    attach(path, {DESCRIPTION: to_text(program.describe())})


@dataclasses.dataclass(frozen=True)
class ExportedProgram:
    """A network out of a StableHLO file.

    Attributes:
      images: shape [n, h, w, c] and dtype of the images; n is symbolic for any number of images.
      platforms: "cpu", "cuda" and "tpu".
      metadata: preprocessing, class names and source of the weights.
      raw_images: whether images are uint8 in 0..255, otherwise normalized by the preprocessing.
      function: compiled, see `__call__`.
    """

    images: jax.ShapeDtypeStruct
    platforms: tuple[str, ...]
    metadata: Metadata
    raw_images: bool
    function: Callable[[ArrayLike], dict[str, Array]] = dataclasses.field(repr=False)

    def __call__(self, images: ArrayLike) -> dict[str, Array]:
        """Map images [n, h, w, c] to {name: output}, on JAX's default device."""
        shape = jax.numpy.shape(images)
        fits = len(shape) == 4 and all(
            own == given or not isinstance(own, int)
            for own, given in zip(self.images.shape, shape, strict=True)
        )
        if not fits or jax.numpy.result_type(images) != self.images.dtype:
            wanted = ", ".join(map(str, self.images.shape))
            raise InputError(
                f"images are {jax.numpy.result_type(images)}{list(shape)}; the file takes "
                f"{self.images.dtype}[{wanted}]"
            )
        return self.function(images)


def load_exported(path: str | os.PathLike[str]) -> ExportedProgram:
    """Read a file that `flaxmobile.export` wrote with format "stablehlo".

    The file needs JAX and flatbuffers alone: `jax.export.deserialize` reads it too.

    Raises:
      InputError: the file cannot be read, is not one of these, or flatbuffers is not installed.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    facts = read_description(path)
    if facts is None:
        raise InputError(f"{path} is not a StableHLO file of `flaxmobile export`, or is damaged")
    try:
        exported = export.deserialize(bytearray(data))
    except ImportError:
        raise InputError(
            f"jax.export reads files with flatbuffers: {pip_install('export')}"
        ) from None
    except Exception as error:  # flatbuffers checks nothing, so damaged bytes raise anything
        raise InputError(
            f"{path} is not a StableHLO file of `flaxmobile export`: {first_line(error)}"
        ) from None
    names = facts["class_names"]
    metadata = Metadata(
        Preprocessing.from_json(facts["preprocessing"]),
        None if names is None else tuple(names),
        facts["source"],
        facts["output"],
    )
    (images,) = exported.in_avals
    return ExportedProgram(
        jax.ShapeDtypeStruct(images.shape, images.dtype),
        tuple(exported.platforms),
        metadata,
        facts["raw_images"],
        jax.jit(exported.call),
    )
