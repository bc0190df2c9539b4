from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile import create_backbone, create_model, detect_faces
from flaxmobile.detection import Faces, blend, decode, make_anchors
from flaxmobile.detection import faces as faces_module
from flaxmobile.detection.images import check_image
from flaxmobile.errors import InputError
from flaxmobile.models.blazeface_tables import VARIANTS
from tests.networks import abstract


def test_anchors_are_mediapipes():
    anchors = make_anchors()
    assert anchors.shape == (896, 4)
    assert (anchors[:, 2:] == 1).all()
    expected = {
        0: (0.03125, 0.03125),
        1: (0.03125, 0.03125),
        2: (0.09375, 0.03125),
        32: (0.03125, 0.09375),
        511: (0.96875, 0.96875),
        512: (0.0625, 0.0625),
        517: (0.0625, 0.0625),
        518: (0.1875, 0.0625),
        560: (0.0625, 0.1875),
        895: (0.9375, 0.9375),
    }
    for place, centre in expected.items():
        assert tuple(anchors[place, :2]) == centre
    assert make_anchors(256).shape == (4 * 896, 4)
    back = make_anchors(256, VARIANTS["mediapipe_back"].anchors)
    np.testing.assert_array_equal(back, anchors)  # the same maps of twice as many pixels
    full = make_anchors(192, VARIANTS["mediapipe_full_range"].anchors)
    assert full.shape == (48 * 48, 4)
    np.testing.assert_allclose(full[[0, 49], :2], [[0.5 / 48, 0.5 / 48], [1.5 / 48, 1.5 / 48]])


@pytest.mark.parametrize("size", [0, -16, 100])
def test_anchors_of_other_sizes_are_refused(size):
    with pytest.raises(InputError, match=f"image_size is {size}; accepted: multiples of 16"):
        make_anchors(size)


def encode(anchor, box, keypoints, size=128):
    """The 16 numbers that a box and keypoints have at an anchor, by the definition."""
    ymin, xmin, ymax, xmax = box
    x, y = anchor[:2]
    numbers = [(xmin + xmax) / 2 - x, (ymin + ymax) / 2 - y, xmax - xmin, ymax - ymin]
    for point in keypoints:
        numbers += [point[0] - x, point[1] - y]
    return np.asarray(numbers) * size


def test_decoding_undoes_encoding():
    anchors, rng = make_anchors(), np.random.default_rng(0)
    low, size = rng.uniform(0, 0.5, (896, 2)), rng.uniform(0.1, 0.5, (896, 2))
    boxes, keypoints = np.concatenate([low, low + size], -1), rng.uniform(0, 1, (896, 6, 2))
    raw = np.stack([encode(*each) for each in zip(anchors, boxes, keypoints, strict=True)])
    logits = np.linspace(-200, 200, 896)
    outputs = {"boxes": raw[None].astype(np.float32), "scores": logits[None].astype(np.float32)}
    found = jax.jit(lambda outputs: decode(outputs, make_anchors()))(outputs)
    np.testing.assert_allclose(found.boxes[0], boxes, atol=1e-6)
    np.testing.assert_allclose(found.keypoints[0], keypoints, atol=1e-6)
    expected = 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
    np.testing.assert_allclose(found.scores[0], expected, rtol=1e-5, atol=1e-12)


def candidates(seed, count=60, faces=4):
    """Boxes around a few places, so that many overlap and some do not."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.2, 0.8, (faces, 2))[rng.integers(0, faces, count)]
    centres += rng.normal(0, 0.03, (count, 2))
    half = rng.uniform(0.05, 0.12, (count, 1))
    boxes = np.concatenate([centres - half, centres + half], -1)
    return Faces(boxes, rng.uniform(0, 1, (count, 6, 2)), rng.uniform(0, 1, count))


def share(a, b):
    """Intersection over union of two boxes."""
    height, width = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    common = max(height, 0) * max(width, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return common / (sum(areas) - common)


def blended(given, score_threshold=0.5, iou_threshold=0.3):
    """The paper's blending with lists."""
    left = [i for i in np.argsort(-given.scores) if given.scores[i] >= score_threshold]
    faces = []
    while left:
        same = [i for i in left if share(given.boxes[left[0]], given.boxes[i]) > iou_threshold]
        weights = given.scores[same] / given.scores[same].sum()
        points = sum(w * given.keypoints[i] for w, i in zip(weights, same, strict=True))
        faces.append((weights @ given.boxes[same], points, given.scores[left[0]]))
        left = [i for i in left if i not in same]
    return faces


def batch(images):
    return Faces(*(np.stack(parts).astype(np.float32) for parts in zip(*images, strict=True)))


blend_40 = jax.jit(partial(blend, max_faces=40))


@pytest.mark.parametrize(
    "thresholds",
    [{}, {"score_threshold": 0.9}, {"iou_threshold": 0.7}, {"score_threshold": 0.0}],
)
def test_blending_is_the_papers(thresholds):
    images = [candidates(seed) for seed in range(5)]
    found = blend_40(batch(images), **{"score_threshold": 0.5, "iou_threshold": 0.3, **thresholds})
    assert found.boxes.shape == (5, 40, 4)
    assert found.keypoints.shape == (5, 40, 6, 2)
    for number, given in enumerate(images):
        expected = blended(given, **thresholds)
        assert 1 < len(expected) < 40
        for kind, wanted in enumerate(zip(*expected, strict=True)):
            got = found[kind][number]
            np.testing.assert_allclose(got[: len(expected)], np.stack(wanted), atol=1e-5)
            assert not got[len(expected) :].any()


def test_the_best_faces_are_kept_where_there_are_too_many():
    given = candidates(0)
    expected = blended(given)
    assert len(expected) > 2
    found = blend(batch([given]), max_faces=2)
    np.testing.assert_allclose(found.scores[0], [face[2] for face in expected[:2]], rtol=1e-6)
    assert found.boxes.shape == (1, 2, 4)


def test_boxes_without_area_are_faces_of_their_own():
    boxes = np.asarray([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.2, 0.2]])
    given = Faces(boxes, np.zeros((3, 6, 2)), np.asarray([0.9, 0.8, 0.7]))
    found = blend(batch([given]), max_faces=4)
    np.testing.assert_allclose(found.scores[0], [0.9, 0.8, 0.7, 0], rtol=1e-6)
    assert np.isfinite(found.boxes).all()


PLACE = 2 * (16 * 5 + 9)  # the first anchor of row 5, column 9 of the finer map
BOX = np.asarray([0.25, 0.5, 0.5, 0.75])
POINTS = np.asarray([[0.55, 0.3], [0.7, 0.3], [0.6, 0.4], [0.6, 0.45], [0.5, 0.35], [0.75, 0.35]])


@pytest.fixture
def planted(monkeypatch):
    """A detector that sees one face wherever it looks, with three anchors that agree on it."""
    model = create_model("blazeface", detector=True)
    seen = []

    def apply(self, variables, images, *args, **kwargs):
        seen.append(images)
        anchors = make_anchors()
        boxes, scores = np.zeros((1, 896, 16), np.float32), np.full((1, 896), -9, np.float32)
        for place, logit in ((PLACE, 2.0), (PLACE + 1, 1.0), (600, 0.5)):
            boxes[0, place], scores[0, place] = encode(anchors[place], BOX, POINTS), logit
        # A network that depends on its input is compiled with it.
        return {"boxes": boxes + 0 * images.sum(), "scores": scores + 0 * images.sum()}

    monkeypatch.setattr(type(model), "apply", apply)
    faces_module._detect.clear_cache()
    yield model, seen
    faces_module._detect.clear_cache()


@pytest.mark.parametrize(
    ("height", "width", "scale", "corner"),
    [(128, 128, 1, (0, 0)), (64, 128, 1, (32, 0)), (400, 200, 0.32, (0, 32)), (10, 16, 8, (24, 0))],
)
def test_a_face_is_found_in_pixels_of_the_image(planted, height, width, scale, corner):
    model, _ = planted
    faces = detect_faces(model, {}, np.zeros((height, width, 3), np.uint8))
    np.testing.assert_allclose(faces.scores, [1 / (1 + np.exp(-2.0))], rtol=1e-6)
    corner = np.asarray(corner)
    box = (BOX * 128 - np.tile(corner, 2)) / scale
    np.testing.assert_allclose(faces.boxes, box[None], rtol=1e-5, atol=1e-3)
    points = (POINTS * 128 - corner[::-1]) / scale
    np.testing.assert_allclose(faces.keypoints, points[None], rtol=1e-5, atol=1e-3)
    assert all(isinstance(part, np.ndarray) for part in faces)


def test_no_face_gives_empty_arrays(planted):
    model, _ = planted
    faces = detect_faces(model, {}, np.zeros((9, 9, 3), np.uint8), score_threshold=0.9)
    assert [part.shape for part in faces] == [(0, 4), (0, 6, 2), (0,)]


def test_the_detector_is_compiled_once_whatever_the_images_size(planted):
    model, seen = planted
    for size in (32, 50, 200):
        detect_faces(model, {}, np.zeros((size, 40, 3), np.uint8), score_threshold=size / 400)
    assert len(seen) == faces_module._detect._cache_size() == 1
    assert seen[0].shape == (1, 128, 128, 3)


def letterboxed(image):
    """What the network sees of an image, by way of a model that gives it back."""
    pixels = check_image(image)
    height, width, _ = pixels.shape
    scale = 128 / max(height, width)
    corner = np.asarray([128 - height * scale, 128 - width * scale], np.float32) / 2
    return np.asarray(faces_module._letterbox(pixels, jnp.full(2, scale, jnp.float32), corner))[0]


def test_the_network_sees_the_image_in_a_black_square():
    image = np.random.default_rng(0).integers(0, 256, (64, 128, 3)).astype(np.uint8)
    seen = letterboxed(image)
    np.testing.assert_allclose(seen[32:96], image / 127.5 - 1, atol=1e-6)
    assert (seen[:32] == -1).all()
    assert (seen[96:] == -1).all()
    np.testing.assert_allclose(letterboxed(image / 255.0), seen, atol=1e-6)
    white = letterboxed(np.full((300, 150, 3), 255, np.uint8))
    np.testing.assert_allclose(white[:, 32:96], 1, atol=1e-5)  # scaling adds no border
    assert (white[:, :32] == -1).all()
    halves = np.zeros((256, 256, 3), np.float32)
    halves[:, 128:] = 1
    seen = letterboxed(halves)
    np.testing.assert_allclose(seen[:, :62], -1, atol=1e-6)
    np.testing.assert_allclose(seen[:, 66:], 1, atol=1e-6)


def test_the_numbers_come_from_the_network():
    """Heads that are biases alone: one score for all anchors of a cell, boxes at the anchors."""
    model = create_model("blazeface", detector=True)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract(model))
    params = variables["params"]
    for stride, count, logit in ((8, 2, -9.0), (16, 6, -9.0)):
        params[f"scores_stride{stride}"]["bias"][:] = logit
        box = encode((0, 0), (-0.05, -0.05, 0.05, 0.05), np.zeros((6, 2)))
        params[f"boxes_stride{stride}"]["bias"][:] = np.tile(box, count)
    params["scores_stride16"]["bias"][3] = 3.0
    image = np.zeros((256, 256, 3), np.float32)
    faces = detect_faces(model, variables, image, max_faces=100)
    assert len(faces.scores) == 64  # one of six anchors in each cell of the 8×8 map
    middles = {tuple(middle) for middle in np.round((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2)}
    assert middles == {(16 + 32 * i, 16 + 32 * j) for i in range(8) for j in range(8)}
    np.testing.assert_allclose(faces.boxes[:, 2:] - faces.boxes[:, :2], 25.6, rtol=1e-4)


def test_the_back_camera_model_sees_256_pixels():
    """A detector of biases: every cell of the coarser map has a face of a tenth of its images."""
    options = {"variant": "mediapipe_back", "output_stride": 32}
    model = create_model("blazeface", detector=True, **options)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract(model))
    params = variables["params"]
    box = encode((0, 0), (-0.05, -0.05, 0.05, 0.05), np.zeros((6, 2)), size=256)
    params["scores_stride16"]["bias"][:] = -9.0
    params["scores_stride32"]["bias"][:] = (3.0, *[-9.0] * 5)
    params["boxes_stride32"]["bias"][:] = np.tile(box, 6)
    faces = detect_faces(model, variables, np.zeros((512, 256, 3), np.float32), max_faces=100)
    assert len(faces.scores) == 64
    np.testing.assert_allclose(faces.boxes[:, 2:] - faces.boxes[:, :2], 51.2, rtol=1e-4)
    assert {tuple(place) for place in np.round(faces.keypoints[:, 0])} == {
        (x - 128, y) for x in range(32, 512, 64) for y in range(32, 512, 64)
    }


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"shape \[8, 8\]; accepted: \[h, w, 3\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"shape \[1, 8, 8, 3\]; accepted: "),
        (np.zeros((8, 8, 4), np.uint8), r"shape \[8, 8, 4\]"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \[0, 8, 3\]"),
        (np.zeros((8, 8, 3), np.int32), "dtype int32; accepted: uint8, or floating point in 0..1"),
        (np.full((8, 8, 3), 255.0), "from 255 to 255; accepted: 0 to 1"),
        (np.full((8, 8, 3), np.nan), "from nan to nan; accepted: 0 to 1"),
        (np.full((8, 8, 3), -1.0), "from -1 to -1"),
        (np.full((8, 8, 3), 1.3), "from 1.3 to 1.3"),
    ],
)
def test_other_images_are_refused(image, message):
    with pytest.raises(InputError, match=message):
        detect_faces(create_model("blazeface", detector=True), {}, image)


@pytest.mark.parametrize("beyond", [1e-6, 0.2])
def test_what_an_interpolation_overshoots_is_clipped(beyond):
    image = np.linspace(-beyond, 1 + beyond, 8 * 8 * 3).reshape(8, 8, 3)
    np.testing.assert_array_equal(letterboxed(image), letterboxed(image.clip(0, 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold is 1.5; accepted: 0 to 1"),
        ({"iou_threshold": -0.1}, "iou_threshold is -0.1; accepted: 0 to 1"),
        ({"max_faces": 0}, "max_faces is 0; accepted: 1 or more"),
    ],
)
def test_other_thresholds_are_refused(options, message):
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=message):
        detect_faces(create_model("blazeface", detector=True), {}, image, **options)


@pytest.mark.parametrize(
    "model", [create_model("v2"), create_model("blazeface"), create_backbone("blazeface")]
)
def test_other_models_are_refused(model):
    with pytest.raises(InputError, match=r"without a detector; accepted: create_model\(\"blazef"):
        detect_faces(model, {}, np.zeros((8, 8, 3), np.uint8))
