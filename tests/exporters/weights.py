"""Facts about weights for tests of exported files."""

from flaxmobile import Metadata, Preprocessing

NAMES = ("daisy", "dandelion", "rose", "sunflower", "tulip")
PREPROCESSING = Preprocessing(
    48, 60, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), interpolation="bicubic", channel_order="BGR"
)
METADATA = Metadata(PREPROCESSING, NAMES, {"origin": "test", "licence": "CC0"}, "softmax")
"""All of it is other than the defaults."""
