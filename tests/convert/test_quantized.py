"""torch's quantized networks: the same integers layer by layer, and what cannot be read."""

from functools import cache, partial

import jax
import numpy as np
import pytest
import torch
from flax import linen as nn
from torchvision.models import quantization as networks

import flaxmobile
from convert.__main__ import main
from convert.conversion import convert_file
from convert.rules import RULES
from flaxmobile import InputError
from flaxmobile.layers.quantization import Range
from tests.convert import quantized_networks as quantized

pytestmark = pytest.mark.filterwarnings("ignore:.*quantized tensor creation")  # torch gives it up

SIDE = 96
"""Maps of 3×3 pixels at the end: their means lie in the middle of no two steps."""


@pytest.fixture(scope="module", autouse=True)
def engine():
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "qnnpack"
    yield
    torch.backends.quantized.engine = before


@cache
def make(kind):
    """(name of our network, torch's quantized network) of a kind of file."""
    if kind == "v3":
        return "mobilenet_v3_small", quantized.trained(quantized.mobilenet_v3_small)[1]
    kernel = kind.rpartition(" ")[2]
    return "mobilenet_v2", quantized.calibrated(quantized.mobilenet_v2, kernel=kernel)


@pytest.fixture(scope="module", params=["v2 tensor", "v2 channel", "v3"])
def pair(request, tmp_path_factory):
    """A file's conversion, and torch's network of the same file."""
    name, network = make(request.param)
    path = tmp_path_factory.mktemp("torch") / "file.pth"
    torch.save(network.state_dict(), path)
    return convert_file(path, name), network


def outputs_by_range(conversion, seen):
    """Our path of a range -> the numbers that torch's network has there."""
    names = dict(RULES["torchvision", conversion.model_name].ranges.names(conversion.filled.model))
    found = {path: seen.get(f"{name}.activation_post_process", seen.get(name))
             for path, name in names.items()}  # fmt: skip
    for path, name in names.items():
        if path.endswith("linear_gate_range"):
            gates = name.replace("fc2", "scale_activation")
            found[path.replace("linear_gate", "gate")] = seen[gates]
            found[path.replace("linear_gate", "mean")] = seen[name.replace("fc2", "avgpool")]
    pooled = seen["avgpool"] if "avgpool" in seen else seen["classifier.0"]
    return {**found, "pooled_range": pooled.reshape(len(pooled), -1)}


def test_each_layer_has_torchs_integers(pair):
    """For equal inputs, but where the sum lies in the middle of two steps."""
    conversion, network = pair
    filled = conversion.filled
    images = np.random.default_rng(1).normal(size=(4, SIDE, SIDE, 3)).astype(np.float32)
    theirs = outputs_by_range(conversion, quantized.run(network, images)[1])

    @jax.jit
    def compute(variables, images, theirs):
        found = {}

        def take_theirs(call, args, kwargs, context):
            made = call(*args, **kwargs)
            if not isinstance(context.module, Range):
                return made
            path, (ours, steps) = "/".join(context.module.path), made
            found[path] = args[0], ours, steps.scale
            return theirs[path], steps

        with nn.intercept_methods(take_theirs):
            filled.model.apply(variables, images)
        return found

    found = compute(filled.variables, images, theirs)
    assert found.keys() == theirs.keys()
    other, count = 0, 0
    for path, (x, ours, step) in found.items():
        differs = np.abs(ours - theirs[path]) > 0.5 * step
        place = np.asarray(x)[differs] / step
        assert (np.abs(place - np.floor(place) - 0.5) < 0.01).all(), path
        other, count = other + differs.sum(), count + differs.size
    assert count > 100_000
    assert other / count < 1e-4


def test_logits_are_torchs_to_a_step(pair):
    """One number in 100,000 is rounded the other way, which V3's random weights amplify."""
    conversion, network = pair
    filled = conversion.filled
    images = np.random.default_rng(2).normal(size=(8, SIDE, SIDE, 3)).astype(np.float32)
    expected = quantized.run(network, images)[0]
    found = np.asarray(jax.jit(filled.model.apply)(filled.variables, images))
    steps = np.abs(found - expected) / network.classifier[-1].scale
    assert np.ptp(expected) > 50 * network.classifier[-1].scale
    assert steps.mean() < (2 if conversion.model_name.startswith("mobilenet_v3") else 0.5)


@pytest.mark.parametrize(
    ("build", "observes"),
    [(quantized.mobilenet_v3_small, True), (quantized.trainable_v2, False)],
    ids=["v3", "v2"],
)
def test_a_network_that_trains_for_it_has_the_kernels_that_torch_makes_of_it(
    tmp_path, build, observes
):
    name = "mobilenet_v2" if build is quantized.trainable_v2 else "mobilenet_v3_small"
    state, network = quantized.trained(build, observes=observes)
    torch.save(state, tmp_path / "trained.pth")
    torch.save(network.state_dict(), tmp_path / "file.pth")
    found, expected = (
        convert_file(tmp_path / file, name).filled for file in ("trained.pth", "file.pth")
    )
    assert found.options == expected.options
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-6), found.variables, expected.variables
    )


def test_the_command_says_that_the_file_was_quantized(tmp_path, capsys):
    network, path = make("v2 tensor")[1], tmp_path / "file.pth"
    content = {"epoch": 3, "model": network.state_dict()}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    flags = ["--model", "v2", "--weights", str(path), "--output", f"{tmp_path}/w"]
    assert main([*flags, "--image-size", str(SIDE)]) == 0
    said = capsys.readouterr().out
    assert "found torchvision's mobilenet_v2 with alpha 0.35 and 10 classes" in said
    assert "was quantized to int8: kernels keep the file's steps, activations its ranges" in said
    model, variables = flaxmobile.load_weights(tmp_path / "w")
    assert model.folded and model.quantized and model.given_steps and model.activation == "relu"
    assert flaxmobile.load_metadata(tmp_path / "w").source["precision"] == "int8"
    kernel = network.features[0][0].weight()
    found = variables["params"]["stem"]["conv"]["kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(found, kernel.dequantize().numpy())
    steps = variables["batch_stats"]["stem"]["conv"]["kernel_steps"]
    np.testing.assert_array_equal(steps, np.full(16, kernel.q_scale(), np.float32))
    assert main(["--to-torch", "--weights", f"{tmp_path}/w", "--output", f"{tmp_path}/b.pth"]) == 1
    assert "folded is True" in capsys.readouterr().err


def test_a_network_that_rounds_elsewhere_is_read_as_float(tmp_path):
    """ShuffleNet V2 of torchvision rounds each concatenation to a range of its own."""
    network = quantized.calibrated(networks.shufflenet_v2_x0_5, kernel="channel")
    torch.save(network.state_dict(), tmp_path / "file.pth")
    conversion = convert_file(tmp_path / "file.pth", "shufflenet_v2")
    assert any("was quantized to int8: read as float" in line for line in conversion.describe())
    filled = conversion.filled
    assert set(filled.variables) == {"params"}
    kernel = network.conv1[0].weight().dequantize().numpy().transpose(2, 3, 1, 0)
    found = filled.variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(found, kernel, rtol=1e-6)
    images = np.random.default_rng(1).normal(size=(4, 64, 64, 3)).astype(np.float32)
    expected = quantized.run(network, images)[0]
    found = np.asarray(jax.jit(filled.model.apply)(filled.variables, images))
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.fixture(scope="module")
def state():
    return make("v2 tensor")[1].state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.3.skip_add.scale": torch.tensor(0.0)}, "features.3.skip_add has scale 0"),
        ({"quant.scale": torch.tensor([np.nan])}, "quant has scale nan and zero point"),
        ({"features.0.0.zero_point": torch.tensor(256)}, "and zero point 256; accepted: a scale"),
        (
            {"features.3.skip_add.scale": torch.tensor(1.0),
             "features.3.skip_add.zero_point": torch.tensor(0)},
            "features.3.skip_add.least is missing",
        ),
        ({"features.0.0.scale": torch.ones(16)}, "features.0.0.least is missing"),
    ],
)  # fmt: skip
def test_a_scale_that_is_none_is_refused(tmp_path, state, change, message):
    assert change.keys() <= state.keys()
    torch.save({**state, **change}, tmp_path / "file.pth")
    with pytest.raises(InputError, match=message):
        convert_file(tmp_path / "file.pth", "v2")


def test_a_kernel_without_integers_is_missed_by_its_steps(tmp_path, state):
    kernel = state["features.0.0.weight"].dequantize()
    torch.save({**state, "features.0.0.weight": kernel}, tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"features\.0\.0\.steps is missing"):
        convert_file(tmp_path / "file.pth", "v2")


def test_a_module_with_packed_kernels_is_refused(tmp_path):
    torch.save(make("v2 tensor")[1], tmp_path / "file.pth")
    with pytest.raises(InputError, match="save its state dict instead"):
        convert_file(tmp_path / "file.pth", "v2")


def test_images_cannot_verify_it(tmp_path, state):
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(InputError, match="leave --verify out"):
        convert_file(tmp_path / "file.pth", "v2", images=[tmp_path / "image.png"])
