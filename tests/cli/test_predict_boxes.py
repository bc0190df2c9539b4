import json

import jax
import numpy as np
import pytest
from PIL import Image

from flaxmobile import Metadata, Preprocessing, cli, create_detector, create_model, save_weights
from flaxmobile.detection import detect_faces, detect_objects
from flaxmobile.images import open_image
from flaxmobile.models.blazeface_tables import KEYPOINTS
from tests.networks import abstract, randomised

NAMES = ("__background__", "cat", "dog")
DETECTOR = {"backbone": "mobilenet_v2", "alpha": 0.35, "num_classes": 3}
PREPROCESSING = Preprocessing(64, 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def face_finder():
    """A BlazeFace detector of biases alone, which finds a face in a cell of its coarser map."""
    model = create_model("blazeface", detector=True)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract(model))
    for stride, count, best in ((8, 2, -9.0), (16, 6, 3.0)):
        variables["params"][f"scores_stride{stride}"]["bias"][:] = (best, *[-9.0] * (count - 1))
        variables["params"][f"boxes_stride{stride}"]["bias"][:] = np.tile(
            [0, 0, *[12.8] * 14], count
        )
    return model, variables


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxes")
    model = create_detector("ssdlite", "v2", num_classes=3, alpha=0.35)
    variables = randomised(abstract(model))
    save_weights(folder / "ssd", "ssdlite", DETECTOR, variables, Metadata(PREPROCESSING, NAMES))
    save_weights(folder / "face", "blazeface", {"detector": True}, face_finder()[1])
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels[:, ::-1]).save(folder / "b.png")
    return folder, model, variables


@pytest.fixture
def predict(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder[0])

    def run(*argv):
        try:
            status = cli.main(["predict", *argv])
        except SystemExit as exit:
            status = exit.code
        return status, capsys.readouterr()

    return run


def test_objects_are_printed_drawn_and_those_of_the_detector(predict, folder):
    path, model, variables = folder
    image = np.asarray(open_image(path / "a.png"))
    options = {"preprocessing": PREPROCESSING, "score_threshold": 0.9}
    expected = detect_objects(model, variables, image, **options)
    assert len(expected.scores) > 1
    flags = ("--weights", "ssd", "a.png", "b.png", "--threshold", "0.9")
    status, output = predict(*flags, "--json", "--plot", "drawn.png")
    assert status == 0, output.err
    first, second = json.loads(output.out)
    assert (first["image"], second["image"]) == ("a.png", "b.png")
    found = first["predictions"]
    assert [each["index"] for each in found] == expected.labels.tolist()
    assert [each["class"] for each in found] == [NAMES[label] for label in expected.labels]
    np.testing.assert_allclose([each["probability"] for each in found], expected.scores, rtol=1e-6)
    sides = [[each["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")] for each in found]
    np.testing.assert_allclose(sides, expected.boxes, rtol=1e-5)
    with Image.open(path / "drawn.png") as drawn:
        assert drawn.width > 500
    status, output = predict(*flags)
    assert status == 0
    rows = [line.split() for line in output.out.splitlines()]
    assert ["image", "class", "probability", "xmin", "ymin", "xmax", "ymax"] in rows
    best = [f"{side:.0f}" for side in expected.boxes[0]]
    assert ["a.png", NAMES[expected.labels[0]], f"{expected.scores[0]:.2%}", *best] in rows


def test_faces_have_keypoints(predict, folder):
    image = np.asarray(open_image(folder[0] / "a.png"))
    expected = detect_faces(*face_finder(), image)
    status, output = predict("--weights", "face", "a.png", "--json", "--plot", "faces.png")
    assert status == 0, output.err
    (only,) = json.loads(output.out)
    assert len(only["predictions"]) == len(expected.scores) > 1
    face = only["predictions"][0]
    assert (face["index"], face["class"]) == (0, "face")
    ymin, xmin, ymax, xmax = expected.boxes[0]
    box = [face["box"][side] for side in ("ymin", "xmin", "ymax", "xmax")]
    np.testing.assert_allclose(box, (ymin, xmin, ymax, xmax), rtol=1e-5, atol=1e-5)
    assert tuple(face["keypoints"]) == KEYPOINTS
    np.testing.assert_allclose([*face["keypoints"].values()], expected.keypoints[0], rtol=1e-5)


def test_nothing_found_is_said(predict):
    status, output = predict("--weights", "face", "a.png", "--threshold", "0.99")
    assert status == 0
    assert "nothing found" in output.out
    status, output = predict("--weights", "face", "a.png", "--threshold", "0.99", "--json")
    assert json.loads(output.out) == [{"image": "a.png", "predictions": []}]


def test_another_threshold_is_refused(predict):
    status, output = predict("--weights", "face", "a.png", "--threshold", "2")
    assert (status, output.out) == (2, "")
    assert "--threshold is 2.0; accepted: 0 to 1" in output.err
