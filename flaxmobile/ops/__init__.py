"""Pure functions on arrays: each convolution in the form that is fastest on each platform."""

from flaxmobile.ops.dense import dense_conv
from flaxmobile.ops.depthwise import depthwise_conv
from flaxmobile.ops.dispatch import is_native, native_forms
from flaxmobile.ops.grouped import grouped_conv
from flaxmobile.ops.materialize import materialize_on_cpu
from flaxmobile.ops.maximum import window_max
from flaxmobile.ops.mean import global_mean, window_mean
from flaxmobile.ops.pointwise import pointwise_conv
from flaxmobile.ops.window import Padding, Window, make_window, output_size

__all__ = [
    "Padding",
    "Window",
    "dense_conv",
    "depthwise_conv",
    "global_mean",
    "grouped_conv",
    "is_native",
    "make_window",
    "materialize_on_cpu",
    "native_forms",
    "output_size",
    "pointwise_conv",
    "window_max",
    "window_mean",
]
