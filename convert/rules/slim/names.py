"""Names of TF-slim's units: a convolution's scope, and its normalization in it."""

from functools import partial

from convert.rules.units import unit

layer = partial(unit, conv="", norm="/BatchNorm")
"""A convolution with the normalization that TF-slim makes inside its scope."""
