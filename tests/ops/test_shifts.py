"""Geometry of gradients through windows; their values are tested with the operations."""

import pytest

from flaxmobile.ops import make_window
from flaxmobile.ops.shifts import image_phases
from flaxmobile.ops.window import output_size


@pytest.mark.parametrize(
    ("size", "kernel", "options", "margins"),
    [
        (56, 3, {"padding": "symmetric"}, (1, 1)),
        (112, 3, {"padding": "symmetric", "strides": 2}, (1, 1)),
        (112, 3, {"padding": "SAME", "strides": 2}, (1, 0)),
        (14, 5, {"padding": "symmetric"}, (2, 2)),
        (14, 5, {"padding": "symmetric", "dilation": 2}, (4, 4)),
        (8, 3, {"padding": "VALID"}, (2, 2)),
        (7, 1, {"padding": "VALID", "strides": 2}, (0, 0)),
    ],
)
def test_no_more_zeros_surround_the_outputs_than_pixels_of_the_image_read(
    size, kernel, options, margins
):
    image, kernel = (size, size), (kernel, kernel)
    window = make_window(image, kernel, **options)
    phases = image_phases(window, kernel, image, output_size(image, kernel, window))
    assert [axis.margins for axis in phases] == [margins, margins]
