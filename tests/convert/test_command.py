"""`python -m convert` from the command line to the files."""

import hashlib
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torchvision.models import mobilenet_v2, resnet18

from convert.__main__ import main
from convert.rules import RULES
from flaxmobile import load_metadata, load_weights, save_weights
from flaxmobile.weights import open_weights
from tests.convert.commands import convert, convert_back, error_of, save
from tests.convert.states import EXPAND, STEM, VARIANCE, random_state
from tests.networks import random_variables, small_model


@pytest.fixture
def weights(tmp_path):
    return save(random_state(), tmp_path / "w.pth")


def assert_same_state(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor if tensor.ndim else torch.tensor(0))


@pytest.mark.parametrize("alpha", [0.35, 1.4])
def test_torch_to_flax_to_torch_is_identical_to_the_bit(tmp_path, capsys, alpha):
    state = random_state(alpha)
    directory, back = tmp_path / "flax", tmp_path / "back.pth"
    assert convert(save(state, tmp_path / "w.pth"), directory) == 0
    assert capsys.readouterr().out == (
        f"found torchvision's mobilenet_v2 with alpha {alpha} and 10 classes\n"
        "images: shorter side to 256 (bilinear), centre 224×224, pixels 0..1 less the mean 0.485 "
        "0.456 0.406, divided by 0.229 0.224 0.225\n"
        "assumed, as no tensor shows it: padding=symmetric norm_epsilon=1e-05 (--options)\n"
        "assumed, as torchvision's standard: the images' preparation (--image-size, --resize-size, "
        "--mean, --std, --interpolation)\n"
        "assumed: the answer is a softmax (--output-activation)\n"
        "used 262 tensors, ignored 52 (BatchNorm's step counter, which a fixed momentum does not "
        f"use)\nwrote {directory}\n"
    )
    assert convert_back(directory, back) == 0
    assert f"wrote {back}: 314 tensors" in capsys.readouterr().out
    found = torch.load(back, weights_only=True)
    assert_same_state(found, state)
    network = mobilenet_v2(width_mult=alpha, num_classes=10)
    network.load_state_dict(found, strict=True)
    assert_same_state(network.state_dict(), state)


def test_flax_to_torch_to_flax_is_identical_to_the_bit(tmp_path):
    model = small_model()
    variables = random_variables(model)
    options = {"alpha": 0.35, "num_classes": 5, "dropout_rate": 0.3, "norm_momentum": 0.99}
    save_weights(tmp_path / "a", "mobilenet_v2", options, variables)
    assert convert_back(tmp_path / "a", tmp_path / "w.pth") == 0
    assert convert(tmp_path / "w.pth", tmp_path / "b") == 0
    _, found = load_weights(tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_a_wrapped_file_gives_the_same_weights(tmp_path):
    state = random_state()
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    assert convert(save(wrapped, tmp_path / "w.pth"), tmp_path / "flax") == 0
    assert convert_back(tmp_path / "flax", tmp_path / "back.pth") == 0
    assert_same_state(torch.load(tmp_path / "back.pth", weights_only=True), state)


def test_the_directory_says_what_it_is_and_where_it_comes_from(tmp_path, weights):
    assert convert(weights, tmp_path / "flax", "--alpha", "0.35") == 0
    found = open_weights(tmp_path / "flax")
    options, metadata = found.options, found.metadata
    assert found.model_name == "mobilenet_v2"
    assert (options["alpha"], options["num_classes"]) == (0.35, 10)
    assert (options["padding"], options["norm_epsilon"]) == ("symmetric", 1e-5)
    assert metadata.source == {
        "origin": "torchvision",
        "file": "w.pth",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    assert metadata.preprocessing.resize_size == 256
    assert metadata.class_names is None


def test_a_thousand_classes_are_named(tmp_path):
    assert convert(save(random_state(0.1, 1000), tmp_path / "w.pth"), tmp_path / "flax") == 0
    assert load_metadata(tmp_path / "flax").class_names[285] == "Egyptian cat"


def test_it_runs_from_any_directory_and_without_the_origins_libraries(tmp_path):
    for library in ("torch", "torchvision", "timm", "keras", "tensorflow", "huggingface_hub"):
        (tmp_path / f"{library}.py").write_text("raise ImportError('not for this file')")
    state = {name: tensor.numpy() for name, tensor in random_state().items()}
    save_file(state, tmp_path / "w.safetensors")
    flags = ["--model", "v2", "--weights", "w.safetensors", "--output", "flax"]
    command = [sys.executable, "-m", "convert", *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "wrote flax"


def test_damaged_tensors_are_listed_and_nothing_is_written(tmp_path, capsys):
    state = random_state()
    del state[STEM]
    state[EXPAND] = state[EXPAND].double() / 3
    state[VARIANCE][3] = torch.nan
    path = save(state, tmp_path / "w.pth")
    err = error_of(capsys, convert(path, tmp_path / "flax"))
    assert f"{STEM} is missing" in err
    assert f"{EXPAND} is float64[" in err
    assert f"{VARIANCE} holds 1 of 1280 values" in err
    assert list(tmp_path.iterdir()) == [path]


def test_another_width_is_refused(tmp_path, capsys, weights):
    err = error_of(capsys, convert(weights, tmp_path / "flax", "--alpha", "1.4"))
    assert "--alpha is 1.4, the tensors have the widths of alpha 0.35" in err
    assert list(tmp_path.iterdir()) == [weights]


def test_another_networks_file_is_recognised_as_such(tmp_path, capsys):
    path = save(
        {"body.1.weight": torch.zeros(3), "body.2.bias": torch.zeros(3)}, tmp_path / "w.pth"
    )
    err = error_of(capsys, convert(path, tmp_path / "flax"))
    assert "none of the file's 2 names, such as 'body.1.weight'" in err
    assert "mobilenet_v2 from torchvision" in err


def test_a_file_of_no_network_here_is_not_said_to_be_anothers(tmp_path, capsys):
    state = resnet18(num_classes=5).state_dict()
    err = error_of(capsys, convert(save(state, tmp_path / "w.pth"), tmp_path / "flax"))
    assert "--model" not in err


def test_another_networks_file_is_said_before_its_names_are_compared(tmp_path, capsys, weights):
    err = error_of(capsys, convert(weights, tmp_path / "flax", model="v3"))
    assert err == (
        f"python -m convert: error: {weights} holds no mobilenet_v3_large: its names are those of "
        "mobilenet_v2 from torchvision: --model mobilenet_v2\n"
    )


@pytest.mark.parametrize("command", [convert, convert_back])
def test_an_existing_output_is_refused_and_stays_as_it_is(tmp_path, capsys, weights, command):
    output = tmp_path / "there.pth"
    output.write_text("precious")
    assert f"{output} exists already" in error_of(capsys, command(weights, output))
    assert output.read_text() == "precious"


@pytest.mark.parametrize("command", [convert, convert_back])
def test_an_output_that_cannot_be_made_is_refused(tmp_path, capsys, weights, command):
    assert convert(weights, tmp_path / "flax") == 0
    capsys.readouterr()
    source = {convert: weights, convert_back: tmp_path / "flax"}[command]
    err = error_of(capsys, command(source, weights / "below-a-file.pth"))
    assert str(weights) in err


def test_a_full_disk_leaves_no_torch_file(tmp_path, capsys, weights):
    assert convert(weights, tmp_path / "flax") == 0
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # bytes in a file
    try:
        status = convert_back(tmp_path / "flax", tmp_path / "new.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in error_of(capsys, status)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flax", "w.pth"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--to-torch --weights nowhere --output new.pth", "nowhere is not a weights directory"),
        ("--model v2 --weights nowhere.pth --output flax", "nowhere.pth cannot be read"),
    ],
)
def test_weights_that_are_not_there_are_named(tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(capsys, main(flags.split()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model v2 --weights w.pth", "--output"),
        ("--model v2 --weights w.pth --output o --source caffe", "torchvision"),
        ("--model v2 --weights w.pth --output o --aplha 1", "--alpha"),
        ("--model v2 --weigths w.pth --output o", "'--weigths' (did you mean '--weights'?)"),
        ("--model v2 --weights w.pth --output o --alpha wide", "--alpha"),
        ("--model v2 --weights w.pth --output o --alpha 0", "accepted: any number above 0"),
        ("--model v2 --weights w.pth --output o --alpha nan", "accepted: any number above 0"),
        ("--model v2 --weights w.pth --output o --alpha inf", "accepted: any number above 0"),
        ("--model mobilenetv2 --weights w.pth --output o", "did you mean 'mobilenet_v2'?"),
        ("--model v2 --weights w.pth --output o --options padding", "NAME=VALUE"),
        ("--model v2 --weights w.pth --output o --options paddin=same", "'padding'"),
        ("--model v2 --weights w.pth --output o --options num_classes=0", "--no-classifier"),
        ("--model v2 --weights w.pth --output o --no-classifier --verify a.png", "leaves out"),
        ("--model v2 --weights timm:a --output o --source torchvision", "leave one out"),
        ("--weights w.pth --output o", "--model is missing"),
        ("--to-torch --model v2 --weights w --output o.pth", "leave out --model"),
        ("--to-torch --alpha 1 --weights w --output o.pth", "leave out --alpha"),
        ("--to-torch --no-classifier --weights w --output o.pth", "leave out --no-classifier"),
        ("--to-torch --options a=1 --weights w --output o.pth", "leave out --options"),
        ("--to-torch --verify a.png --weights w --output o.pth", "leave out --verify"),
        ("--to-torch --weights w --output o.tar", "accepted: a file name in .pth, .pt, .safetens"),
    ],
)
def test_a_wrong_flag_exits_with_status_2(capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        main(flags.split())
    assert message in error_of(capsys, stop.value.code, expected_status=2)


def test_a_network_that_torchvision_lacks_does_not_go_to_torch(tmp_path, capsys):
    options = {"alpha": 0.35, "num_classes": 5, "padding": "same"}
    variables = random_variables(small_model(padding="same"))
    save_weights(tmp_path / "flax", "mobilenet_v2", options, variables)
    err = error_of(capsys, convert_back(tmp_path / "flax", tmp_path / "w.pth"))
    assert "padding is 'same', accepted: 'symmetric'" in err
    assert not (tmp_path / "w.pth").exists()


def test_parameters_that_the_origin_does_without_are_told(tmp_path, capsys, monkeypatch):
    key = ("torchvision", "mobilenet_v2")
    monkeypatch.setitem(RULES, key, RULES[key]._replace(constants={"params/scale": 1.0}))
    state = random_state()
    scales = [name for name in state if name.endswith(".weight") and state[name].ndim == 1]
    state = {name: tensor for name, tensor in state.items() if name not in scales}
    assert convert(save(state, tmp_path / "w.pth"), tmp_path / "flax") == 0
    assert (
        "filled 52 parameters, such as params/head/norm/scale, with constants: torchvision's "
        "network does not have them\n"
    ) in capsys.readouterr().out
    _, variables = load_weights(tmp_path / "flax")
    assert np.array_equal(variables["params"]["head"]["norm"]["scale"], np.ones(1280))
