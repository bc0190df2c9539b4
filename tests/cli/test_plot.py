"""The picture, by its pixels."""

import numpy as np
import pytest
from PIL import Image

from flaxmobile.cli.plot import plot_predictions

BEST, TRACK = (47, 111, 159), (232, 236, 240)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (60, 40), (10, 200, 30)).save(path)
    return path


def _plot(tmp_path, photos, bars):
    plot_predictions(tmp_path / "plot.png", photos, bars)
    return np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)


def _columns(pixels, colour):
    return np.flatnonzero((np.abs(pixels - colour).max(-1) <= 2).any(0))


def test_bars_are_as_long_as_the_probabilities(tmp_path, photo):
    pixels = _plot(tmp_path, [photo], [[("rose", 0.6), ("daisy", 0.4)]])
    best, track = _columns(pixels, BEST), _columns(pixels, TRACK)
    left, right = best.min(), track.max()
    assert (best.max() - left) / (right - left) == pytest.approx(0.6, abs=0.01)


def test_names_that_the_font_lacks_are_no_complaint(tmp_path, photo):
    named = photo.rename(photo.with_name("日本.png"))
    _plot(tmp_path, [named], [[("日", 0.6), ("daisy", 0.4)]])


def test_the_image_is_shown_left_of_the_bars_in_its_colours_and_shape(tmp_path, photo):
    pixels = _plot(tmp_path, [photo], [[("rose", 0.6)]])
    columns = _columns(pixels, (10, 200, 30))
    rows = _columns(pixels.transpose(1, 0, 2), (10, 200, 30))
    assert columns.max() < _columns(pixels, BEST).min()
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(1.5, abs=0.05)


def test_every_image_has_its_row(tmp_path, photo):
    one = _plot(tmp_path, [photo], [[("rose", 1.0)]])
    three = _plot(tmp_path, [photo] * 3, [[("rose", 1.0)]] * 3)
    assert three.shape == (3 * one.shape[0], *one.shape[1:])
    rows = (np.abs(three - BEST).max(-1) <= 2).any(1)
    assert (np.diff(rows.astype(int)) == 1).sum() == 3


def test_many_classes_make_the_picture_taller(tmp_path, photo):
    few, many = (_plot(tmp_path, [photo], [[("rose", 0.1)] * n]).shape for n in (5, 20))
    assert many[1] == few[1]
    assert many[0] > 3 * few[0]


@pytest.mark.parametrize("name", ["$\\frac{$", "W" * 62, "a name that goes on and on " * 9])
def test_long_names_and_signs_of_mathematics_leave_the_layout_alone(tmp_path, photo, name):
    usual, odd = (_plot(tmp_path, [photo], [[(label, 0.5)]]) for label in ("rose", name))
    assert odd.shape == usual.shape
    assert (_columns(odd, TRACK) == _columns(usual, TRACK)).all()


def test_a_name_that_is_too_long_ends_before_its_probability(tmp_path, photo):
    picture = _plot(tmp_path, [photo], [[("a name that goes on and on " * 9, 0.5)]])
    track = _columns(picture, TRACK)
    text = np.flatnonzero((picture < 100).all(-1).any(0))
    text = text[text > track.min()]
    name, probability = text[text < track.max() - 55], text[text >= track.max() - 55]
    assert name.size
    assert probability.size
    assert name.max() < track.max() - 90
