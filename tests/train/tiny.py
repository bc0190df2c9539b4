"""A network of two layers under the name `tiny`, so that tests of the loop compile in a second.

`python -m tests.train.tiny FLAGS` is `python -m train FLAGS` with that network registered.
"""

import sys

from flax import linen as nn

from flaxmobile import registry
from flaxmobile.layers import Network, relu6
from flaxmobile.models.mobilenet_v2 import InvertedResidual


class Tiny(Network):
    alpha: float = 1.0

    @nn.compact
    def __call__(self, images, train=False):
        conv = self.conv_norm()
        x = conv(8, 3, stride=4, activation=relu6, name="stem")(self.check_images(images), train)
        x = InvertedResidual(8, expansion=2, conv=conv, name="block")(x, train)
        return self.classify(x, train)


SPEC = registry.Spec(Tiny, aliases=("t",), year=2026, params=0, macs=0, paper="none")

if __name__ == "__main__":
    from train.__main__ import main

    registry.SPECS["tiny"] = SPEC
    sys.exit(main())
