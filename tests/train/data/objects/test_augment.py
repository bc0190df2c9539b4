"""SSD's augmentation: windows in distribution against torchvision's, boxes against pixels."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from train.data.objects.annotations import Annotations
from train.data.objects.augment import (
    PRESETS,
    BoxAugmentation,
    crop_window,
    distort_colors,
    see,
    zoom_window,
)

WIDTH, HEIGHT = 80, 60
BOXES = np.array([[8, 6, 40, 30], [50, 20, 70, 56]], np.float32)
WHOLE = np.array([0, 0, WIDTH, HEIGHT], float)


def annotations(boxes=BOXES):
    count = len(boxes)
    return Annotations((WIDTH, HEIGHT), boxes, np.arange(1, 1 + count), np.zeros(count, bool))


def painted(boxes=BOXES):
    """An image whose boxes are filled with the colours (100, 0, 0), (0, 100, 0), …."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for channel, (left, top, right, bottom) in enumerate(boxes.astype(int)):
        pixels[top:bottom, left:right, channel] = 100
    return Image.fromarray(pixels)


def reference(transform, count=400):
    """Boxes and sizes of torchvision's variants."""
    torch.manual_seed(0)
    image = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    boxes = tv_tensors.BoundingBoxes(BOXES, format="XYXY", canvas_size=(HEIGHT, WIDTH))
    labels = torch.arange(len(BOXES))
    clean = v2.SanitizeBoundingBoxes()
    both = v2.Compose([transform, clean])
    target = {"boxes": boxes, "labels": labels}
    return [
        (seen.shape[-1] / WIDTH, seen.shape[-2] / HEIGHT, len(kept["boxes"]))
        for seen, kept in (both(image, target) for _ in range(count))
    ]


def drawn(draw, count=400):
    rng = np.random.default_rng(0)
    windows = (draw(rng) for _ in range(count))
    return [
        (*((w[2:] - w[:2]) / (WIDTH, HEIGHT)), len(see(painted(), annotations(), w, 8)[1].labels))
        for w in windows
    ]


@pytest.mark.parametrize(
    ("draw", "transform"),
    [
        (lambda rng: crop_window(WHOLE, BOXES, rng), v2.RandomIoUCrop()),
        (lambda rng: zoom_window(WHOLE, 4.0, rng), v2.RandomZoomOut(p=1.0)),
    ],
    ids=["crop", "zoom out"],
)
def test_windows_are_distributed_as_torchvision_draws_them(draw, transform):
    ours, theirs = np.array(drawn(draw)), np.array(reference(transform))
    # 400 draws: a mean is off by 0.05 times the standard deviation, and so is the difference of two
    # times 1.4; 4.5 times that are allowed.
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.32 * theirs.std(0).max())
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=0.25 * theirs.std(0).max())
    assert (ours[:, 0] == 1).mean() == pytest.approx((theirs[:, 0] == 1).mean(), abs=0.1)


@pytest.mark.parametrize("window", [(0, 0, 80, 60), (20, 3, 75, 60), (-30, -10, 90, 140)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_boxes_stay_on_their_objects(window, mirrored):
    window = np.array(window, float)[[2, 1, 0, 3] if mirrored else [0, 1, 2, 3]]
    size = 200
    image, seen = see(painted(), annotations(), window, size)
    pixels = np.asarray(image)
    assert pixels.shape == (size, size, 3) and seen.size == (size, size)
    assert len(seen.labels) == 2
    for box, label in zip(seen.boxes, seen.labels, strict=True):
        others = np.delete(pixels, label - 1, axis=2).sum(2)
        rows, columns = np.nonzero((pixels[..., label - 1] > 50) & (others < 50))
        edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        np.testing.assert_allclose(box, edges, atol=1.01)


def test_objects_whose_middle_is_outside_are_left_out():
    _, seen = see(painted(), annotations(), np.array([30.0, 0, 80, 60]), 100)
    assert seen.labels.tolist() == [2]
    np.testing.assert_allclose(seen.boxes, [[40, 100 / 3, 80, 56 / 0.6]], rtol=1e-6)


def test_an_image_without_boxes_is_not_cropped():
    nothing = annotations(np.zeros((0, 4), np.float32))
    rng = np.random.default_rng(0)
    image, seen = BoxAugmentation(flip=False)(painted(), nothing, 60, rng)
    whole, _ = see(painted(), nothing, WHOLE, 60)
    assert image.tobytes() == whole.tobytes() and seen.boxes.shape == (0, 4)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_boxes_inside_and_follow_the_generator(preset):
    augment = PRESETS[preset]
    variants = set()
    for seed in range(20):
        one, two = (
            augment(painted(), annotations(), 50, np.random.default_rng(seed)) for _ in "ab"
        )
        assert one[0].tobytes() == two[0].tobytes()
        boxes = one[1].boxes
        assert boxes.min() >= 0 and boxes.max() <= 50 and (boxes[:, 2:] > boxes[:, :2]).all()
        variants.add(one[0].tobytes())
    assert len(variants) == 1 if preset == "none" else len(variants) > 10


def test_colours_change_half_of_the_time_and_shapes_never():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
    rng = np.random.default_rng(0)
    same = [distort_colors(image, rng).tobytes() == image.tobytes() for _ in range(600)]
    # None of brightness, contrast, saturation and hue; the channels also stay in 1 of 6 orders.
    assert np.mean(same) == pytest.approx(0.5**4 * (0.5 + 0.5 / 6), abs=0.03)
