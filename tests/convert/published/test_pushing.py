"""What `flaxmobile push` writes is read back, by this library and by timm."""

import json

import jax
import numpy as np
import pytest
import timm
import torch

from convert.back import convert_back
from convert.published.loading import open_any_weights, open_published
from convert.published.pushing import push, write_repository
from flaxmobile import InputError, Metadata, Preprocessing, cli, create_model, save_weights
from flaxmobile.weights import open_weights
from tests.networks import random_variables, small_model

# huggingface_hub 2.4 sends the commit in a way that httpx2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")

NAMES = ("daisy", "dandelion", "rose", "sunflower", "tulip")
PREPROCESSING = Preprocessing(96, 103, (0.1, 0.2, 0.3), (0.5, 0.4, 0.3), "bicubic")
METADATA = Metadata(PREPROCESSING, NAMES, {"licence": "MIT (us)"}, "sigmoid")
SMALL = {"alpha": 0.35, "num_classes": 5}
LINES = [
    {"step": 9, "split": "train", "accuracy": 0.99, "loss": 0.1},
    {"step": 10, "split": "validation", "accuracy": 0.75, "loss": 0.8},
    {"step": 20, "split": "validation", "accuracy": 0.5, "loss": 0.9},
    {"step": 20, "split": "test", "accuracy": 0.625, "loss": 0.7},
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The best weights of a run, and its metrics."""
    folder = tmp_path_factory.mktemp("run")
    save_weights(folder / "best", "v2", SMALL, random_variables(small_model()), METADATA)
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    return folder / "best"


def equal(first, second):
    same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), first, second)
    return jax.tree.all(same)


def test_pushed_weights_are_read_back(hub, run):
    pushed = push(run, "someone/flowers")
    assert (pushed.url, pushed.origin) == (f"{hub.url}/someone/flowers", "timm")
    assert set(hub.repositories["someone/flowers"]) == set(pushed.files)
    found, saved = open_any_weights("hf:someone/flowers"), open_weights(run)
    assert found.metadata.source["weights"] == "hf:someone/flowers"
    assert found.metadata.source["licence"] == "MIT (us)"
    for fact in ("preprocessing", "class_names", "output"):
        assert getattr(found.metadata, fact) == getattr(saved.metadata, fact)
    (model, variables), (wanted, numbers) = found.load(), saved.load()
    assert model == wanted
    assert equal(variables, numbers)


def test_timm_reads_pushed_weights(hub, run, tmp_path):
    push(run, "someone/flowers")
    weights = hub.repositories["someone/flowers"]["model.safetensors"]
    (tmp_path / "model.safetensors").write_bytes(weights)
    expected = convert_back(run, "timm").tensors
    for network in (
        timm.create_model("hf-hub:someone/flowers", pretrained=True),
        timm.create_model(
            "mobilenetv2_035", num_classes=5, checkpoint_path=tmp_path / "model.safetensors"
        ),
    ):
        state = network.state_dict()
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], torch.tensor(expected[name])) for name in state)
    config = timm.data.resolve_data_config(model=timm.create_model("hf-hub:someone/flowers"))
    assert tuple(config["input_size"]) == (3, 96, 96)
    assert int(96 / config["crop_pct"]) == 103
    assert tuple(config["mean"] + config["std"]) == (*PREPROCESSING.mean, *PREPROCESSING.std)


def test_the_card_has_facts_metrics_and_calls(run, tmp_path):
    write_repository(open_weights(run), tmp_path, "someone/flowers")
    card = (tmp_path / "README.md").read_text()
    for words in (
        "license: mit\n",
        "library_name: timm\n",
        "# flowers\n",
        "mobilenet_v2 with alpha 0.35 and 5 classes",
        "**Validation split:** accuracy 0.7500, loss 0.8000 (step 10)",
        "**Test split:** accuracy 0.6250, loss 0.7000 (step 20)",
        'flaxmobile.load_pretrained("hf:someone/flowers")',
        'timm.create_model("hf-hub:someone/flowers", pretrained=True)',
        "Classes: daisy, dandelion, rose, sunflower, tulip",
    ):
        assert words in card


@pytest.mark.parametrize(
    ("options", "origin"),
    [
        ({**SMALL, "alpha": 0.4, "in_channels": 4}, "torchvision"),  # timm has no such width
        (
            {**SMALL, "padding": "same", "dense_layers": ((6, "relu"),), "in_channels": 1},
            "flaxmobile",
        ),
    ],
)
def test_other_networks_have_other_names(hub, tmp_path, options, origin):
    network = create_model("v2", **options)
    save_weights(tmp_path / "w", "v2", options, random_variables(network), METADATA)
    assert push(tmp_path / "w", "someone/other").origin == origin
    found, numbers = open_published("hf:someone/other"), open_weights(tmp_path / "w").load()[1]
    assert (found.model, found.metadata.output) == (network, "sigmoid")
    assert equal(found.load()[1], numbers)
    backbone, kept = open_published("hf:someone/other", {"num_classes": 0}).load()
    assert backbone.num_classes == 0
    heads = ("classifier", "dense1")
    assert equal(kept["params"], {n: v for n, v in numbers["params"].items() if n not in heads})


def test_a_card_that_is_there_stays(hub, run, capsys):
    hub.repositories["someone/flowers"] = {"README.md": b"mine"}
    assert cli.main(["push", "--weights", str(run), "someone/flowers"]) == 0
    assert hub.repositories["someone/flowers"]["README.md"] == b"mine"
    out = capsys.readouterr().out
    assert f"wrote config.json, model.safetensors to {hub.url}/someone/flowers" in out
    assert 'load_pretrained("hf:someone/flowers") reads them' in out


@pytest.mark.parametrize("refused", ["create", "commit"])
def test_a_hub_that_refuses_is_one_line(hub, run, monkeypatch, refused):
    hub.refused = refused
    with pytest.raises(
        InputError, match=r"hf:someone/flowers cannot be written: .*hf auth login"
    ) as e:
        push(run, "someone/flowers")
    assert "\n" not in str(e.value)
    assert not hub.repositories.get("someone/flowers")


def test_what_cannot_be_pushed_is_refused(tmp_path):
    with pytest.raises(InputError, match="accepted: hf:OWNER/REPOSITORY"):
        push(tmp_path, "flowers")
    with pytest.raises(InputError, match="is not a weights directory"):
        push(tmp_path, "someone/flowers")
