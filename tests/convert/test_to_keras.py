"""Weights in Keras's own files: Keras's network loads them and has the same numbers."""

import keras
import numpy as np
import pytest

from convert import engine
from convert.__main__ import main
from convert.back import OriginWeights, write_back
from convert.formats.keras import read_keras
from convert.references import build_keras
from convert.rules import RULES
from convert.rules.keras.blocks import places_of
from flaxmobile import load_weights, save_weights
from flaxmobile.registry import options_of
from tests.convert.commands import error_of
from tests.convert.keras_models import drawing_nothing, random_model, save
from tests.convert.test_keras import fill
from tests.networks import random_variables, small_model

NETWORKS = {
    "mobilenet_v1": (32, {"alpha": 0.1, "depth_multiplier": 2}),
    "mobilenet_v2": (32, {"alpha": 0.35, "num_classes": 0}),
    "mobilenet_v3_small": (32, {"alpha": 0.35}),
    "xception": (71, {}),
    "inception_v3": (75, {}),
}


def assert_loads(path, network, build):
    """Keras's network takes the file, and then has the numbers of the other one."""
    with drawing_nothing():
        other = build()
    other.load_weights(path)
    for found, expected in zip(other.weights, network.weights, strict=True):
        assert found.path.rpartition("/")[2] == expected.path.rpartition("/")[2]
        assert np.array_equal(found, expected), expected.path


@pytest.mark.parametrize(("name", "size", "options"), [(k, *v) for k, v in NETWORKS.items()])
def test_keras_loads_what_came_from_keras(tmp_path, name, size, options):
    network, rule = random_model(name, size, **options), RULES["keras", name]
    tensors = read_keras(save(network, tmp_path, "weights.h5")).tensors
    chosen = {"num_classes": 0} if options.get("num_classes") == 0 else {}
    found = fill(name, tensors, **chosen)
    tensors = engine.from_flax(rule, found.model, found.variables)
    places = places_of(rule, found.model)
    weights = OriginWeights(name, found.model, size, "keras", tensors, 1, places)

    def build():
        return build_keras(keras.applications, name, options_of(found.model), size)

    for suffix in ("weights.h5", "h5"):
        path = tmp_path / "back" / f"w.{suffix}"
        write_back(path, weights)
        assert_loads(path, network, build)
        assert read_keras(path).tensors.keys() == tensors.keys()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Weights that were trained here, as Keras's network."""
    rule = RULES["keras", "mobilenet_v1"]
    options = {**rule.options, "alpha": 0.1, "num_classes": 7, "depth_multiplier": 1}
    model = small_model("mobilenet_v1", **options)
    path = tmp_path_factory.mktemp("trained") / "weights"
    save_weights(path, "v1", options, random_variables(model))
    return path


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras's, with NumPy 2
def test_the_command_writes_a_model_that_keras_opens(tmp_path, capsys, directory):
    path = tmp_path / "w.keras"
    assert main(["--to-keras", "--weights", str(directory), "--output", str(path)]) == 0
    assert f"wrote {path}: 137 tensors under keras's names" in capsys.readouterr().out
    network = keras.models.load_model(path)
    assert network.input_shape == (None, 224, 224, 3)
    _, variables = load_weights(directory)
    kernel = variables["params"]["classifier"]["kernel"]
    assert np.array_equal(network.get_layer("conv_preds").kernel[0, 0], kernel)
    assert list(tmp_path.iterdir()) == [path]


def test_what_keras_does_not_have_is_refused(tmp_path, capsys):
    options = {"alpha": 0.35, "num_classes": 3, "dense_layers": [[9, "relu"]]}
    model = small_model("mobilenet_v2", **options)
    save_weights(tmp_path / "w", "v2", options, random_variables(model))
    arguments = ["--weights", str(tmp_path / "w"), "--output", str(tmp_path / "w.h5")]
    err = error_of(capsys, main(["--to-keras", *arguments]))
    for part in ("padding is 'symmetric', accepted: 'same'", "dense_layers is ((9, 'relu'),)"):
        assert part in err
    assert not (tmp_path / "w.h5").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--to-keras --to-torch --weights w --output w.h5", "choose one"),
        ("--to-keras --weights w --output w.pth", "accepted: a file name in .weights.h5, .keras"),
        ("--to-keras --model v1 --weights w --output w.h5", "leave out --model"),
    ],
)
def test_wrong_flags_are_refused(capsys, flags, message):
    with pytest.raises(SystemExit):
        main(flags.split())
    assert message in capsys.readouterr().err
