"""All published weights that can be fetched by name: the files that the rules know."""

from typing import NamedTuple

from convert.rule import Published
from convert.rules import RULES
from flaxmobile.errors import InputError, nearest

PUBLISHERS = ("torchvision", "timm", "keras")


class Entry(NamedTuple):
    """Published weights of a network.

    Attributes:
      origin: whose names the file has, see `convert.rules`.
      model: registered name of the network.
      published: name, places and facts.
    """

    origin: str
    model: str
    published: Published


CATALOGUE: dict[str, Entry] = {
    published.name: Entry(origin, model, published)
    for (origin, model), rule in RULES.items()
    for published in rule.published
    if published.name.startswith(tuple(f"{publisher}:" for publisher in PUBLISHERS))
}
"""By name, such as "timm:mobilenetv2_100.ra_in1k"."""


def find_entry(name: str, model: str | None = None, alpha: float | None = None) -> Entry:
    """Find published weights.

    Args:
      name: of the catalogue; the name of a network alone, such as "torchvision:mobilenet_v2" or
        "keras:MobileNetV2", stands for the weights that its library takes by default; that of the
        weights alone, such as "torchvision:IMAGENET1K_V1", needs the network.
      model: registered name of the network; by default any.
      alpha: width of the network, where the name does not say it; by default 1.0.

    Raises:
      InputError: there are none, or they are of another network.
    """
    entry = CATALOGUE.get(name) or _by_part(name, model, alpha)
    if model not in (None, entry.model):
        raise InputError(f"{name} holds {entry.model}, not {model}: --model {entry.model}")
    return entry


def _by_part(name: str, model: str | None, alpha: float | None) -> Entry:
    """Find the weights of which a network's name, or that of its weights, is given."""
    publisher, _, part = name.partition(":")
    entries = [each for known, each in CATALOGUE.items() if known.startswith(f"{publisher}:")]
    whole = {entry.published.name.partition(":")[2]: entry for entry in entries}
    for known, entry in whole.items():
        network = known.partition("." if publisher != "keras" else "_")[0]
        if part == network:
            return entry
        widths = (1.0 if alpha is None else alpha,)
        if known.endswith(f".{part}") and entry.model == model and entry.published.alpha in widths:
            return entry
    own = [known for known, entry in whole.items() if model in (None, entry.model)]
    of_model = f" of {model}" if model else ""
    accepted = f"accepted: {', '.join(own)}" if model and own else "flaxmobile list --pretrained"
    raise InputError(
        f"{publisher} publishes no weights {part!r}{of_model} that can be read here"
        f"{nearest(part, own)}; {accepted}{'' if model and own else ' shows those that can'}"
    )
