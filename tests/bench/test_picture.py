import numpy as np

from flaxmobile.bench.picture import Point, draw

POINTS = [
    Point("small", "flaxmobile", 1, 40_000_000, 0.8),
    Point("small", "torch", 1, 40_000_000, 3.0),
    Point("large", "flaxmobile", 1, 300_000_000, 2.5),
    Point("large", "flaxmobile", 32, 300_000_000, 2.0),
]


def test_peers_are_in_the_picture_and_ticks_are_plain_numbers():
    figure = draw(POINTS)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["flaxmobile, batch 1", "flaxmobile, batch 32", "torch, batch 1"]
    drawn = [tuple(point) for each in axes.collections for point in each.get_offsets()]
    expected = [(p.macs / 1e6, p.milliseconds) for p in POINTS]
    np.testing.assert_allclose(sorted(drawn), sorted(expected))
    colours = [tuple(each.get_facecolor()[0]) for each in axes.collections]
    assert colours[0] == colours[1] != colours[2]
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    ticks = [text.get_text() for text in axes.get_yticklabels()]
    assert [t for t in ticks if low <= float(t) <= high] == ["1", "2"]
    assert [text.get_text() for text in axes.texts] == ["small", "large"]
