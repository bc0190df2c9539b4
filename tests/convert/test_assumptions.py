"""Facts that no tensor shows: said, asked for, or stated by the user."""

import json

import jax
import numpy as np
import pytest
import torch
from torchvision.models import googlenet

from convert.facts import facts_about, read_class_names
from convert.formats.contents import Statements
from convert.rules import RULES
from flaxmobile import InputError, create_model, load_metadata, load_weights
from tests.convert.commands import convert, error_of, save
from tests.convert.rules import fill
from tests.convert.states import random_state

V2 = RULES["torchvision", "mobilenet_v2"]
MODEL = create_model("mobilenet_v2", alpha=0.35, num_classes=3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save(random_state(0.35, 3), tmp_path_factory.mktemp("weights") / "w.pth")


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    """What `googlenet(weights=…)` becomes: its own normalization is in no tensor."""
    network = googlenet(num_classes=3, aux_logits=False, transform_input=True, init_weights=False)
    torch.manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.ndim > 1:
            torch.nn.init.kaiming_normal_(tensor)
    path = save(network.state_dict(), tmp_path_factory.mktemp("google") / "w.pth")
    return network.eval(), path


def test_an_option_that_differs_among_an_origins_files_is_asked_for(tmp_path, capsys, google):
    _, path = google
    for flags in ([], ["--no-classifier"]):
        err = error_of(capsys, convert(path, tmp_path / "flax", *flags, model="googlenet"))
        assert "no tensor shows whether torchvision's inception_v1 has transform_input" in err
        assert "--options transform_input=true or --options transform_input=false" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("transform", [True, False])
def test_the_networks_that_were_asked_for_are_the_origins(tmp_path, capsys, google, transform):
    network, path = google
    network.transform_input = transform
    flag = f"transform_input={str(transform).lower()}"
    assert convert(path, tmp_path / "flax", "--options", flag, model="googlenet") == 0
    assert "transform_input" not in capsys.readouterr().out  # stated, not assumed
    model, variables = load_weights(tmp_path / "flax")
    images = np.random.default_rng(0).uniform(-2, 2, (1, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    found = np.asarray(jax.jit(model.apply)(variables, images))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert load_metadata(tmp_path / "flax").preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("name", ["padding=same", "norm_epsilon=0.01", "norm_momentum=0.5"])
def test_an_option_that_no_tensor_shows_may_be_given(tmp_path, capsys, weights, name):
    option, value = name.split("=")
    assert convert(weights, tmp_path / "flax", "--options", name) == 0
    assert str(getattr(load_weights(tmp_path / "flax")[0], option)) == value
    assert f"{option}=" not in capsys.readouterr().out


def test_options_that_the_tensors_show_may_not():
    state = {name: tensor.numpy() for name, tensor in random_state(0.35, 3).items()}
    with pytest.raises(InputError, match="folded is True, the file's network has False"):
        fill(V2, "mobilenet_v2", state, folded=True)
    with pytest.raises(InputError, match="padding"):
        fill(V2, "mobilenet_v2", state, padding="nowhere")


def test_a_users_statements_are_written(tmp_path, capsys, weights):
    (tmp_path / "names.txt").write_text("daisy\n\nrose \ntulip\n")
    flags = "--image-size 96 --mean 0 --std 1 1 1 --interpolation bicubic --output-activation none"
    names = ["--class-names", str(tmp_path / "names.txt")]
    assert convert(weights, tmp_path / "flax", *flags.split(), *names) == 0
    out = capsys.readouterr().out
    assert "images: shorter side to 110 (bicubic), centre 96×96, pixels 0..1\n" in out
    assert "preparation" not in out
    assert "answer" not in out
    found = load_metadata(tmp_path / "flax")
    prepared = found.preprocessing
    assert (prepared.image_size, prepared.resize_size) == (96, 110)  # 224 of 256
    assert (prepared.mean, prepared.std) == ((0, 0, 0), (1, 1, 1))
    assert (found.class_names, found.output) == (("daisy", "rose", "tulip"), "none")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--image-size 0", "image_size is 0"),
        ("--mean 1 2", "--mean has 2 numbers; accepted: 1, or 3"),
        ("--std 0", "std above 0"),
        ("--interpolation cubic", "--interpolation"),
        ("--class-names nowhere.txt", "nowhere.txt cannot be read"),
        ("--class-names two.json", "2 class names were given, the network has 3 classes"),
    ],
)
def test_wrong_statements_are_refused(tmp_path, capsys, monkeypatch, weights, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.json").write_text('["a", "b"]')
    try:
        assert convert(weights, "flax", *flags.split()) == 1
    except SystemExit as stop:
        assert stop.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "flax").exists()


@pytest.mark.parametrize("text", ['["a", "b"]', '{"1": "b", "0": "a"}', "a\nb\n", "\n a\n\nb"])
def test_class_names_are_read_from_every_form(tmp_path, text):
    path = tmp_path / "names"
    path.write_text(text)
    assert read_class_names(path) == ("a", "b")


@pytest.mark.parametrize("text", ["[1, 2]", '{"0": "a", "2": "b"}', "[", "{}]"])
def test_other_forms_are_refused(tmp_path, text):
    path = tmp_path / "names"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no class names; accepted"):
        read_class_names(path)


def test_the_user_is_over_the_file_and_the_file_over_the_publisher():
    published = V2.find_published("7ebf99e0".ljust(64, "0"))
    file = Statements({"image_size": 96, "mean": (0.5,) * 3}, "sigmoid", ("x", "y", "z"))
    user = Statements({"mean": (0.1,) * 3})
    facts = facts_about(V2, MODEL, published, user.over(file))
    assert facts.preprocessing.mean == (0.1,) * 3
    assert (facts.preprocessing.image_size, facts.preprocessing.resize_size) == (96, 99)  # of 232
    assert facts.preprocessing.std == published.preprocessing.std
    assert (facts.output, facts.class_names, facts.assumed) == ("sigmoid", ("x", "y", "z"), ())


@pytest.mark.parametrize(("classes", "output"), [(1, "sigmoid"), (2, "softmax")])
def test_one_class_is_a_sigmoid(classes, output):
    facts = facts_about(V2, MODEL.clone(num_classes=classes), None)
    assert facts.output == output
    assert "output" in facts.assumed


def test_a_negative_variance_is_refused(tmp_path, capsys, weights):
    state = random_state(0.35, 3)
    state["features.18.1.running_var"][7] = -1e-6
    err = error_of(capsys, convert(save(state, tmp_path / "w.pth"), tmp_path / "flax"))
    assert "features.18.1.running_var holds 1 of 1280 variances below 0" in err


def test_1008_classes_are_fids_and_other_numbers_are_not():
    from convert.recognition import recognise
    from convert.sources import Source

    model = create_model("inception_v3", alpha=1.0, num_classes=2, variant="slim")
    names = [f"{layer}.weight" for _, layer in RULES["fid", "inception_v3"].modules(model)]
    for classes, origin in {1008: "fid", 1000: None}.items():
        tensors = {name: np.zeros((classes, 2048), np.float32) for name in names}
        source = Source(tensors, "0" * 64)
        if origin is None:
            with pytest.raises(InputError, match="from torchvision and timm, which"):
                recognise("inception_v3", "auto", source)
        else:
            assert recognise("inception_v3", "auto", source)[0] == origin


def test_the_directory_keeps_the_output(tmp_path, weights):
    assert convert(weights, tmp_path / "flax", "--output-activation", "sigmoid") == 0
    path = tmp_path / "flax" / "model.json"
    description = json.loads(path.read_text())
    assert description["output"] == "sigmoid"
    path.write_text(json.dumps({**description, "output": "tanh"}))
    with pytest.raises(InputError, match="unknown output 'tanh'"):
        load_metadata(tmp_path / "flax")
    del description["output"]  # as directories were before
    path.write_text(json.dumps(description))
    assert load_metadata(tmp_path / "flax").output == "softmax"


def test_images_of_one_channel_are_grey_with_the_average_of_the_presets_colours():
    preprocessing = facts_about(V2, MODEL.clone(in_channels=1), None).preprocessing
    assert preprocessing.channel_order == "grey"
    assert preprocessing.mean == (sum(V2.preprocessing.mean) / 3,)
