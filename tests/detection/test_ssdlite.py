from functools import partial

import jax
import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from convert.rules.torchvision.ssdlite import RULE
from flaxmobile import create_detector
from flaxmobile.detection import detect_objects, find_objects, ssd_loss
from tests.models import parity
from tests.networks import abstract
from tests.xla import OPTIMIZED

CLASSES = 7
SIDE = 160
"""Of the images in float64."""


@pytest.fixture(scope="module")
def pair():
    """torchvision's detector and ours with the same numbers."""
    reference = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES, width_mult=0.35
    )
    model = create_detector("ssdlite", "mobilenet_v3_large", num_classes=CLASSES, alpha=0.35)
    return parity.paired(reference, model, abstract(model), dict(RULE.modules(model)).__getitem__)


CHINA, FLOWER = load_sample_images().images
PHOTOGRAPHS = [CHINA, FLOWER[:300, 100:250]]


def in_torch(image):
    return torch.tensor(image.transpose(2, 0, 1)) / 255


def test_outputs_and_objects_in_photographs_are_torchvisions(pair):
    """In float64, where no two scores are so close that rounding changes their order."""
    network, images = parity.double(pair.torch), [in_torch(each).double() for each in PHOTOGRAPHS]
    with torch.no_grad():
        expected = network(images)
        squares = network.transform(images)[0].tensors
        heads = network.head(list(network.backbone(squares).values()))
    with jax.enable_x64(True):
        model = pair.flax.clone(dtype=np.float64)
        defaults = model.default_boxes((320, 320)).astype(np.float64)

        def detect(variables, images):
            outputs = model.apply(variables, images)
            return outputs, find_objects(outputs, defaults, (320, 320))

        detect = jax.jit(detect, compiler_options=OPTIMIZED)
        variables = parity.cast(pair.variables, np.float64)
        found = detect(variables, parity.from_torch(squares))
        outputs, objects = jax.tree.map(np.asarray, found)
    parity.assert_close(outputs["offsets"], heads["bbox_regression"], 1e-8, "offsets")
    parity.assert_close(outputs["logits"], heads["cls_logits"], 1e-8, "logits")
    for image, boxes, labels, scores, wanted in zip(PHOTOGRAPHS, *objects, expected, strict=True):
        height, width, _ = image.shape
        assert len(set(wanted["labels"].tolist())) > 3
        np.testing.assert_array_equal(labels, wanted["labels"])
        np.testing.assert_allclose(scores, wanted["scores"], rtol=1e-6)
        boxes = boxes * (np.asarray([width, height] * 2) / 320)
        np.testing.assert_allclose(boxes, wanted["boxes"], rtol=1e-5, atol=1e-4)


def test_a_photograph_goes_through_torchvisions_steps(pair):
    """In float32, where rounding changes the order of close scores, so that a few are others."""
    image = PHOTOGRAPHS[1]
    with torch.no_grad():
        (expected,) = pair.torch([in_torch(image)])
    found = detect_objects(pair.flax, pair.variables, image, max_objects=100)
    np.testing.assert_allclose(found.scores, expected["scores"][:100], atol=1e-3)
    apart = np.abs(found.boxes[:, None] - expected["boxes"].numpy()).max(-1)  # [100, 300]
    apart[found.labels[:, None] != expected["labels"].numpy()] = np.inf
    assert (apart.min(1) < 0.2).mean() > 0.95


LABELS = np.asarray([[3, 1, 2], [5, 0, 0], [6, 4, 0]])


def objects_of_every_size():
    """An object of the size of each map's default boxes, so that gradients reach every layer."""
    boxes = np.zeros((3, 3, 4))
    middles = [(53, 71), (90, 60), (80, 80), (45, 45), (80, 80), (80, 80)]
    for place, middle, share in zip(
        np.argwhere(LABELS), middles, np.linspace(0.2, 0.95, 6), strict=True
    ):
        half = SIDE * share / 2
        corners = np.asarray([middle, middle], float) + np.asarray([[-half], [half]])
        boxes[tuple(place)] = corners.clip(0, SIDE).reshape(4)
    return boxes


def torchvisions_step(network, images, boxes):
    """Losses of a training step; its gradients and statistics stay in the network."""
    network.transform.fixed_size = (SIDE, SIDE)
    place = network.anchor_generator.forward

    def in_float32(images, maps):
        return [each.double() for each in place(images, [each.float() for each in maps])]

    network.anchor_generator.forward = in_float32
    targets = [
        {"boxes": torch.tensor(own[labels > 0]), "labels": torch.tensor(labels[labels > 0])}
        for own, labels in zip(boxes, LABELS, strict=True)
    ]
    losses = network(list(parity.to_torch(images / 2 + 0.5)), targets)
    sum(losses.values()).backward()
    return [losses["bbox_regression"].item(), losses["classification"].item()]


def our_step(model, variables, images, boxes):
    defaults = model.default_boxes(images.shape[1:3])

    def loss_of(params):
        outputs, updates = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        losses = ssd_loss(outputs, defaults, boxes, LABELS)
        return sum(losses), (losses, updates)

    gradients, (losses, updates) = jax.grad(loss_of, has_aux=True)(variables["params"])
    return losses, {"params": gradients, **updates}


def test_a_training_step_is_torchvisions(pair):
    images = np.random.default_rng(0).uniform(-1, 1, (3, SIDE, SIDE, 3))
    boxes = objects_of_every_size()
    theirs = parity.double(pair.torch).train()
    expected = torchvisions_step(theirs, images, boxes)
    with jax.enable_x64(True):
        model = pair.flax.clone(dtype=np.float64)
        step = jax.jit(partial(our_step, model), compiler_options=OPTIMIZED)
        losses, changes = step(parity.cast(pair.variables, np.float64), images, boxes)
    parity.assert_close(losses, expected, 1e-8, "losses")
    found = pair.back(changes)
    parity.assert_all_close(found, parity.statistics_of(theirs), 1e-8)
    parity.assert_gradients_close(found, parity.gradients_of(theirs), 1e-8)
