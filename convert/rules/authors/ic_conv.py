"""IC-Conv of its authors: `IC_ResNet` of yifan123/IC-Conv, a convolution for each dilation.

The dilations themselves stand in another file, of their pattern zoo.
"""

from itertools import groupby

from convert.layouts import TORCH
from convert.rule import Parts, Rule
from convert.rules.torchvision.files import STANDARD
from convert.rules.units import Names, unit
from flaxmobile.errors import InputError
from flaxmobile.layers import Max
from flaxmobile.models.ic_conv import ICConvNet

_LAYERS = {"reduce": "1", "filter": "2", "expand": "3"}


def _modules(model: ICConvNet) -> Names:
    yield from unit("stem", "", "conv1", "bn1")
    given = 0
    for block in model.blocks()[1:]:
        if isinstance(block.row, Max):
            continue
        stage, number = block.name.removeprefix("stage").split("_block")
        theirs = f"layer{stage}.{int(number) - 1}"
        for layer, place in _LAYERS.items():
            yield from unit(f"{block.name}/{layer}", theirs, f".conv{place}", f".bn{place}")
        if block.row.channels != given:
            yield from unit(f"{block.name}/shortcut", theirs, ".downsample.0", ".downsample.1")
        given = block.row.channels
    yield "classifier", "fc"


def _sizes(model: ICConvNet) -> dict[str, tuple[int, ...]]:
    """Count the channels of each dilation, by our path of a layer.

    Raises:
      InputError: channels of the same dilation lie apart, which the authors' network cannot have.
    """
    sizes = {}
    for layer, channels in model.layers().items():
        runs = groupby(model.dilations.get(layer, ((1, 1),) * channels))
        counts = [(dilation, len(list(same))) for dilation, same in runs]
        if len(dict(counts)) < len(counts):
            raise InputError(f"channels of equal dilations of {layer} lie apart in the pattern")
        sizes[f"{layer}/conv"] = tuple(count for _, count in counts)
    return sizes


RULE = Rule(
    network=ICConvNet,
    layout=TORCH,
    modules=_modules,
    own_options={"alpha": 1.0},
    variants=({"base": "resnet50"}, {"base": "resnet101"}),
    preprocessing=STANDARD,
    about={"repository": "yifan123/IC-Conv"},
    parts=Parts(
        "conv_list",
        _sizes,
        "one for each dilation, which no tensor shows: give the pattern of these weights with "
        "--options pattern=FILE",
    ),
)
