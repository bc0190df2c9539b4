"""The table of Keras's published files, from its constants and what it asks for."""

import re
from pathlib import Path
from urllib.parse import urlparse

import keras
import pytest
from keras.src.applications import (
    inception_resnet_v2,
    inception_v3,
    mobilenet,
    mobilenet_v2,
    mobilenet_v3,
    xception,
)

from convert.published.catalogue import CATALOGUE, PUBLISHERS, find_entry
from tests.convert.keras_models import drawing_nothing

KERAS = [entry.published for name, entry in CATALOGUE.items() if name.startswith("keras:")]


def of_folder(folder):
    return [each for each in KERAS if f"/{folder}/" in each.url]


def test_every_publisher_has_weights():
    assert {name.partition(":")[0] for name in CATALOGUE} == set(PUBLISHERS)


def test_all_files_of_keras_v3_are_known_with_their_digest_and_top1():
    hashes = {f"weights_mobilenet_v3_{name}.h5": md5 for name, (md5, _) in HASHES.items()}
    found = {Path(each.url).name: each.md5 for each in of_folder("mobilenet_v3")}
    assert found == hashes
    assert all(
        each.url.startswith(mobilenet_v3.BASE_WEIGHT_PATH) for each in of_folder("mobilenet_v3")
    )
    rows = re.findall(r"\| mobilenet_v3_(\w+)_([\d.]+)_224 +\|.*?\|.*?\| +([\d.]+) ", DOCUMENTED)
    documented = {(kind, float(alpha)): float(top1) for kind, alpha, top1 in rows}
    listed = {
        (each.url.partition("mobilenet_v3_")[2].partition("_224")[0], each.alpha): each.top1
        for each in of_folder("mobilenet_v3")
    }
    assert listed == documented


HASHES, DOCUMENTED = mobilenet_v3.WEIGHTS_HASHES, mobilenet_v3.BASE_DOCSTRING


@pytest.mark.parametrize("module", [xception, inception_v3, inception_resnet_v2])
def test_a_file_of_keras_of_one_width_is_known_with_its_digest(module):
    source = Path(module.__file__).read_text()
    folder = module.__name__.rpartition(".")[2]
    (published,) = of_folder(folder)
    assert Path(published.url).name in source
    assert f'"{published.md5}"' in source
    assert getattr(module, "WEIGHTS_PATH", published.url) == published.url


@pytest.mark.parametrize(
    ("network", "alpha", "size", "module"),
    [("MobileNet", 0.25, 128, mobilenet), ("MobileNetV2", 0.35, 96, mobilenet_v2)],
)
def test_keras_asks_for_the_file_that_is_listed(monkeypatch, network, alpha, size, module):
    asked = []

    def get_file(name, url, **_):
        asked.append(url)
        raise InterruptedError

    monkeypatch.setattr(module.file_utils, "get_file", get_file)
    with drawing_nothing(), pytest.raises(InterruptedError):
        getattr(keras.applications, network)(input_shape=(size, size, 3), alpha=alpha)
    assert asked == [CATALOGUE[f"keras:{network}_{alpha}_{size}"].published.url]


def test_all_widths_and_sizes_of_keras_are_known():
    for module, most in ((mobilenet, 1.0), (mobilenet_v2, 1.0)):
        source, known = (
            Path(module.__file__).read_text(),
            of_folder(module.__name__.rpartition(".")[2]),
        )
        (alphas,) = re.findall(r"if alpha not in \[([\d., ]+)\]", source)
        (sizes,) = set(re.findall(r"rows not in \[([\d, ]+)\]", source))
        expected = {
            (alpha, size)
            for alpha in map(float, alphas.split(","))
            for size in map(int, sizes.split(","))
            if alpha <= most or size == 224  # TF-slim, which trained them, has no others
        }
        assert {(each.alpha, each.preprocessing.image_size) for each in known} == expected


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("keras:MobileNetV2", "keras:MobileNetV2_1.0_224"),
        ("keras:MobileNetV3Small", "keras:MobileNetV3Small_1.0"),
        ("keras:Xception", "keras:Xception"),
    ],
)
def test_a_network_of_keras_alone_means_its_default(name, found):
    assert find_entry(name).published.name == found
    assert urlparse(CATALOGUE[found].published.url).scheme == "https"
