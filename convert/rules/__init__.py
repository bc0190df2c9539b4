"""What each origin calls its tensors: one package per origin, one module per network."""

from convert.rule import Rule
from convert.rules.authors import blazeface as authors_blazeface
from convert.rules.authors import mobilenext, shufflenet_v1
from convert.rules.authors import shufflenet_v2 as authors_shufflenet_v2
from convert.rules.keras import inception_resnet_v2 as keras_inception_resnet_v2
from convert.rules.keras import inception_v3 as keras_inception_v3
from convert.rules.keras import mobilenet_v1 as keras_mobilenet_v1
from convert.rules.keras import mobilenet_v2 as keras_mobilenet_v2
from convert.rules.keras import mobilenet_v3 as keras_mobilenet_v3
from convert.rules.keras import xception as keras_xception
from convert.rules.mediapipe import blazeface
from convert.rules.timm import inception_v3 as timm_inception_v3
from convert.rules.timm import mobilenet_v1 as timm_mobilenet_v1
from convert.rules.timm import mobilenet_v2 as timm_mobilenet_v2
from convert.rules.timm import mobilenet_v3 as timm_mobilenet_v3
from convert.rules.timm.inception_resnet_v2 import INCEPTION_RESNET_V2
from convert.rules.timm.inception_v4 import INCEPTION_V4
from convert.rules.timm.xception import XCEPTION
from convert.rules.torchvision.inception_v1 import INCEPTION_V1
from convert.rules.torchvision.inception_v3 import INCEPTION_V3
from convert.rules.torchvision.mnasnet import MNASNET
from convert.rules.torchvision.mobilenet_v2 import MOBILENET_V2
from convert.rules.torchvision.mobilenet_v3 import MOBILENET_V3_LARGE, MOBILENET_V3_SMALL
from convert.rules.torchvision.shufflenet_v2 import SHUFFLENET_V2

RULES: dict[tuple[str, str], Rule] = {
    ("timm", "inception_v4"): INCEPTION_V4,
    ("timm", "inception_resnet_v2"): INCEPTION_RESNET_V2,
    ("timm", "xception"): XCEPTION,
    ("timm", "mobilenet_v1"): timm_mobilenet_v1.MOBILENET_V1,
    ("torchvision", "mobilenet_v2"): MOBILENET_V2,
    ("torchvision", "mobilenet_v3_large"): MOBILENET_V3_LARGE,
    ("torchvision", "mobilenet_v3_small"): MOBILENET_V3_SMALL,
    ("timm", "mobilenet_v2"): timm_mobilenet_v2.MOBILENET_V2,
    ("timm", "mobilenet_v3_large"): timm_mobilenet_v3.MOBILENET_V3_LARGE,
    ("timm", "mobilenet_v3_small"): timm_mobilenet_v3.MOBILENET_V3_SMALL,
    ("timm-tf", "mobilenet_v3_large"): timm_mobilenet_v3.TF_MOBILENET_V3_LARGE,
    ("timm-tf", "mobilenet_v3_small"): timm_mobilenet_v3.TF_MOBILENET_V3_SMALL,
    ("torchvision", "inception_v1"): INCEPTION_V1,
    ("torchvision", "inception_v3"): INCEPTION_V3,
    ("timm", "inception_v3"): timm_inception_v3.INCEPTION_V3,
    ("torchvision", "mnasnet"): MNASNET,
    ("torchvision", "shufflenet_v2"): SHUFFLENET_V2,
    ("authors", "mobilenext"): mobilenext.MOBILENEXT,
    ("authors", "shufflenet_v1"): shufflenet_v1.SHUFFLENET_V1,
    ("authors", "shufflenet_v2"): authors_shufflenet_v2.SHUFFLENET_V2,
    ("authors", "blazeface"): authors_blazeface.BLAZEFACE,
    ("mediapipe", "blazeface"): blazeface.BLAZEFACE,
    ("keras", "mobilenet_v1"): keras_mobilenet_v1.MOBILENET_V1,
    ("keras", "mobilenet_v2"): keras_mobilenet_v2.MOBILENET_V2,
    ("keras", "mobilenet_v3_large"): keras_mobilenet_v3.MOBILENET_V3_LARGE,
    ("keras", "mobilenet_v3_small"): keras_mobilenet_v3.MOBILENET_V3_SMALL,
    ("keras", "xception"): keras_xception.XCEPTION,
    ("keras", "inception_v3"): keras_inception_v3.INCEPTION_V3,
    ("keras", "inception_resnet_v2"): keras_inception_resnet_v2.INCEPTION_RESNET_V2,
}
"""(origin, registered name of the network) -> how that origin stores it."""
