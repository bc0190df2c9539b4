"""Every network by name, and facts about it."""

import dataclasses

from flaxmobile.layers import Network
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.models.ic_conv import ICConvNet
from flaxmobile.models.inception_resnet_v2 import InceptionResNetV2
from flaxmobile.models.inception_v1 import InceptionV1
from flaxmobile.models.inception_v2 import InceptionV2
from flaxmobile.models.inception_v3 import InceptionV3
from flaxmobile.models.inception_v4 import InceptionV4
from flaxmobile.models.mnasnet import MnasNet
from flaxmobile.models.mobilenet_v1 import MobileNetV1
from flaxmobile.models.mobilenet_v2 import MobileNetV2
from flaxmobile.models.mobilenet_v3 import MobileNetV3Large, MobileNetV3Small
from flaxmobile.models.mobilenet_v4 import MobileNetV4
from flaxmobile.models.mobilenext import MobileNeXt
from flaxmobile.models.shufflenet_v1 import ShuffleNetV1
from flaxmobile.models.shufflenet_v2 import ShuffleNetV2
from flaxmobile.models.xception import Xception


@dataclasses.dataclass(frozen=True)
class Spec:
    """Facts about a registered network.

    Attributes:
      network: the module class.
      aliases: short names.
      year, paper: when and where it was published.
      params, macs: at the default options and `image_size`, as `summarize` counts them.
      image_size: side of the input at which its accuracy was measured, in pixels.
      top1: ImageNet accuracy in percent of the reference weights, where published.
      top1_source: which weights those are, at the default options.
    """

    network: type[Network]
    aliases: tuple[str, ...]
    year: int
    params: int
    macs: int
    paper: str
    image_size: int = 224
    top1: float | None = None
    top1_source: str = ""


SPECS: dict[str, Spec] = {
    "mobilenet_v1": Spec(
        network=MobileNetV1,
        aliases=("v1",),
        year=2017,
        params=4_231_976,
        macs=568_740_352,
        paper=(
            "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications "
            "(arXiv:1704.04861)"
        ),
        top1=70.9,
        top1_source="TF-slim MobileNet_v1_1.0_224",
    ),
    "mobilenet_v2": Spec(
        network=MobileNetV2,
        aliases=("v2",),
        year=2018,
        params=3_504_872,
        macs=300_774_272,
        paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks (arXiv:1801.04381)",
        top1=72.154,
        top1_source="torchvision IMAGENET1K_V2",
    ),
    "mobilenet_v3_large": Spec(
        network=MobileNetV3Large,
        aliases=("v3", "v3-large"),
        year=2019,
        params=5_483_032,
        macs=216_589_760,
        paper="Searching for MobileNetV3 (arXiv:1905.02244)",
        top1=75.274,
        top1_source="torchvision IMAGENET1K_V2",
    ),
    "mobilenet_v3_small": Spec(
        network=MobileNetV3Small,
        aliases=("v3-small",),
        year=2019,
        params=2_542_856,
        macs=56_510_400,
        paper="Searching for MobileNetV3 (arXiv:1905.02244)",
        top1=67.668,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "mobilenet_v4": Spec(
        network=MobileNetV4,
        aliases=("v4",),
        year=2024,
        params=3_774_024,
        macs=186_005_568,
        paper="MobileNetV4: Universal Models for the Mobile Ecosystem (arXiv:2404.10518)",
        top1=73.8,
        top1_source="the paper's MNv4-Conv-S",
    ),
    "mobilenext": Spec(
        network=MobileNeXt,
        aliases=(),
        year=2020,
        params=3_535_416,
        macs=311_342_592,
        paper=(
            "Rethinking Bottleneck Structure for Efficient Mobile Network Design (arXiv:2007.02269)"
        ),
        top1=74.02,
        top1_source="the authors' MobileNeXt-1.00",
    ),
    "mnasnet": Spec(
        network=MnasNet,
        aliases=(),
        year=2018,
        params=4_383_312,
        macs=314_415_872,
        paper=("MnasNet: Platform-Aware Neural Architecture Search for Mobile (arXiv:1807.11626)"),
        top1=73.456,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "shufflenet_v1": Spec(
        network=ShuffleNetV1,
        aliases=(),
        year=2017,
        params=1_864_728,
        macs=137_460_672,
        paper=(
            "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices "
            "(arXiv:1707.01083)"
        ),
    ),
    "shufflenet_v2": Spec(
        network=ShuffleNetV2,
        aliases=(),
        year=2018,
        params=2_278_604,
        macs=144_907_992,
        paper=(
            "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design "
            "(arXiv:1807.11164)"
        ),
        top1=69.362,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "inception_v1": Spec(
        network=InceptionV1,
        aliases=("googlenet",),
        year=2014,
        params=6_624_904,
        macs=1_498_376_192,
        paper="Going Deeper with Convolutions (arXiv:1409.4842)",
        top1=69.778,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "inception_v2": Spec(
        network=InceptionV2,
        aliases=(),
        year=2015,
        params=11_188_224,
        macs=1_934_857_216,
        paper=(
            "Batch Normalization: Accelerating Deep Network Training by Reducing Internal "
            "Covariate Shift (arXiv:1502.03167)"
        ),
    ),
    "inception_v3": Spec(
        network=InceptionV3,
        aliases=(),
        year=2015,
        params=23_834_568,
        macs=5_713_216_096,
        paper="Rethinking the Inception Architecture for Computer Vision (arXiv:1512.00567)",
        image_size=299,
        top1=77.294,
        top1_source="torchvision IMAGENET1K_V1",
    ),
    "inception_v4": Spec(
        network=InceptionV4,
        aliases=(),
        year=2016,
        params=42_679_816,
        macs=12_253_974_624,
        paper=(
            "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning "
            "(arXiv:1602.07261)"
        ),
        image_size=299,
    ),
    "inception_resnet_v2": Spec(
        network=InceptionResNetV2,
        aliases=(),
        year=2016,
        params=55_843_464,
        macs=13_155_794_016,
        paper=(
            "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning "
            "(arXiv:1602.07261)"
        ),
        image_size=299,
    ),
    "xception": Spec(
        network=Xception,
        aliases=(),
        year=2016,
        params=22_855_952,
        macs=8_357_403_496,
        paper="Xception: Deep Learning with Depthwise Separable Convolutions (arXiv:1610.02357)",
        image_size=299,
    ),
    "ic_conv": Spec(
        network=ICConvNet,
        aliases=(),
        year=2021,
        params=25_557_032,
        macs=4_089_184_256,
        paper="Inception Convolution with Efficient Dilation Search (arXiv:2012.13587)",
    ),
    "blazeface": Spec(
        network=BlazeFace,
        aliases=(),
        year=2019,
        params=156_760,
        macs=32_774_400,
        paper=(
            "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs (arXiv:1907.05047)"
        ),
        image_size=128,
    ),
}
ALIASES = {alias: name for name, spec in SPECS.items() for alias in spec.aliases}
