"""Names of torchvision's building blocks."""

from collections.abc import Iterator


def conv_norm(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Its `Conv2dNormActivation`: a Sequential of convolution and normalization."""
    yield f"{ours}/conv", f"{theirs}.0"
    yield f"{ours}/norm", f"{theirs}.1"


def basic_conv(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Its Inception networks' `BasicConv2d`."""
    yield f"{ours}/conv", f"{theirs}.conv"
    yield f"{ours}/norm", f"{theirs}.bn"
