"""MediaPipe's BlazeFace, short range ("front"), back and full range: tensors of its TFLite files.

Layers are Keras's: `conv2d_3/Kernel` is the fourth convolution of its graph. Normalization is
folded into them. The heads are named after their maps' strides. The layers of the sparse
full-range file have no names: its modules are listed in the order of its graph.
"""

import dataclasses
import itertools
from collections.abc import Iterator

from convert.layouts import TFLITE
from convert.rule import Options, Published, Rule
from convert.rules.keras.blocks import numbered
from convert.rules.units import Names
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.models.blazeface_tables import VARIANTS
from flaxmobile.preprocessing import Preprocessing

OPTIONS: Options = {"detector": True, "num_classes": 0, "folded": True}
SHORT_RANGE_AND_BACK: tuple[Options, ...] = (
    {"variant": "mediapipe", "output_stride": 16},
    {"variant": "mediapipe_back", "output_stride": 32},
)
FULL_RANGE: tuple[Options, ...] = (
    {"variant": "mediapipe_full_range", "output_stride": 32},
    {"variant": "mediapipe_full_range_sparse", "output_stride": 32, "padding": "symmetric"},
)

_ASSETS = "https://storage.googleapis.com"
PREPROCESSING = Preprocessing(128, 128, mean=(0.5,) * 3, std=(0.5,) * 3)
"""Pixels in -1..1; the size is the variant's."""


def _published(variant: str, name: str, params: int, sha256: str, path: str = "") -> Published:
    """Describe a file; without a path it has no address of its own.

    An asset's address names its generation, as files of the same name were replaced.
    """
    size = VARIANTS[variant].image_size
    return Published(
        f"mediapipe:{name}",
        dataclasses.replace(PREPROCESSING, image_size=size, resize_size=size),
        "Apache-2.0",
        params,
        url=path and f"{_ASSETS}/{path}",
        sha256=sha256,
    )


PUBLISHED = (
    _published(
        "mediapipe",
        "face_detection_short_range",
        101_390,
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        "mediapipe-assets/face_detection_short_range.tflite?generation=1677044301978921",
    ),
    _published(
        "mediapipe",
        "face_detection_short_range.2022",
        101_390,
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        "mediapipe-assets/face_detection_short_range.tflite?generation=1661875748538815",
    ),
    _published(
        "mediapipe",
        "blaze_face_short_range",
        101_390,
        "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
        "mediapipe-models/face_detector/blaze_face_short_range/float16/1/"
        "blaze_face_short_range.tflite",
    ),
    _published(
        "mediapipe_back",
        "face_detection_back",
        136_240,
        "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
    ),
    _published(
        "mediapipe_full_range",
        "face_detection_full_range",
        514_069,
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        "mediapipe-assets/face_detection_full_range.tflite?generation=1661875742733283",
    ),
    _published(
        "mediapipe_full_range_sparse",
        "face_detection_full_range_sparse",
        508_308,
        "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
        "mediapipe-assets/face_detection_full_range_sparse.tflite?generation=1674261618323821",
    ),
    _published(
        "mediapipe_full_range_sparse",
        "face_detection_full_range_sparse.2022",
        508_308,
        "671dd2f9ed11a78436fc21cc42357a803dfc6f73e9fb86541be942d5716c2dce",
        "mediapipe-assets/face_detection_full_range_sparse.tflite?generation=1661875739104017",
    ),
)
"""Addresses and hashes are those of MediaPipe's `third_party/external_files.bzl`."""


def _modules(model: BlazeFace) -> Names:
    if model.table.spread_heads:
        return _sparse(model)
    return _full_range(model) if model.table.decoder else _single_blocks(model)


def _single_blocks(model: BlazeFace) -> Names:
    """Yield the layers of short range and back."""
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


_DOUBLE = ("squeeze_depthwise", "squeeze", "depthwise", "project")
"""Units of a double block in their order."""


def _full_range(model: BlazeFace) -> Names:
    """Yield the layers of the dense full-range file, whose convolutions it numbers by kind."""
    counts = {"conv2d": itertools.count(), "depthwise_conv2d": itertools.count()}
    for ours in _units(model):
        kind = "depthwise_conv2d" if ours.endswith("depthwise") else "conv2d"
        yield f"{ours}/conv", numbered(kind, next(counts[kind]))
    for kind, name in (("scores", "classifier"), ("boxes", "regressor")):
        for stride in model.table.anchors:
            yield f"{kind}_stride{stride}", f"{name}_face_{stride}"


def _units(model: BlazeFace) -> Iterator[str]:
    stem, *blocks = model.blocks()
    yield stem.name
    yield from (f"{block.name}/{unit}" for block in blocks for unit in _DOUBLE)
    for step in model.table.decoder:
        name = f"decoder_stride{step.stride}"
        yield from (f"{name}/coarse", f"{name}/fine")
        numbers = range(1, step.blocks + 1)
        yield from (f"{name}/block{number}/{unit}" for number in numbers for unit in _DOUBLE)


def _sparse(model: BlazeFace) -> Names:
    """Yield the layers of the sparse full-range file: a map's `fine` follows its last block."""
    units = list(_units(model))
    for step in model.table.decoder:
        units.remove(fine := f"decoder_stride{step.stride}/fine")
        last = [place.name for place in model.places() if place.geometry.total == step.stride][-1]
        units.insert(units.index(f"{last}/project") + 1, fine)
    parts = ("project", "depthwise")
    heads = [
        f"{kind}_stride{stride}/{part}"
        for stride in model.table.anchors
        for kind in ("scores", "boxes")
        for part in parts
    ]
    layers = [*(f"{unit}/conv" for unit in units), *heads]
    yield from ((ours, f"layer{number}") for number, ours in enumerate(layers))


RULE = Rule(
    network=BlazeFace,
    layout=TFLITE,
    modules=_modules,
    own_options=OPTIONS,
    variants=SHORT_RANGE_AND_BACK + FULL_RANGE,
    preprocessing=PREPROCESSING,
    published=PUBLISHED,
    image_size=lambda model: model.table.image_size,
)
