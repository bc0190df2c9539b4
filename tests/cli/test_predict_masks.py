"""`flaxmobile predict` with the weights of a segmenter."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from flaxmobile import InputError, Metadata, Preprocessing, cli, create_segmenter, save_weights
from flaxmobile.cli.plot import Overlay, plot_predictions
from flaxmobile.images import open_image
from flaxmobile.prediction import segment_images
from tests.networks import random_variables

NAMES = ("background", "cat", "dog")
PREPROCESSING = Preprocessing(48, 48)


@pytest.fixture(scope="module")
def segmenter():
    """A small segmenter and random variables, with which images have two of the classes."""
    model = create_segmenter("lraspp", "v2", alpha=0.35, num_classes=3)
    return model, random_variables(model)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, segmenter):
    folder = tmp_path_factory.mktemp("masks")
    options = {"backbone": "v2", "alpha": 0.35, "num_classes": 3}
    save_weights(folder / "w", "lraspp", options, segmenter[1], Metadata(PREPROCESSING, NAMES))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    image = Image.fromarray(pixels).resize((144, 96), Image.Resampling.NEAREST)
    image.save(folder / "scene.png")
    image.resize((1700, 100)).save(folder / "long.png")
    return folder


@pytest.fixture(scope="module")
def mask(folder, segmenter):
    model, variables = segmenter
    (mask,) = segment_images(model, variables, [folder / "scene.png"], PREPROCESSING)
    return mask


def test_mask_has_the_images_size_and_the_networks_classes(folder, segmenter, mask):
    model, variables = segmenter
    assert mask.shape == (96, 144)
    small = open_image(folder / "scene.png").resize((72, 48), Image.Resampling.BILINEAR)
    x = PREPROCESSING.normalize(np.asarray(small))[None]
    classes = np.asarray(jax.jit(model.apply)(variables, x))[0].argmax(-1)
    assert len(np.unique(classes)) > 1
    assert (mask[1::2, 1::2] == classes).mean() > 0.999


def predict(folder, *argv):
    return cli.main(["predict", str(folder / "scene.png"), "--weights", str(folder / "w"), *argv])


def test_json_has_the_share_of_each_class(folder, mask, capsys):
    assert predict(folder, "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {(each["index"], each["class"]): each["share"] for each in found["predictions"]} == {
        (index, NAMES[index]): (mask == index).mean() for index in np.unique(mask)
    }
    assert sum(each["share"] for each in found["predictions"]) == pytest.approx(1)


def test_table_and_plot_are_made(folder, tmp_path, capsys):
    assert predict(folder, "--plot", str(tmp_path / "a.png")) == 0
    assert "share" in capsys.readouterr().out
    assert open_image(tmp_path / "a.png").width > 500


def test_plot_tints_the_pixels_of_a_class(tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / "white.png")
    mask = np.zeros((30, 40), np.int32)
    mask[:, 20:] = 2
    bars = [[("background", 0.5), ("dog", 0.5)]]
    tint = 0.6 * np.array([174, 199, 232]) + 0.4 * 255  # the second colour of tab20

    def tinted(overlays):
        plot_predictions(tmp_path / "a.png", [tmp_path / "white.png"], bars, ".1%", overlays)
        pixels = np.asarray(open_image(tmp_path / "a.png"), np.float64)
        return (np.abs(pixels - tint).max(-1) < 2).sum()

    assert tinted([]) == 0
    assert tinted([Overlay.of(mask, [0, 2])]) > 1000


def test_too_long_an_image_is_refused_in_one_line(folder, segmenter):
    with pytest.raises(InputError, match="has 1700×100 pixels; accepted: up to 16 times"):
        list(segment_images(*segmenter, [folder / "long.png"], PREPROCESSING))
