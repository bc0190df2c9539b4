"""`--verify`: the origin's own network and ours on the same images."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from convert import engine, verification
from convert.references import build_reference
from convert.rules import RULES
from convert.torch_files import torch_state
from convert.verification import find_images
from flaxmobile import InputError, create_model
from tests.convert.commands import convert, error_of, save
from tests.networks import random_variables


@pytest.fixture(scope="module")
def state():
    """Every layer has a say in the logits."""
    rule = RULES["torchvision", "shufflenet_v2"]
    model = create_model("shufflenet_v2", alpha=0.5, num_classes=12, padding="symmetric")
    return torch_state(engine.from_flax(rule, model, random_variables(model)))


@pytest.fixture
def weights(state, tmp_path):
    # wrapped, and without counters, as older files are
    names = [name for name in state if "num_batches" not in name]
    return save({f"module.{name}": state[name] for name in names}, tmp_path / "w.pth")


@pytest.fixture
def images(tmp_path):
    """Two images and a text."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in {"a.png": (250, 260, 3), "b.JPG": (300, 240, 3)}.items():
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / name)
    (folder / "labels.txt").write_text("a b")
    return folder


def verify(weights, output, *paths):
    flags = [word for path in paths for word in ("--verify", str(path))]
    return convert(weights, output, *flags, model="shufflenet_v2")


def test_agreement_is_printed_and_recorded(tmp_path, capsys, weights, images):
    assert verify(weights, tmp_path / "flax", images, images / "a.png") == 0
    out = capsys.readouterr().out
    assert "of the largest, on 3 image(s); the top-5 classes agree\n" in out
    found = json.loads((tmp_path / "flax" / "model.json").read_text())["source"]["verification"]
    assert found["images"] == 3
    assert 0 < found["relative"] < 1e-4
    assert found["difference"] > 0
    assert found["top5"] is True


def test_networks_that_do_not_agree_are_not_written(tmp_path, capsys, monkeypatch, weights, images):
    def with_other_padding(*args):
        network = build_reference(*args)
        network.maxpool.padding = 0
        network.maxpool.ceil_mode = True
        return network

    monkeypatch.setattr(verification, "build_reference", with_other_padding)
    err = error_of(capsys, verify(weights, tmp_path / "flax", images))
    assert "torchvision's shufflenet_v2 and ours do not agree: logits differ by at most" in err
    assert not (tmp_path / "flax").exists()


def test_without_the_library_nothing_is_written(tmp_path, capsys, monkeypatch, weights, images):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    err = error_of(capsys, verify(weights, tmp_path / "flax", images))
    assert "torchvision is not installed: pip install 'flaxmobile[torch]'" in err
    assert not (tmp_path / "flax").exists()


@pytest.mark.parametrize("path", ["nowhere.png", "empty", "images/labels.txt"])
def test_what_is_no_image_is_named(tmp_path, capsys, weights, images, path):
    (tmp_path / "empty").mkdir()
    err = error_of(capsys, verify(weights, tmp_path / "flax", tmp_path / path))
    assert str(tmp_path / path) in err
    assert not (tmp_path / "flax").exists()


def test_images_of_a_directory_are_found_whatever_the_case(images):
    assert [path.name for path in find_images([images])] == ["a.png", "b.JPG"]
    with pytest.raises(InputError, match="nor a directory with images"):
        find_images([images / "c.png"])
