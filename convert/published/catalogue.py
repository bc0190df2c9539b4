"""All published weights that can be fetched by name: the files that the rules know."""

from typing import NamedTuple

from convert.rule import Published
from convert.rules import RULES
from flaxmobile.errors import InputError, nearest

PUBLISHERS = ("torchvision", "timm", "keras", "mediapipe")


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
    if published.name.partition(":")[0] in PUBLISHERS and (published.url or published.repository)
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
    """Find weights by the name of their network, or by their own without that of the network."""
    publisher, _, part = name.partition(":")
    prefix, width = f"{publisher}:", 1.0 if alpha is None else alpha
    entries = {
        known.removeprefix(prefix): entry
        for known, entry in CATALOGUE.items()
        if known.startswith(prefix)
    }
    for known, entry in entries.items():
        network, _, weights = known.partition("_" if publisher == "keras" else ".")
        if part == network:
            return entry
        if part == weights and (entry.model, entry.published.alpha) == (model, width):
            return entry
    own = [known for known, entry in entries.items() if model in (None, entry.model)]
    accepted = f"accepted: {', '.join(own)}; " if model and own else ""
    raise InputError(
        f"{publisher} publishes no weights {part!r}{f' of {model}' if model else ''} that are read "
        f"here{nearest(part, own)}; {accepted}`flaxmobile list --pretrained` shows all"
    )
