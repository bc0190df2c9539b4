"""A network of two layers under the name `tiny`, so that tests of the loop compile in a second.

`python -m tests.train.tiny FLAGS` is `python -m train FLAGS` with that network registered. With
SIGNAL_AT="STEP NUMBER" in the environment it sends itself a signal once that step is reported.
"""

import os
import sys
from typing import ClassVar

from flaxmobile import registry
from flaxmobile.layers import Block, Network, relu6
from flaxmobile.models.mobilenet_v2 import InvertedResidual
from train.reporting import StepLines


class Tiny(Network):
    alpha: float = 1.0
    output_stride: int = 4

    dilates: ClassVar[bool] = False
    quantizes: ClassVar[bool] = True

    def blocks(self):
        return [Block("stem", stride=4), Block("block")]

    def build(self, place, unit):
        if place.name == "stem":
            return unit(8, 3, stride=4, activation=relu6, name="stem")
        return InvertedResidual(8, expansion=2, unit=unit, name="block")


SPEC = registry.Spec(Tiny, aliases=("t",), year=2026, params=0, macs=0, paper="none")


def _send_signal_at(step: int, number: int) -> None:
    flush = StepLines.flush

    def flush_and_send(self):
        reported, _ = self.pending or (None, None)
        flush(self)
        if reported == step:
            os.kill(os.getpid(), number)

    StepLines.flush = flush_and_send


if __name__ == "__main__":
    from train.__main__ import main

    if "SIGNAL_AT" in os.environ:
        _send_signal_at(*map(int, os.environ["SIGNAL_AT"].split()))
    registry.SPECS["tiny"] = SPEC
    sys.exit(main())
