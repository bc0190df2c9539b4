"""MediaPipe's BlazeFace, short range ("front") and back: the tensors of its TFLite files.

Layers are Keras's: `conv2d_3/Kernel` is the fourth convolution of its graph. Normalization is
folded into them. The heads are named after their maps' strides.
"""

from collections.abc import Iterator

from convert.layouts import TFLITE
from convert.rule import Options, Published, Rule
from flaxmobile.models import blazeface
from flaxmobile.preprocessing import Preprocessing

OPTIONS: Options = {
    "detector": True,
    "num_classes": 0,
    "shortcut": "pad",
    "padding": "same",
    "folded": True,
}
VARIANTS: tuple[Options, ...] = (
    {"variant": "mediapipe", "output_stride": 16},
    {"variant": "mediapipe_back", "output_stride": 32},
)

_ASSETS = "https://storage.googleapis.com"
_LICENCE = "Apache-2.0 (MediaPipe)"
PREPROCESSING = Preprocessing(128, 128, mean=(0.5,) * 3, std=(0.5,) * 3)
"""Pixels in -1..1; the size is the variant's."""

PUBLISHED = (
    Published(
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        PREPROCESSING,
        {
            "weights": "face_detection_short_range",
            "url": f"{_ASSETS}/mediapipe-assets/face_detection_short_range.tflite",
            "licence": _LICENCE,
        },
    ),
    Published(
        "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
        PREPROCESSING,
        {
            "weights": "blaze_face_short_range",
            "url": f"{_ASSETS}/mediapipe-models/face_detector/blaze_face_short_range/float16/1/"
            "blaze_face_short_range.tflite",
            "licence": _LICENCE,
        },
    ),
    Published(  # in MediaPipe's repository alone
        "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
        PREPROCESSING,
        {"weights": "face_detection_back", "licence": _LICENCE},
    ),
)


def image_size(options: Options) -> int:
    """The side of the images that a variant takes."""
    return blazeface.VARIANTS[options["variant"]].image_size


def size(options: Options) -> str:
    """Say which variant it is."""
    return f"variant {options['variant']}"


def heads(variant: str, kind: str) -> list[str]:
    """Our heads of a kind ("boxes" or "scores"), of the finer map and of the coarser."""
    return [f"{kind}_stride{stride}" for stride in blazeface.VARIANTS[variant].anchors]


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    variant = blazeface.VARIANTS[options["variant"]]
    yield "stem/conv", "conv2d"
    for number, row in enumerate(variant.rows, start=1):
        if row.residual:
            depthwise, project = f"depthwise_conv2d{_suffix(number - 1)}", f"conv2d_{number}"
        else:
            depthwise, project = "separable_conv2d__xeno_compat__depthwise", "separable_conv2d"
        yield f"block{number}/depthwise/conv", depthwise
        yield f"block{number}/project/conv", project
    for kind, name in (("scores", "classificator"), ("boxes", "regressor")):
        for stride in variant.anchors:
            yield f"{kind}_stride{stride}", f"{name}_{stride}"


def _suffix(place: int) -> str:
    """Keras's, of the layers of a class: the first has none."""
    return f"_{place}" if place else ""


BLAZEFACE = Rule(
    layout=TFLITE,
    modules=_modules,
    own_options=OPTIONS,
    variants=VARIANTS,
    preprocessing=PREPROCESSING,
    published=PUBLISHED,
    image_size=image_size,
    size=size,
)
