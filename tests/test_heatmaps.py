"""Grad-CAM against what its equations give for a linear classifier."""

import jax
import numpy as np
import pytest

from flaxmobile import InputError, create_segmenter, grad_cam
from tests.networks import random_variables, short_backbone, short_model, small_size


def random_images(name, count=2):
    size = small_size(name)
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["inception_v1", "blazeface"])
def test_heat_of_a_linear_classifier_is_its_map_in_the_direction_of_the_class(name):
    model, images, classes = short_model(name), random_images(name), np.array([1, 3])
    variables = random_variables(model)
    stride = model.output_stride
    backbone = short_backbone(name, out_strides=(stride,))
    last = np.asarray(jax.jit(backbone.apply)(variables, images)[stride])
    kernel = variables["params"]["classifier"]["kernel"]  # [c, class]
    expected = np.maximum(np.einsum("nhwc,cn->nhw", last, kernel[:, classes]), 0)
    expected /= expected.max((1, 2), keepdims=True)
    found = np.asarray(grad_cam(model, variables, images, classes))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_network_without_classes_for_the_image_is_refused():
    images = random_images("mobilenet_v2")
    segmenter = create_segmenter("lraspp", "v2", alpha=0.35, num_classes=3)
    for model in (short_backbone(), short_model(num_classes=0), segmenter):
        with pytest.raises(InputError, match="gives no logits of an image; accepted: a classifier"):
            grad_cam(model, {}, images, [0, 0])
