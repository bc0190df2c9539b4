"""Channel counts under a width multiplier."""


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of `divisor`, at least `divisor`, never below 90 percent.

    Source: TF-slim's and torchvision's `make_divisible` (MobileNet V2 and later); the paper says
    only that widths are scaled.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
