"""Rules: each origin's names of its tensors, one package per origin, one module per network."""

from convert.rule import Rule
from convert.rules import (
    authors,
    fid,
    keras,
    mediapipe,
    ports,
    slim,
    timm,
    torchvision,
    transformers,
)

ORIGINS = {
    "torchvision": torchvision.RULES,
    "timm": timm.RULES,
    "timm-tf": timm.TF_RULES,
    "authors": authors.RULES,
    "fid": fid.RULES,
    "transformers": transformers.RULES,
    "ports": ports.RULES,
    "slim": slim.RULES,
    "mediapipe": mediapipe.RULES,
    "keras": keras.RULES,
}

RULES: dict[tuple[str, str], Rule] = {
    (origin, name): rule for origin, rules in ORIGINS.items() for name, rule in rules.items()
}
"""(origin, registered name of the network) -> how that origin stores it."""
