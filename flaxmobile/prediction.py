"""Classify image files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.folding import fold_batch_norm
from flaxmobile.inference import jit_inference
from flaxmobile.layers import Network
from flaxmobile.outputs import OUTPUTS
from flaxmobile.preprocessing import Preprocessing, open_image
from flaxmobile.trees import Tree


def predict_images(
    model: Network,
    variables: Tree,
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    output: str = "softmax",
    batch_size: int = 32,
) -> np.ndarray:
    """Classify image files, a batch at a time so that memory stays bounded.

    Args:
      model: a classifier.
      variables: of the model.
      paths: image files, at least one.
      preprocessing: the one that the weights expect.
      output: activation of the answer, see `flaxmobile.outputs`.
      batch_size: most images to hold at once.

    Returns:
      Probabilities [image, class], or numbers where output is "none"; float32.

    Raises:
      InputError: an image cannot be read, or gives values that are not finite.
    """
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)

    infer, activation = jit_inference(model, variables), OUTPUTS[output]
    size, shape = min(batch_size, len(paths)), (*preprocessing.height_and_width, 3)
    rows = []
    for start in range(0, len(paths), size):
        chunk = paths[start : start + size]
        images = np.zeros((size, *shape), np.float32)  # the last batch is filled with zeros
        for i, path in enumerate(chunk):
            images[i] = preprocessing(open_image(path))
        rows.append(np.asarray(activation(infer(images)))[: len(chunk)])
    answers = np.concatenate(rows)
    for path, finite in zip(paths, np.isfinite(answers).all(1), strict=True):
        if not finite:
            raise InputError(f"{path} gives values that are not finite: check the weights")
    return answers
