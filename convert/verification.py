"""Verification: the origin's network and the Flax network on the same images."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from convert.formats.torch import torch_state
from convert.references import as_ours, build_reference
from flaxmobile.errors import InputError, first_line
from flaxmobile.images import open_image
from flaxmobile.layers import Model
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.tasks import HEADS, options_of

Outputs = Callable[[np.ndarray], np.ndarray]
"""Prepared images [n, h, w, 3] -> logits [n, classes], of a segmenter [n, h, w, classes], and of a
detector with the offsets [n, boxes, classes + 4]."""

TOLERANCE = 1e-3
"""Largest difference, as a share of the largest number: ten times that of float32 sums in another
order."""

_TOP = 5
_WIDER = 35
"""Pixels by which the non-square image is wider than it is high."""
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class Agreement(NamedTuple):
    """Agreement of two networks' outputs.

    Attributes:
      images: number of images, the first one at two more sizes.
      difference: the largest between two numbers.
      relative: the largest as a share of the origin's largest logit, or of its largest offset.
      top5: whether the five best classes are the same, in any order, everywhere.
      share: of the places where they are, 0 to 1.
      places: "images", "pixels" of a segmenter, or default "boxes" of a detector.
    """

    images: int
    difference: float
    relative: float
    top5: bool
    share: float
    places: str

    def __str__(self) -> str:
        """Describe the agreement in one line for the user."""
        outputs = "logits and offsets" if self.places == "boxes" else "logits"
        agree = "agree" if self.top5 else "do not agree"
        if self.share and not self.top5:
            agree = f"agree in {self.share:.3%} of the {self.places}"
        return (
            f"{outputs} differ by at most {self.difference:.2e}, which is {self.relative:.2e} of "
            f"the largest, on {self.images} image(s), at an odd and a non-square size too; the "
            f"top-5 classes {agree}, which does not confirm what is assumed"
        )


def find_images(paths: Sequence[Path]) -> list[Path]:
    """List the given files, and the images in the given directories.

    Raises:
      InputError: no such path, or a directory without images.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not inside or not path.exists():
            raise InputError(f"--verify {path} is not an image, nor a directory with images")
        found += inside
    return found


def build_origin(
    origin: str,
    name: str,
    model: Model,
    file: Path,
    tensors: Mapping[str, np.ndarray],
    version: int = 1,
) -> Outputs:
    """Build the origin's network and load the file's numbers.

    Args:
      origin: see `build_reference`.
      name: registered name of our network.
      model: our network.
      file: the file, which Keras reads itself.
      tensors: of the file under the origin's names, only those that its network has; for torch.
      version: of the torch module.

    Returns:
      The network as a function of images.

    Raises:
      InputError: no library has the origin's network, it is not installed, or it refuses the file.
    """
    if not model.gives_logits and name not in HEADS:
        raise InputError("--verify compares logits of classes, which this network does not give")

    def build(image_size: tuple[int, int] | None = None) -> Any:
        try:
            return build_reference(origin, name, options_of(model), image_size)
        except InputError as error:
            raise InputError(f"{error}; without --verify the file is converted") from None

    if origin == "keras":
        return keras_logits(build, file)
    network = build()
    state = torch_state(tensors, version)
    for key, own in network.state_dict().items():
        if key in state and (*state[key].shape, 1, 1) == own.shape:
            state[key] = state[key].reshape(own.shape)
    network.load_state_dict(state, strict=True)
    return torch_outputs(as_ours(name, network.eval()))


def torch_outputs(network: Any) -> Outputs:
    """Turn a torch module into a function of images."""
    import torch

    def apply(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            answer: np.ndarray = network(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
        return answer

    return apply


def keras_logits(build: Callable[[tuple[int, int]], Any], file: Path) -> Outputs:
    """Load a file into Keras's network for each size of images, as a function of them.

    Args:
      build: (height, width) -> the network.
      file: its weights.

    Raises:
      InputError: from the function, where the network refuses the file.
    """

    @functools.cache
    def load(size: tuple[int, int]) -> Any:
        network = build(size)
        try:
            network.load_weights(file)
        except Exception as error:  # Keras raises anything, of any length
            reason = first_line(error)
            raise InputError(f"Keras's own network does not take {file}: {reason}") from None
        return network

    def apply(images: np.ndarray) -> np.ndarray:
        height, width = images.shape[1:3]
        with jax.numpy_rank_promotion("allow"):  # Keras adds biases without a thought
            return np.asarray(load((height, width)).predict_on_batch(images))

    return apply


def compare(
    origin: Outputs,
    model: Model,
    variables: Mapping[str, Any],
    preprocessing: Preprocessing,
    paths: Sequence[Path],
) -> Agreement:
    """Run both networks on images, one at a time, and on the first one at two more sizes.

    Args:
      origin: the origin's network.
      model: the Flax network.
      variables: its variables.
      preprocessing: the origin's.
      paths: image files, at least one.
    """
    apply, theirs, ours = jax.jit(model.apply), [], []
    with jax.default_matmul_precision("highest"):
        for image in _prepared(paths, preprocessing):
            theirs.append(origin(image))
            ours.append(join(apply(variables, image)))
    places = _PLACES[theirs[0].ndim]
    found, expected = (_by_place(each, model.num_classes) for each in (ours, theirs))
    errors = [np.abs(f - e).max() for f, e in zip(found, expected, strict=True)]
    relative = np.max([each / np.abs(e).max() for each, e in zip(errors, expected, strict=True)])
    same = (_best(found[0]) == _best(expected[0])).all(-1)
    return Agreement(
        images=len(paths),
        difference=float(np.max(errors)),
        relative=float(relative),
        top5=bool(same.all()),
        share=float(same.mean()),
        places=places,
    )


def join(outputs: Any) -> np.ndarray:
    """Join outputs, a detector's logits and offsets, to one array: [..., classes + 4]."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(outputs)]
    return leaves[0] if len(leaves) == 1 else np.concatenate(leaves, -1)


_PLACES = {2: "images", 3: "boxes", 4: "pixels"}
"""Axes of the outputs -> what the logits of one place belong to."""


def _by_place(outputs: Sequence[np.ndarray], classes: int) -> list[np.ndarray]:
    """Lay out the logits [places, classes], and of a detector also the offsets [places, 4]."""
    rows = np.concatenate([each.reshape(-1, each.shape[-1]) for each in outputs])
    return [part for part in np.split(rows, [classes], -1) if part.size]


def _prepared(paths: Sequence[Path], preprocessing: Preprocessing) -> Iterator[np.ndarray]:
    """Prepare images [1, h, w, 3]; the first one also at an odd and at a non-square size.

    At these sizes networks differ that pad their strided layers differently.
    """
    side = preprocessing.side
    odd, wide = side + 1 - side % 2, side + _WIDER
    larger = dataclasses.replace(preprocessing, image_size=wide, resize_size=wide)
    image = larger(open_image(paths[0]))
    yield image[None, :odd, :odd]
    yield image[None, :side, :wide]
    for path in paths:
        yield preprocessing(open_image(path))[None]


def _best(logits: np.ndarray) -> np.ndarray:
    return np.sort(np.argsort(-logits)[:, :_TOP])
