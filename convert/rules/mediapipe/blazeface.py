"""MediaPipe's BlazeFace, short range ("front") and back: the tensors of its TFLite files.

Layers are Keras's: `conv2d_3/Kernel` is the fourth convolution of its graph. Normalization is
folded into them. The heads are named after their maps' strides.
"""

from convert.layouts import TFLITE
from convert.rule import Options, Published, Rule
from convert.rules.keras.blocks import numbered
from convert.rules.units import Names
from flaxmobile.models.blazeface import BlazeFace
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
PREPROCESSING = Preprocessing(128, 128, mean=(0.5,) * 3, std=(0.5,) * 3)
"""Pixels in -1..1; the size is the variant's."""


def _published(name: str, params: int, sha256: str, path: str = "") -> Published:
    """Describe a file; without a path it is only in MediaPipe's repository."""
    return Published(
        f"mediapipe:{name}",
        PREPROCESSING,
        "Apache-2.0",
        params,
        url=path and f"{_ASSETS}/{path}",
        sha256=sha256,
    )


PUBLISHED = (
    _published(
        "face_detection_short_range",
        101_390,
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        "mediapipe-assets/face_detection_short_range.tflite",
    ),
    _published(
        "blaze_face_short_range",
        101_390,
        "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
        "mediapipe-models/face_detector/blaze_face_short_range/float16/1/"
        "blaze_face_short_range.tflite",
    ),
    _published(
        "face_detection_back",
        136_240,
        "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
    ),
)


def _modules(model: BlazeFace) -> Names:
    stem, *blocks = model.blocks()
    yield f"{stem.name}/conv", "conv2d"
    for number, block in enumerate(blocks, start=1):
        depthwise, project = "separable_conv2d__xeno_compat__depthwise", "separable_conv2d"
        if block.row.residual:
            depthwise = numbered("depthwise_conv2d", number - 1)
            project = numbered("conv2d", number)
        yield f"{block.name}/depthwise/conv", depthwise
        yield f"{block.name}/project/conv", project
    for kind, name in (("scores", "classificator"), ("boxes", "regressor")):
        for stride in model.table.anchors:
            yield f"{kind}_stride{stride}", f"{name}_{stride}"


RULE = Rule(
    network=BlazeFace,
    layout=TFLITE,
    modules=_modules,
    own_options=OPTIONS,
    variants=VARIANTS,
    preprocessing=PREPROCESSING,
    published=PUBLISHED,
    image_size=lambda model: model.table.image_size,
)
