"""A file of torchvision's LR-ASPP: to a weights directory and back, and its backbone alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import segmentation

from convert.__main__ import main
from flaxmobile import load_metadata, load_weights
from flaxmobile.segmentation import LRASPP
from tests.models.parity import randomised


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenters")
    network = segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    torch.save(randomised(network).state_dict(), folder / "net.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def convert(folder, model, *argv):
    weights = ["--weights", str(folder / "net.pth"), "--output", str(folder / model)]
    return main(["--model", model, *weights, *argv])


def test_there_is_verified_and_back_changes_no_bit(folder, capsys):
    verify = ("--verify", str(folder / "a.png"), "--image-size", "64")
    assert convert(folder, "lraspp", *verify) == 0
    out = capsys.readouterr().out
    assert "found torchvision's lraspp with 21 classes" in out
    assert "logits differ by at most" in out
    model, _ = load_weights(folder / "lraspp")
    assert isinstance(model, LRASPP)
    assert model.backbone.dilated
    assert load_metadata(folder / "lraspp").class_names[12] == "dog"
    back = ["--weights", str(folder / "lraspp"), "--output", str(folder / "back.pth")]
    assert main(["--to-torch", *back]) == 0
    expected, found = (torch.load(folder / name) for name in ("net.pth", "back.pth"))
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_its_backbone_is_a_mobilenet(folder):
    assert convert(folder, "mobilenet_v3_large", "--no-classifier") == 0


def test_without_its_gate_it_is_refused(folder, capsys):
    state = torch.load(folder / "net.pth")
    del state["classifier.scale.1.weight"]
    torch.save(state, folder / "cut.pth")
    argv = ["--weights", str(folder / "cut.pth"), "--output", str(folder / "cut")]
    assert main(["--model", "lraspp", *argv]) == 1
    assert "classifier.scale.1.weight is missing" in capsys.readouterr().err
    assert not (folder / "cut").exists()
