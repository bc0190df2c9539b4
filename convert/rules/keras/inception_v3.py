"""Keras's InceptionV3, whose convolutions and normalizations are numbered in order of creation."""

from convert.class_names import imagenet_names_without_background
from convert.layouts import KERAS
from convert.rule import Rule
from convert.rules.keras.blocks import WITHOUT_SCALE, by_order, inception
from convert.rules.keras.files import published
from convert.rules.keras.presets import preset
from convert.rules.units import Names
from flaxmobile.models.inception_v3 import InceptionV3


def _modules(model: InceptionV3) -> Names:
    yield from inception(model.blocks())
    yield "classifier", "predictions"


RULE = Rule(
    network=InceptionV3,
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules),),
    own_options={"alpha": 1.0, "padding": "same", "norm_momentum": 0.99},
    constants=WITHOUT_SCALE,
    preprocessing=preset(299),
    published=(
        published(
            "InceptionV3",
            "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels",
            23_834_568,
            299,
            md5="9a0d58056eeedaa3f26cb7ebd46da564",
        ),
    ),
    class_names=imagenet_names_without_background,
)
