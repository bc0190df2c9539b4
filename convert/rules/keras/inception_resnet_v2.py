"""Keras's InceptionResNetV2. Only the convolutions that widen a block, and the last, are named."""

from convert.class_names import imagenet_names_without_background
from convert.layouts import KERAS
from convert.rule import Rule
from convert.rules.keras.blocks import WITHOUT_SCALE, by_order, inception
from convert.rules.keras.files import published
from convert.rules.keras.presets import preset
from convert.rules.units import Names, unit
from flaxmobile.models.inception_resnet_v2 import InceptionResNetV2


def _modules(model: InceptionResNetV2) -> Names:
    *blocks, last = model.blocks()
    yield from inception(blocks)
    yield from unit(last.name, "conv_7b", "", "_bn")
    yield "classifier", "predictions"


RULE = Rule(
    network=InceptionResNetV2,
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules),),
    own_options={"alpha": 1.0, "padding": "same", "norm_momentum": 0.99},
    constants=WITHOUT_SCALE,
    preprocessing=preset(299),
    published=(
        published(
            "InceptionResNetV2",
            "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels",
            55_843_464,
            299,
            md5="e693bd0210a403b3192acc6073ad2e96",
        ),
    ),
    class_names=imagenet_names_without_background,
)
