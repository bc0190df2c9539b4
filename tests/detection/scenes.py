"""Boxes of a made-up image."""

import numpy as np


def random_boxes(seed, count, height=120, width=160):
    """Boxes (xmin, ymin, xmax, ymax) in pixels, of which many overlap: float32 [count, 4]."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.6, (count, 2)) * (width, height)
    sides = rng.uniform(0.1, 0.4, (count, 2)) * (width, height)
    return np.concatenate([low, low + sides], 1).astype(np.float32)
