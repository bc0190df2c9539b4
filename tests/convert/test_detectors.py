"""A file of torchvision's SSDLite: to a weights directory, verified, and back."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from convert import verification
from convert.__main__ import main
from flaxmobile import create_detector, load_metadata, load_weights, save_weights
from flaxmobile.detection import SSDLite
from flaxmobile.tasks import options_of
from tests.models.parity import randomised
from tests.networks import abstract
from tests.networks import randomised as drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors")
    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    torch.save(randomised(network).state_dict(), folder / "net.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def convert(folder, output):
    argv = ["--weights", str(folder / "net.pth"), "--output", str(folder / output)]
    verify = ["--verify", str(folder / "a.png"), "--image-size", "64"]
    return main(["--model", "ssdlite", *argv, *verify])


def test_logits_and_offsets_are_verified_and_back_changes_no_bit(folder, capsys):
    assert convert(folder, "flax") == 0
    out = capsys.readouterr().out
    assert "found torchvision's ssdlite with 91 classes" in out
    assert "logits and offsets differ by at most" in out
    source = json.loads((folder / "flax" / "model.json").read_text())["source"]
    assert 0 < source["verification"]["relative"] < verification.TOLERANCE
    assert source["verification"]["places"] == "boxes"
    model, _ = load_weights(folder / "flax")
    assert isinstance(model, SSDLite)
    assert load_metadata(folder / "flax").class_names[18] == "dog"
    back = ["--weights", str(folder / "flax"), "--output", str(folder / "back.pth")]
    assert main(["--to-torch", *back]) == 0
    expected, found = (torch.load(folder / name) for name in ("net.pth", "back.pth"))
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_other_offsets_do_not_agree(folder, capsys, monkeypatch):
    """Though they are few among the logits, and small."""

    def wider(model, maps, images, train, head=SSDLite.head):
        answer = head(model, maps, images, train)
        return {**answer, "offsets": answer["offsets"] * 1.01}

    monkeypatch.setattr(SSDLite, "head", wider)
    assert convert(folder, "other") == 1
    assert "torchvision's ssdlite and flaxmobile's do not agree" in capsys.readouterr().err
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("backbone", "options", "message"),
    [
        ("v2", {"alpha": 0.35}, "backbone is 'mobilenet_v2', accepted: 'mobilenet_v3_large'"),
        ("v3", {"head_variant": "paper"}, "head_variant is 'paper', accepted: 'torchvision'"),
    ],
)
def test_torchvision_has_no_other_detector(tmp_path, capsys, backbone, options, message):
    model = create_detector("ssdlite", backbone, num_classes=5, **options)
    save_weights(tmp_path / "w", "ssdlite", options_of(model), drawn(abstract(model)))
    argv = ["--weights", str(tmp_path / "w"), "--output", str(tmp_path / "w.pth")]
    assert main(["--to-torch", *argv]) == 1
    assert message in capsys.readouterr().err
