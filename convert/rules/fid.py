"""FID's Inception: the network by which the Fréchet inception distance is measured, for PyTorch.

Names and shapes are those of torchvision's Inception V3 with 1008 classes; its pooling is another.
Source: mseitzer/pytorch-fid, whose file holds the numbers of TensorFlow's graph of 2015-12-05.
"""

from convert.rule import Published
from convert.rules.torchvision import inception_v3 as torchvisions
from flaxmobile.preprocessing import Preprocessing

# pytorch-fid squeezes the whole image to 299×299; ours resizes the shorter side and crops.
_PRESET = Preprocessing(299, 299, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_FILE = "pt_inception-2015-12-05-6726825d"
_RELEASES = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"

RULES = {
    "inception_v3": torchvisions.RULE._replace(
        own_options={**torchvisions.RULE.own_options, "variant": "fid"},
        variants=({},),
        asked={},
        num_classes=1008,
        preprocessing=_PRESET,
        published=(
            Published(
                f"pytorch-fid:{_FILE}",
                _PRESET,
                "Apache-2.0",
                params=23_850_960,
                url=f"{_RELEASES}/{_FILE}.pth",
                sha256=_FILE.rpartition("-")[2],
            ),
        ),
    )
}
