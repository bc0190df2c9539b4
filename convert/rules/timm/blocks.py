"""Names of timm's building blocks."""

from collections.abc import Iterator


def conv_norm_act(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Its `ConvNormAct`."""
    yield f"{ours}/conv", f"{theirs}.conv"
    yield f"{ours}/norm", f"{theirs}.bn"
