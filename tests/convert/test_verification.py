"""`--verify`: the origin's own network and ours on the same images."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from convert import engine, verification
from convert.formats.torch import torch_state
from convert.references import build_reference
from convert.rules import RULES
from convert.verification import find_images
from flaxmobile import InputError, create_model
from flaxmobile.registry import options_of
from tests.convert.commands import convert, error_of, save
from tests.convert.keras_models import FORMATS, drawing_nothing, random_model
from tests.convert.keras_models import save as keras_save
from tests.networks import random_variables


@pytest.fixture(scope="module")
def state():
    """Every layer has a say in the logits."""
    rule = RULES["torchvision", "shufflenet_v2"]
    model = create_model("shufflenet_v2", alpha=0.5, num_classes=12, padding="symmetric")
    return torch_state(engine.from_flax(rule, model, random_variables(model)))


@pytest.fixture
def weights(state, tmp_path, monkeypatch):
    """As a port's older files are: wrapped, without counters, one kernel without its window."""
    rule = RULES["torchvision", "shufflenet_v2"]

    def ported(model):
        return ((ours, theirs.replace("fc", "last_linear")) for ours, theirs in rule.modules(model))

    monkeypatch.setitem(
        RULES, ("torchvision", "shufflenet_v2"), rule._replace(other_names=(ported,))
    )
    old = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    old["conv5.0.weight"] = old["conv5.0.weight"][..., 0, 0]
    named = {f"module.{name.replace('fc', 'last_linear')}": old[name] for name in old}
    return save(named, tmp_path / "w.pth")


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
    flags = ["--image-size", "64"]
    flags += [word for path in paths for word in ("--verify", str(path))]
    return convert(weights, output, *flags, model="shufflenet_v2")


def test_agreement_is_printed_and_recorded(tmp_path, capsys, weights, images):
    assert verify(weights, tmp_path / "flax", images, images / "a.png") == 0
    out = capsys.readouterr().out
    assert "of the largest, on 3 image(s), at an odd and a non-square size too; the top-5" in out
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
    assert (
        "torchvision's shufflenet_v2 and flaxmobile's do not agree: logits differ by at most" in err
    )
    assert not (tmp_path / "flax").exists()


def test_without_the_library_nothing_is_written(tmp_path, capsys, monkeypatch, weights, images):
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    err = error_of(capsys, verify(weights, tmp_path / "flax", images))
    assert "torchvision is not installed: pip install -e '" in err
    assert "[torch]'" in err
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


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory):
    """One network of Keras's in every format."""
    network = random_model("mobilenet_v1", 32, alpha=0.1, num_classes=12)
    folder = tmp_path_factory.mktemp("keras")
    return {form: keras_save(network, folder, form) for form in FORMATS}


def test_keras_runs_its_own_network(tmp_path, capsys, images, keras_files):
    path = keras_files["keras"]
    flags = ["--image-size", "64", "--verify", str(images / "a.png")]
    assert convert(path, tmp_path / "flax", *flags, model="v1") == 0
    assert (
        "of the largest, on 1 image(s), at an odd and a non-square size too; the top-5"
        in capsys.readouterr().out
    )
    found = json.loads((tmp_path / "flax" / "model.json").read_text())["source"]["verification"]
    assert found["images"] == 1
    assert 0 < found["relative"] < 1e-4
    assert found["top5"] is True


def test_networks_that_differ_at_odd_sizes_do_not_agree(tmp_path, capsys, images, keras_files):
    flags = ["--image-size", "64", "--verify", str(images / "a.png"), "--options"]
    status = convert(keras_files["keras"], tmp_path / "flax", *flags, "odd_sizes=ceil", model="v1")
    assert "keras's mobilenet_v1 and flaxmobile's do not agree" in error_of(capsys, status)
    assert not (tmp_path / "flax").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_keras_takes_its_files_in_every_format(keras_files, form):
    rule = RULES["keras", "mobilenet_v1"]
    model = create_model("mobilenet_v1", alpha=0.1, num_classes=12, **rule.options)
    with drawing_nothing():
        network = build_reference("keras", "mobilenet_v1", options_of(model))
    apply = verification.keras_logits(lambda size: network, keras_files[form])
    apply(np.zeros((1, 224, 224, 3), np.float32))
    expected = random_model("mobilenet_v1", 32, alpha=0.1, num_classes=12)
    for found, saved in zip(network.weights, expected.weights, strict=True):
        assert np.array_equal(found.value, saved.value)


def test_a_file_that_keras_does_not_take_is_one_line(keras_files):
    rule = RULES["keras", "mobilenet_v1"]
    model = create_model("mobilenet_v1", alpha=0.25, num_classes=12, **rule.options)
    path = keras_files["weights.h5"]
    with drawing_nothing(), pytest.raises(InputError) as caught:
        apply = verification.build_origin("keras", "mobilenet_v1", model, path, {})
        apply(np.zeros((1, 32, 32, 3), np.float32))
    assert str(caught.value).startswith(f"Keras's own network does not take {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("origin", "name", "options", "message"),
    [
        ("authors", "shufflenet_v1", {}, "no library has the networks of authors"),
        ("authors", "blazeface", {"detector": True}, "which this network does not give"),
        ("mediapipe", "blazeface", {"detector": True}, "which this network does not give"),
        ("torchvision", "xception", {}, "torchvision has no xception"),
    ],
)
def test_an_origin_that_cannot_be_run_is_said(tmp_path, origin, name, options, message):
    model = create_model(name, **options)
    with pytest.raises(InputError, match=message):
        verification.build_origin(origin, name, model, tmp_path / "w", {})


@pytest.mark.parametrize(
    ("share", "places", "text"),
    [
        (1.0, "pixels", "classes agree, which"),
        (0.99994, "pixels", "classes agree in 99.994% of the pixels, which"),
        (0.0, "images", "classes do not agree, which"),
    ],
)
def test_rounding_may_swap_classes_of_a_few_pixels(share, places, text):
    agreement = verification.Agreement(1, 1e-4, 1e-6, share == 1, share, places)
    assert text in str(agreement)
