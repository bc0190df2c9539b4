"""Published weights by name, from the libraries' own loading code and files that they saved."""

import dataclasses
import hashlib
import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import _hub
from torchvision.models import _api, shufflenet_v2_x0_5

from flaxmobile import load_metadata, load_weights
from tests.convert.commands import convert, convert_back, error_of, save

SMALL = "timm:mobilenetv3_small_050.lamb_in1k"


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))


def publish(state, tmp_path, name):
    """Put a file where the libraries' download functions find it; its name has its hash."""
    path = save(state, tmp_path / "draft.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(tmp_path / f"{name}-{digest}.pth")


def give_address(monkeypatch, path):
    monkeypatch.setattr(_api.WeightsEnum, "url", property(lambda self: path.as_uri()))


def written(tmp_path):
    return {path.name for path in tmp_path.iterdir()} - {"cache"}


def test_torchvision_fetches_and_the_preset_and_names_come_along(tmp_path, monkeypatch, capsys):
    state = shufflenet_v2_x0_5().state_dict()
    path = publish(state, tmp_path, "shufflenetv2_x0.5")
    give_address(monkeypatch, path)
    flags = ["--alpha", "0.5"]
    output = tmp_path / "flax"
    assert convert("torchvision:IMAGENET1K_V1", output, *flags, model="shufflenet_v2") == 0
    assert "published as IMAGENET1K_V1" in capsys.readouterr().out
    metadata = load_metadata(output)
    assert metadata.source["file"] == path.name
    assert metadata.source["url"] == path.as_uri()
    assert metadata.class_names[285] == "Egyptian cat"
    assert metadata.preprocessing.resize_size == 256
    path.unlink()  # from now on it is in torch's cache
    again = tmp_path / "again"
    assert convert("torchvision:IMAGENET1K_V1", again, *flags, model="shufflenet_v2") == 0
    assert convert_back(again, tmp_path / "back.pth") == 0
    found = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("damage", ["missing", "other content"])
def test_a_file_that_torchvision_cannot_fetch_is_one_line(tmp_path, monkeypatch, capsys, damage):
    path = publish({"a": torch.zeros(3)}, tmp_path, "mobilenet_v2")
    give_address(monkeypatch, path)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"more")
    before = written(tmp_path)
    status = convert("torchvision:IMAGENET1K_V2", tmp_path / "flax")
    assert f"{path.as_uri()} cannot be fetched: " in error_of(capsys, status)
    assert written(tmp_path) == before


def small_state():
    return timm.create_model("mobilenetv3_small_050").state_dict()


def test_timm_fetches_from_its_hub(tmp_path, monkeypatch):
    save_file(small_state(), tmp_path / "model.safetensors")
    asked = []

    def download(repository, filename, **options):
        asked.append(repository)
        return str(tmp_path / filename)

    monkeypatch.setattr(_hub, "hf_hub_download", download)
    assert convert(SMALL, tmp_path / "flax", model="v3-small") == 0
    assert asked == ["timm/mobilenetv3_small_050.lamb_in1k"]
    metadata, config = load_metadata(tmp_path / "flax"), timm.get_pretrained_cfg(SMALL[5:])
    assert metadata.source["weights"] == SMALL[5:]
    assert metadata.source["url"].endswith(asked[0])
    assert metadata.source["licence"] == config.license
    assert (metadata.preprocessing.mean, metadata.preprocessing.interpolation) == (
        config.mean,
        config.interpolation,
    )
    assert metadata.class_names[285] == "Egyptian cat"
    model, _ = load_weights(tmp_path / "flax")
    assert (model.alpha, model.padding) == (0.5, "symmetric")


def test_timm_fetches_from_an_address_and_checks_the_hash(tmp_path, monkeypatch, capsys):
    path = publish(small_state(), tmp_path, "mobilenetv3_small_050_lambc")
    config = dataclasses.replace(
        timm.get_pretrained_cfg(SMALL[5:]), hf_hub_id=None, url=path.as_uri()
    )
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: config)
    assert convert(SMALL, tmp_path / "flax", model="v3-small") == 0
    assert load_metadata(tmp_path / "flax").source["url"] == path.as_uri()
    shutil.rmtree(tmp_path / "cache")
    path.write_bytes(path.read_bytes() + b"more")
    capsys.readouterr()
    err = error_of(capsys, convert(SMALL, tmp_path / "flax2", model="v3-small"))
    assert "invalid hash value" in err
    assert not (tmp_path / "flax2").exists()


def test_a_port_of_tensorflows_is_known_by_its_name(tmp_path, monkeypatch):
    """It has the same names as timm's own, but other padding and normalization."""
    state = timm.create_model("tf_mobilenetv3_small_minimal_100").state_dict()
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr(_hub, "hf_hub_download", lambda _, name, **options: str(tmp_path / name))
    weights = "timm:tf_mobilenetv3_small_minimal_100.in1k"
    assert convert(weights, tmp_path / "flax", model="v3-small") == 0
    model, _ = load_weights(tmp_path / "flax")
    assert (model.minimalistic, model.padding, model.norm_epsilon) == (True, "same", 1e-3)


def test_without_network_timms_hub_is_one_line(tmp_path, monkeypatch, capsys):
    def fail(*args, **options):
        raise OSError("we cannot find the requested files\nand much more")

    monkeypatch.setattr(_hub, "hf_hub_download", fail)
    err = error_of(capsys, convert(SMALL, tmp_path / "flax", model="v3-small"))
    assert "cannot be fetched: we cannot find the requested files\n" in err
    assert written(tmp_path) == set()


@pytest.mark.parametrize(
    ("weights", "model", "flags", "message"),
    [
        ("torchvision:IMAGENET1K_V3", "v2", [], "did you mean 'IMAGENET1K_V2'"),
        ("torchvision:IMAGENET1K_V1", "v2", ["--alpha", "1.4"], "accepted: 1.0"),
        ("torchvision:IMAGENET1K_V1", "xception", [], "no weights of xception"),
        ("timm:mobilenetv3_small_050.lamb", "v3-small", [], "did you mean 'mobilenetv3_small_050"),
        ("timm:mobilenetv3_small_050.lamb_in1k", "v2", [], "accepted: mobilenetv2_050.lamb_in1k"),
        ("timm:a", "mnasnet", [], "timm publishes no weights of mnasnet; accepted: mobilenet_v1"),
        ("keras:imagenet", "v2", [], "keras:imagenet cannot be read"),
    ],
)
def test_what_is_not_published_is_refused(tmp_path, capsys, weights, model, flags, message):
    status = convert(weights, tmp_path / "flax", *flags, model=model)
    assert message in error_of(capsys, status)
    assert written(tmp_path) == set()
