"""Published weights by name, from files that torchvision, timm and Keras wrote."""

import errno
import hashlib
import json
import sys
import threading
from types import SimpleNamespace

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from timm.models import adapt_input_conv, save_for_hf
from torchvision.models import quantization, shufflenet_v2_x0_5

from convert.__main__ import main as convert
from convert.published.catalogue import CATALOGUE
from convert.published.hub import Repository, fetch_weights
from convert.published.loading import open_any_weights
from flaxmobile import InputError, cli, load_metadata, load_pretrained, load_weights
from tests.convert.full_range import encode, random_network
from tests.convert.keras_models import random_model, save
from tests.convert.quantized_networks import CLASSES, calibrated
from train.flags import read_config
from train.setup import prepare

TORCHVISION = "torchvision:shufflenet_v2_x0_5.IMAGENET1K_V1"
QUANTIZED = "torchvision:quantized_shufflenet_v2_x0_5.IMAGENET1K_FBGEMM_V1"
TIMM = "timm:mobilenetv3_small_050.lamb_in1k"
KERAS = "keras:MobileNet_0.25_128"
MEDIAPIPE = "mediapipe:face_detection_full_range_sparse"
HUB = "hf:someone/flowers"
FLOWERS = ["daisy", "rose", "tulip"]


@pytest.fixture(scope="module")
def shufflenet():
    torch.manual_seed(0)
    return shufflenet_v2_x0_5().state_dict()


@pytest.fixture(scope="module")
def quantized_network():
    return calibrated(quantization.shufflenet_v2_x0_5)


@pytest.fixture(scope="module")
def files(tmp_path_factory, shufflenet, quantized_network):
    """What torchvision, Keras and MediaPipe publish at an address."""
    folder = tmp_path_factory.mktemp("files")
    torch.save(shufflenet, folder / "shufflenet.pth")
    torch.save(quantized_network.state_dict(), folder / "quantized.pth")
    keras = save(random_model("mobilenet_v1", 32, alpha=0.25), folder, "weights.h5")
    (folder / "faces.tflite").write_bytes(encode(random_network(sparse=True)))
    return {
        TORCHVISION: folder / "shufflenet.pth",
        QUANTIZED: folder / "quantized.pth",
        KERAS: keras,
        MEDIAPIPE: folder / "faces.tflite",
    }


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """timm's own files: of published weights, and of a network that was trained on flowers."""
    folder, made = tmp_path_factory.mktemp("hub"), {}
    facts = {"label_names": FLOWERS, "pretrained_cfg": {"mean": (0.1, 0.2, 0.3), "crop_pct": 0.5}}
    for name, classes, config in (
        ("timm/mobilenetv3_small_050.lamb_in1k", 1000, {}),
        ("someone/flowers", 3, facts),
    ):
        torch.manual_seed(classes)
        network = timm.create_model("mobilenetv3_small_050", num_classes=classes)
        save_for_hf(network, folder / name[-7:], model_config=config, safe_serialization=True)
        made[name] = {path.name: path.read_bytes() for path in (folder / name[-7:]).iterdir()}
    return made


@pytest.fixture
def published(server, hub, files, repositories, monkeypatch):
    """One name of each publisher, with the server's addresses."""
    for name, path in files.items():
        content = path.read_bytes()
        url, sha256 = server.publish(f"files/{path.name}", content)
        entry = CATALOGUE[name]
        facts = entry.published._replace(url=url)
        if name in (TORCHVISION, QUANTIZED):
            facts = facts._replace(sha256=sha256[:8])
        else:
            facts = facts._replace(md5=hashlib.md5(content).hexdigest())
        monkeypatch.setitem(CATALOGUE, name, entry._replace(published=facts))
    server.repositories.update({name: dict(files) for name, files in repositories.items()})
    return server


def leaf(variables, path):
    for key in path.split("/"):
        variables = variables[key]
    return np.asarray(variables)


def test_torchvisions_weights_and_the_cache_of_torch(published, shufflenet, caches):
    model, variables = load_pretrained("torchvision:shufflenet_v2_x0_5")
    assert (model.alpha, model.num_classes) == (0.5, 1000)
    kernel = leaf(variables, "params/classifier/kernel")
    assert np.array_equal(kernel.T, shufflenet["fc.weight"].numpy())
    assert isinstance(variables["params"]["classifier"]["kernel"], jax.Array)
    assert (caches / "TORCH_HOME" / "hub" / "checkpoints" / "shufflenet.pth").is_file()


def test_torchvisions_quantized_weights_of_a_network_that_rounds_otherwise_are_floats(
    published, quantized_network
):
    model, variables = load_pretrained("torchvision:quantized_shufflenet_v2_x0_5")
    assert (model.alpha, model.num_classes, model.quantized) == (0.5, CLASSES, False)
    kernel = leaf(variables, "params/classifier/kernel")
    assert np.array_equal(kernel.T, quantized_network.fc.weight().dequantize().numpy())


def test_kerass_weights_and_the_cache_of_keras(published, caches, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    weights = open_any_weights(KERAS)
    assert weights.model_name == "mobilenet_v1"
    assert (weights.options["alpha"], weights.options["padding"]) == (0.25, "same")
    assert weights.metadata.preprocessing.image_size == 128
    assert weights.metadata.source["weights"] == KERAS
    assert (caches / "KERAS_HOME" / "models").is_dir()


def test_mediapipes_weights_are_cached_by_name(published, caches, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    weights = open_any_weights(MEDIAPIPE)
    assert weights.options["variant"] == "mediapipe_full_range_sparse"
    assert weights.metadata.source["licence"].startswith("Apache-2.0 (mediapipe)")
    assert [path.name for path in (caches / "flaxmobile").rglob("*.tflite")] == ["faces.tflite"]
    published.http.server_close()
    assert load_pretrained(MEDIAPIPE)[0] == weights.model


def test_timms_weights_need_no_timm_and_no_torch(published, monkeypatch):
    for library in ("timm", "torch", "torchvision"):
        monkeypatch.setitem(sys.modules, library, None)
    weights = open_any_weights("timm:mobilenetv3_small_050")
    config = weights.metadata.preprocessing
    assert (config.image_size, config.resize_size, config.interpolation) == (224, 256, "bicubic")
    assert weights.metadata.class_names[285] == "Egyptian cat"
    assert weights.metadata.source["weights"] == TIMM
    assert weights.metadata.source["licence"] == "apache-2.0"
    model, variables = weights.load()
    assert (model.alpha, model.padding) == (0.5, "symmetric")
    logits = jax.eval_shape(model.apply, variables, jnp.zeros((1, 32, 32, 3)))
    assert logits.shape == (1, 1000)


def test_a_repositorys_config_is_believed(published):
    metadata = open_any_weights(f"{HUB}@v1").metadata
    assert metadata.class_names == tuple(FLOWERS)
    assert metadata.preprocessing.mean == (0.1, 0.2, 0.3)
    assert metadata.preprocessing.resize_size == 448
    assert metadata.source["weights"] == f"{HUB}@v1"


def test_offline_from_the_cache(published, monkeypatch):
    _, first = load_pretrained(HUB)
    published.http.server_close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    _, again = load_pretrained(HUB)
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))
    with pytest.raises(InputError, match=r"lamb_in1k cannot be fetched: .*offline mode is enabled"):
        load_pretrained(TIMM)


def test_offline_after_timm_has_fetched_the_weights_alone(published, monkeypatch):
    huggingface_hub.hf_hub_download(TIMM.replace(":", "/"), "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert open_any_weights(TIMM).metadata.preprocessing.interpolation == "bicubic"


def test_other_classes_get_a_new_classifier(published):
    model, variables = load_pretrained(HUB, num_classes=5)
    _, whole = load_pretrained(HUB, num_classes=3)
    assert model.num_classes == 5
    assert leaf(variables, "params/classifier/kernel").shape == (1024, 5)
    assert np.array_equal(
        leaf(variables, "params/hidden/kernel"), leaf(whole, "params/hidden/kernel")
    )
    assert np.any(leaf(variables, "params/classifier/kernel"))


def test_backbones(published):
    images = jnp.zeros((1, 64, 64, 3))
    pooled, variables = load_pretrained(HUB, num_classes=0)
    assert jax.eval_shape(pooled.apply, variables, images).shape == (1, 1024)
    backbone, variables = load_pretrained(HUB, out_strides=(4, 8), taps=("stage3_block1",))
    maps = jax.eval_shape(backbone.apply, variables, images)
    assert {name: each.shape[1] for name, each in maps.items()} == {4: 16, 8: 8, "stage3_block1": 4}
    assert "stage5_block1" not in variables["params"]


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels_adapt_the_first_kernel_as_timm_does(published, channels):
    model, variables = load_pretrained(HUB, in_channels=channels, num_classes=0)
    _, whole = load_pretrained(HUB)
    assert model.in_channels == channels
    own = torch.tensor(leaf(whole, "params/stem/conv/kernel").transpose(3, 2, 0, 1))
    expected = adapt_input_conv(channels, own).numpy().transpose(2, 3, 1, 0)
    found = leaf(variables, "params/stem/conv/kernel")
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert jax.eval_shape(model.apply, variables, jnp.zeros((1, 32, 32, channels))).shape


def test_options_over_the_published(published):
    model, _ = load_pretrained(HUB, dtype="bfloat16", output_stride=16)
    assert (model.dtype, model.output_stride) == (jnp.bfloat16, 16)


@pytest.mark.parametrize(
    ("flags", "weights"),
    [
        (["--model", "shufflenet_v2", "--alpha", "0.5"], "torchvision:IMAGENET1K_V1"),
        ([], HUB),
    ],
)
def test_convert_fetches(published, tmp_path, capsys, flags, weights):
    assert convert(["--weights", weights, *flags, "--output", str(tmp_path / "flax")]) == 0
    assert f"wrote {tmp_path / 'flax'}" in capsys.readouterr().out
    source = load_metadata(tmp_path / "flax").source
    assert source["weights"] == (HUB if weights == HUB else TORCHVISION)
    model, _ = load_weights(tmp_path / "flax")
    assert model.alpha == 0.5


def test_predict_fetches(published, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    assert cli.main(["predict", "--weights", HUB, str(tmp_path / "a.png"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {each["class"] for each in found["predictions"]} == set(FLOWERS)


def test_train_begins_from_published_weights(published):
    run = prepare(read_config(["--model", "v3-small", "--init-from", HUB]))
    assert (run.options["alpha"], run.options["num_classes"]) == (0.5, 10)
    assert run.preprocessing.mean == (0.1, 0.2, 0.3)


def nobody(server, monkeypatch):
    server.repositories.clear()
    return "hf:someone/flowers cannot be fetched: there is no such repository, or it is private"


def empty(server, monkeypatch):
    del server.repositories["someone/flowers"]["model.safetensors"]
    return "hf:someone/flowers has no weights; accepted: model.safetensors or pytorch_model.bin"


def unnamed(server, monkeypatch):
    del server.repositories["someone/flowers"]["config.json"]
    return "has no config.json that names the network; name it: python -m convert"


def other(server, monkeypatch):
    server.repositories["someone/flowers"]["config.json"] = b'{"architecture": "resnet18"}'
    return "hf:someone/flowers holds resnet18; accepted: networks of timm's"


def changed(server, monkeypatch):
    config = {"architecture": "mobilenetv3_small_050", "model_args": {"pad_type": "same"}}
    server.repositories["someone/flowers"]["config.json"] = json.dumps(config).encode()
    return "holds mobilenetv3_small_050 with {'pad_type': 'same'}; accepted: without them"


def damaged(server, monkeypatch):
    server.repositories["someone/flowers"]["config.json"] = b'{"architecture": '
    return "has a config.json that is damaged"


def wide(server, monkeypatch):
    config = {"architecture": "mobilenetv2_100", "pretrained_cfg": {"input_size": [3, 224, 320]}}
    server.repositories["someone/flowers"]["config.json"] = json.dumps(config).encode()
    return "takes images of 3×224×320; accepted: 3 channels, square"


def wrong(server, monkeypatch):
    server.wrong = True
    return "has a model.safetensors that is damaged: its SHA-256 is not the one"


def text(server, monkeypatch):
    server.repositories["someone/flowers"]["model.safetensors"] = b"no tensors"
    return "model.safetensors is damaged or not a safetensors file"


def full(server, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fail)
    return "hf:someone/flowers cannot be fetched: No space left on device"


def uninstalled(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    return r"needs huggingface_hub: pip install -e '.*\[hub\]'"


def silent(server, monkeypatch):
    server.silent = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.file_download._ETAG_RETRY_TIMEOUT", 0.1)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    return "hf:someone/flowers cannot be fetched: timed out"


FAULTS = [
    nobody, empty, unnamed, other, changed, damaged, wide, wrong, text, full, uninstalled, silent
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_repository_that_cannot_be_loaded_is_one_line(published, monkeypatch, caches, fault):
    message = fault(published, monkeypatch)
    with pytest.raises(InputError, match=message) as caught:
        load_pretrained(HUB)
    assert "\n" not in str(caught.value)
    kept = {path.name for path in caches.rglob("snapshots/*/*")}
    assert kept <= ({"config.json", "model.safetensors"} if fault is text else {"config.json"})


def test_a_hub_that_cannot_be_reached_is_tried_with_one_file(monkeypatch):
    tries = []

    def download(*_, local_files_only, **__):
        tries.append(local_files_only)
        raise LocalEntryNotFoundError(f"try {len(tries)} failed")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(InputError, match="try 1 failed"):
        fetch_weights(Repository.parse("someone/flowers"))
    assert tries == [False, True]


def test_a_broken_transfer_from_the_hub_goes_on(published, monkeypatch):
    slept = SimpleNamespace(sleep=lambda _: None, time=lambda: 0.0)
    monkeypatch.setattr("huggingface_hub.file_download.time", slept)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)
    published.cut = [100_000]
    load_pretrained(TIMM)
    ranges = [asked for _, path, asked in published.requests if path.startswith("/cdn/")]
    assert ranges == [None, f"bytes={100_000 // 2**16 * 2**16}-"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet_v2", "names no published weights; accepted: torchvision:NAME"),
        ("torchvision:mobilenet_v2.IMAGENET1K_V3", "did you mean 'mobilenet_v2.IMAGENET1K_V"),
        ("timm:resnet18", "timm publishes no weights 'resnet18' that are read here"),
        ("keras:VGG16", "keras publishes no weights 'VGG16'"),
        (
            "hf:someone/flowers@v2",
            "hf:someone/flowers@v2 cannot be fetched: it has no such revision",
        ),
        ("hf:someone", "accepted: hf:OWNER/REPOSITORY"),
        ("hf:a/b@", "accepted: hf:OWNER/REPOSITORY"),
    ],
)
def test_other_names_are_refused(published, name, message):
    with pytest.raises(InputError, match=message):
        load_pretrained(name)


def test_weights_of_another_network_are_refused(published, tmp_path, capsys):
    flags = ["--output", str(tmp_path / "flax"), "--model", "v2", "--weights"]
    for weights, model in ((HUB, "mobilenet_v3_small"), (KERAS, "mobilenet_v1")):
        assert convert([*flags, weights]) == 1
        assert f"holds {model}, not mobilenet_v2: --model {model}" in capsys.readouterr().err
    assert not (tmp_path / "flax").exists()
