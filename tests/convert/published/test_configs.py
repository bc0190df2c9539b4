"""config.json of repositories, in other formats than those that `push` and timm write."""

import json

import pytest

from convert.published.configs import read_config
from flaxmobile import InputError

CONFIG = {
    "model_type": "mobilenet_v2",
    "image_size": 160,
    "depth_multiplier": 0.35,
    "tf_padding": True,
    "layer_norm_eps": 0.001,
    "id2label": {"0": "background", "1": "tench, Tinca tinca"},
}


def read(tmp_path, **changes):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return read_config(tmp_path / "config.json", "hf:google/mobilenet_v2_0.35_160")


def test_transformers_configuration_says_network_images_and_classes(tmp_path):
    found = read(tmp_path)
    assert (found.origin, found.model) == ("transformers", "mobilenet_v2")
    assert found.said.preprocessing == {"image_size": 160, "resize_size": 192}
    assert found.said.class_names == ("background", "tench, Tinca tinca")
    assert read(tmp_path, id2label={"0": "LABEL_0", "1": "LABEL_1"}).said.class_names is None


@pytest.mark.parametrize("change", [{"tf_padding": False}, {"output_stride": 8}])
def test_another_network_of_transformers_is_refused(tmp_path, change):
    with pytest.raises(InputError, match=r"mobilenet_v2_0.35_160 holds mobilenet_v2 with \{"):
        read(tmp_path, **change)
