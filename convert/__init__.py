"""Reference weights to Flax and back, strictly: `python -m convert`."""
