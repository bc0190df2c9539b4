"""Channel counts under a width multiplier."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, at least `divisor`, never below 90 percent.

    Source: TF-slim's and torchvision's `make_divisible` (MobileNet V2 and later); the paper says
    only that widths are scaled.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def thin_channels(channels: float, alpha: float) -> int:
    """Scale a width and round down, at least to 16.

    Source: `depth` in TF-slim's Inception networks; the papers have no width multiplier.
    """
    return max(int(channels * alpha), 16)
