"""Strict conversion of reference weights to Flax and back: `python -m convert`."""
