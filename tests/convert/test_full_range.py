"""MediaPipe's full-range BlazeFace: its two files, from the file to the detector's numbers.

The published files agree with LiteRT's outputs to 2e-6 of the largest, and MediaPipe's own faces to
a hundredth of a pixel, by hand: they are not part of the project.
"""

import jax
import numpy as np
import pytest
import torch

from convert.__main__ import main
from flaxmobile import detect_faces, load_metadata, load_weights
from tests.convert.full_range import encode, random_network
from tests.models.parity import assert_close, batch_of

FILES = {"mediapipe_full_range": False, "mediapipe_full_range_sparse": True}


@pytest.fixture(params=FILES)
def converted(request, tmp_path, capsys):
    (tmp_path / "w.tflite").write_bytes(encode(random_network(FILES[request.param])))
    arguments = ["--weights", str(tmp_path / "w.tflite"), "--output", str(tmp_path / "flax")]
    assert main(["--model", "blazeface", *arguments]) == 0
    said = capsys.readouterr().out
    assert f"mediapipe's blazeface with variant {request.param}\n" in said
    padding = "symmetric" if FILES[request.param] else "same"
    assert f"assumed, as no tensor shows it: padding={padding} " in said
    return request.param, tmp_path / "flax"


def test_a_file_gives_the_numbers_of_its_graph_and_looks_for_faces(converted):
    variant, path = converted
    model, variables = load_weights(path)
    assert (model.variant, load_metadata(path).preprocessing.image_size) == (variant, 192)
    images, _ = batch_of(64, 1, np.float32)
    expected = random_network(FILES[variant])(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    outputs = jax.jit(model.apply)(variables, images)
    for name, theirs in zip(("boxes", "scores"), expected, strict=True):
        theirs = theirs.numpy().reshape(outputs[name].shape)
        assert np.abs(theirs).max() > 0.1
        assert_close(outputs[name], theirs, 1e-5, name)
    image = np.zeros((20, 30, 3), np.uint8)
    faces = detect_faces(model, variables, image, score_threshold=0, max_faces=3)
    assert faces.keypoints.shape == (3, 6, 2)
    assert np.isfinite(faces.boxes).all()
