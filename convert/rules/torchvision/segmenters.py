"""What torchvision's segmenters on MobileNet V3 have in common."""

from collections.abc import Callable

from convert.layouts import TORCH
from convert.rule import Modules, Options, Published, Rule
from convert.rules.torchvision.files import SEGMENTATION
from convert.rules.torchvision.mobilenet_v3 import LARGE
from convert.rules.units import Names
from convert.voc import voc_names
from flaxmobile.segmentation import Segmenter

_BACKBONE: Options = {
    **LARGE.options,
    "backbone": "mobilenet_v3_large",
    "alpha": 1.0,
    "output_stride": 16,
    "dilated": True,
}


def segmenter_rule(
    network: type[Segmenter],
    head: Callable[[Segmenter], Names],
    file: Published,
    variants: tuple[Options, ...] = ({},),
) -> Rule:
    """Make the rule of a head over the dilated backbone.

    Args:
      network: class of the head.
      head: model -> the names of the head's modules.
      file: that torchvision publishes.
      variants: see `Rule`.
    """
    return Rule(
        network=network,
        layout=TORCH,
        modules=_with_backbone(head),
        own_options=_BACKBONE,
        variants=variants,
        preprocessing=SEGMENTATION,
        published=(file,),
        class_names=voc_names,
    )


def _with_backbone(head: Callable[[Segmenter], Names]) -> Modules:
    """Add the names of the backbone, which are those of the classifier below `backbone`."""

    def modules(model: Segmenter) -> Names:
        for ours, theirs in LARGE.modules(model.backbone):
            if theirs.startswith("features."):
                yield f"backbone/{ours}", theirs.replace("features", "backbone", 1)
        yield from head(model)

    return modules
