"""MediaPipe's BlazeFace: files of its names, from the file to the detector's numbers."""

from functools import cache

import jax
import numpy as np
import pytest

from convert.__main__ import main
from convert.rules import RULES
from flaxmobile import InputError, detect_faces, load_metadata, load_weights
from tests.convert.authors import BlazeFace
from tests.convert.rules import fill
from tests.convert.tflite_writer import encode_tflite
from tests.models.parity import randomised

RULE = RULES["mediapipe", "blazeface"]
HEADS = {"classifier": "classificator", "regressor": "regressor"}


def named(kind, number):
    return kind if number == 0 else f"{kind}_{number}"


def constants_of(network):
    """The names and axes that MediaPipe's graph has for the port's tensors, in their order."""
    counts = {"conv2d": 0, "depthwise_conv2d": 0}
    found = []
    for name, tensor in network.state_dict().items():
        module, leaf = name.rsplit(".", 1)
        parts = module.split(".")
        kind = "depthwise_conv2d" if parts[-2:] == ["convs", "0"] else "conv2d"
        if parts[0] == "final":
            depthwise = kind == "depthwise_conv2d"
            layer = "separable_conv2d" + "__xeno_compat__depthwise" * depthwise
        elif parts[0].startswith("backbone"):
            layer = named(kind, counts[kind])
            counts[kind] += leaf == "bias"
        else:
            head, stride = parts[0].split("_")
            layer = f"{HEADS[head]}_{int(stride) * (2 if hasattr(network, 'final') else 1)}"
        array = tensor.numpy()
        if leaf == "weight":
            array = array.transpose((1, 2, 3, 0) if kind == "depthwise_conv2d" else (0, 2, 3, 1))
        found.append((f"{layer}/{ {'weight': 'Kernel', 'bias': 'Bias'}[leaf] }", array))
    return found


@cache
def network(camera):
    """In numbers that float16 holds too."""
    port = randomised(BlazeFace(back_model=camera == "back"))
    return port.half().float()


def convert(path, output, *flags):
    return main(["--model", "blazeface", "--weights", str(path), "--output", str(output), *flags])


@pytest.mark.parametrize(
    ("camera", "dtype"),
    [("front", np.float32), ("front", np.float16), ("back", np.float16)],
)
def test_a_file_gives_the_network_of_the_port(tmp_path, capsys, camera, dtype):
    """Whose numbers `test_authors` compares."""
    theirs = network(camera)
    constants = [(name, array.astype(dtype)) for name, array in constants_of(theirs)]
    paddings = ("channel_padding/Paddings", np.zeros((4, 2), np.int32))
    (tmp_path / "w.tflite").write_bytes(encode_tflite([*constants, paddings]))
    assert convert(tmp_path / "w.tflite", tmp_path / "flax") == 0
    variant = {"front": "mediapipe", "back": "mediapipe_back"}[camera]
    assert f"mediapipe's blazeface with variant {variant}" in capsys.readouterr().out
    model, variables = load_weights(tmp_path / "flax")
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    port = fill(RULES["authors", "blazeface"], "blazeface", state)
    assert (model, model.variant) == (port.model, variant)
    jax.tree.map(np.testing.assert_array_equal, variables, port.variables)
    found = load_metadata(tmp_path / "flax").preprocessing
    size = {"front": 128, "back": 256}[camera]
    assert (found.image_size, found.resize_size) == (size, size)
    assert found.mean == found.std == (0.5, 0.5, 0.5)


def test_a_converted_detector_looks_for_faces(tmp_path):
    (tmp_path / "w.tflite").write_bytes(encode_tflite(constants_of(network("front"))))
    assert convert(tmp_path / "w.tflite", tmp_path / "flax") == 0
    image = np.zeros((20, 30, 3), np.uint8)
    faces = detect_faces(*load_weights(tmp_path / "flax"), image, score_threshold=0, max_faces=3)
    assert faces.keypoints.shape == (3, 6, 2)
    assert np.isfinite(faces.boxes).all()


def test_kernels_are_not_matched_by_shape():
    """Two of the same shape under each other's numbers give another network."""
    tensors = dict(constants_of(network("front")))
    swapped = {**tensors, "conv2d_14/Kernel": tensors["conv2d_15/Kernel"]}
    swapped["conv2d_15/Kernel"] = tensors["conv2d_14/Kernel"]
    one, other = (fill(RULE, "blazeface", each).variables for each in (tensors, swapped))
    kernels = [each["params"]["block14"]["project"]["conv"]["kernel"] for each in (one, other)]
    assert np.array_equal(kernels[0][0, 0], tensors["conv2d_14/Kernel"][:, 0, 0].T)
    assert np.array_equal(kernels[1][0, 0], tensors["conv2d_15/Kernel"][:, 0, 0].T)


def test_an_extra_constant_is_refused():
    tensors = {**dict(constants_of(network("front"))), "conv2d_17/Kernel": np.zeros((1, 1, 1, 1))}
    with pytest.raises(InputError, match="conv2d_17/Kernel is unknown"):
        fill(RULE, "blazeface", tensors)


def test_a_file_is_of_no_other_network(tmp_path, capsys):
    (tmp_path / "w.tflite").write_bytes(encode_tflite(constants_of(network("front"))))
    arguments = ["--model", "mobilenext", "--weights", str(tmp_path / "w.tflite")]
    assert main([*arguments, "--output", str(tmp_path / "flax")]) == 1
    assert "mobilenext" in capsys.readouterr().err
    assert not (tmp_path / "flax").exists()
