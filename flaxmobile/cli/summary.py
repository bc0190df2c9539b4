"""`flaxmobile summary MODEL`: a network's parameters and multiply-adds, layer by layer."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from flaxmobile.cli.summary_plot import plot_summary
from flaxmobile.command.flags import PICTURES, check_writable, parse, reading_arguments
from flaxmobile.command.options import read_options
from flaxmobile.errors import check_value
from flaxmobile.sizes import ImageSize
from flaxmobile.summary import summarize
from flaxmobile.tasks import build, default_image_size, published_options


@dataclasses.dataclass(frozen=True)
class Config:
    """Count a network's parameters and multiply-adds, layer by layer, for one image.

    Examples:
      flaxmobile summary v2 --alpha 1.4 --plot v2.png
      flaxmobile summary lraspp --options backbone=v3-large --image-size 520
    """

    model: tyro.conf.Positional[str]
    """Name or alias of the network; `flaxmobile list` shows them. Or a head over a network: lraspp,
    deeplab_v3 or ssdlite, --options backbone=v2."""
    alpha: float | None = None
    """Width multiplier; by default the network's."""
    image_size: Annotated[tuple[int, ...], tyro.conf.arg(metavar="SIDE | HEIGHT WIDTH")] = ()
    """Size of the input in pixels; by default that at which its accuracy was measured."""
    num_classes: int | None = None
    """Width of the classifier, 0 for none; by default the network's."""
    options: tuple[str, ...] = ()
    """More options of the network, such as groups=8 or flavour=paper."""
    json: bool = False
    """Print JSON for machines instead of the table."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw how parameters and multiply-adds are distributed over the blocks."""

    def size(self) -> ImageSize:
        """Return the size of the images.

        Raises:
          InputError: more than two numbers, or an unknown network.
        """
        given = self.image_size
        check_value("image_size", given, len(given) <= 2, "the side, or height and width")
        if len(given) == 2:
            return given[0], given[1]
        if given:
            return given[0]
        return default_image_size(self.model)


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the counts."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        options = read_options(config.options, alpha=config.alpha, num_classes=config.num_classes)
        if config.plot is not None:
            check_writable("--plot", config.plot, PICTURES)
        options = published_options(config.model) | options
        summary = summarize(build(config.model, **options), config.size())
    if config.plot is not None:
        plot_summary(config.plot, summary)
    print(json.dumps(summary.to_json(), indent=2) if config.json else summary)
