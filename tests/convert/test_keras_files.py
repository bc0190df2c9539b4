"""Reading Keras's files: whatever the bytes are, tensors or one line; no file leads elsewhere."""

import shutil
import sys
import zipfile

import h5py
import ml_dtypes
import numpy as np
import pytest

from convert.__main__ import main
from convert.conversion import convert_file
from convert.reading import Reading
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import InputError, load_metadata
from flaxmobile.weights import open_weights
from tests.convert import commands
from tests.convert.keras_models import FORMATS, MEMBER, edited, random_model, save
from tests.convert.keras_writer import write_keras_2
from tests.convert.test_keras import convert

NAME = "mobilenet_v1"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One network in every format."""
    network = random_model(NAME, 32, alpha=0.1)
    folder = tmp_path_factory.mktemp("saved")
    return {form: save(network, folder, form) for form in FORMATS}


@pytest.fixture(params=FORMATS)
def path(request, saved, tmp_path):
    return shutil.copy(saved[request.param], tmp_path / saved[request.param].name)


def group_of(file, layer):
    """Where a layer's tensors are."""
    if "model_weights" in file:
        return file[f"model_weights/{layer}"]
    groups = []
    file.visititems(lambda _, group: groups.append(group) if is_of(group, layer) else None)
    return groups[0]


def is_of(group, layer):
    return group.attrs.get("name") == layer


def kernel_of(file, layer):
    group = group_of(file, layer)
    return group, ("0" if "0" in group else f"{layer}/kernel")


def replace(file, layer, change):
    group, name = kernel_of(file, layer)
    array = change(group[name][()])
    del group[name]
    group[name] = array


def drop(file):
    group, name = kernel_of(file, "conv_pw_3")
    del group[name]


def rename(file):
    group = group_of(file, "conv_pw_3")
    if "name" in group.attrs:
        group.attrs["name"] = "conv_pw_33"
        return
    file.move("model_weights/conv_pw_3", "model_weights/conv_pw_33")
    root = file["model_weights"]
    names = [
        name.replace("conv_pw_3", "conv_pw_33") if name == "conv_pw_3" else name
        for name in root.attrs["layer_names"]
    ]
    root.attrs["layer_names"] = names


def add(file):
    file["layers/conv2d_99/vars/0"] = np.zeros(3, np.float32)


def reshape(file):
    replace(file, "conv_pw_3", lambda array: array[..., None])


def swap_axes(file):
    replace(file, "conv_pw_3", lambda array: np.moveaxis(array, 2, 3))


def retype(file):
    replace(file, "conv_pw_3", lambda array: array.astype(np.float64) / 3)


def put_nan(file):
    def spoil(array):
        array.flat[-1] = np.nan
        return array

    replace(file, "conv_pw_3", spoil)


def claim_twice(file):
    group, name = kernel_of(file, "conv_pw_3")
    if "name" in group.attrs:
        file.copy(group, "layers/conv2d_99/vars")
    else:
        group["conv_pw_3/kernel:0"] = group[name][()]
        group.attrs["weight_names"] = [name, "conv_pw_3/kernel:0"]


MUTATIONS = {
    drop: "conv_pw_3/kernel is missing",
    rename: "conv_pw_3/kernel is missing (did you mean 'conv_pw_33/kernel'?)",
    add: "/vars/0 is unknown|conv2d_99/kernel is unknown",
    reshape: "conv_pw_3/kernel is float32[1, 1, 12, 12, 1], accepted: float32[1, 1, 12, 12]",
    retype: "conv_pw_3/kernel is float64[",
    put_nan: "conv_pw_3/kernel holds 1 of 144 values that are NaN",
    claim_twice: "/vars/0 is unknown|conv_pw_3/kernel:0 is unknown",
}


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_damaged_tensor_is_named(path, mutate):
    with edited(path) as file:
        mutate(file)
    with pytest.raises(InputError) as caught:
        convert(NAME, path)
    parts = MUTATIONS[mutate].split("|")
    assert any(part in str(caught.value) for part in parts)


def test_all_problems_are_told_at_once_and_nothing_is_written(path, tmp_path, capsys):
    with edited(path) as file:
        rename(file)
        add(file)
        replace(file, "conv_pw_5", lambda array: array.astype(np.float64) / 3)
    output = tmp_path / "flax"
    arguments = ["--model", "v1", "--weights", str(path), "--output", str(output)]
    assert main([*arguments, "--alpha", "0.5"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") <= 15
    for part in (
        "--alpha is 0.5, the tensors have the widths of alpha 0.1",
        "conv_pw_33/kernel is unknown",
        "conv2d_99/",
        "conv_pw_5/kernel is float64",
    ):
        assert part in err
    assert not output.exists()


def test_a_converted_directory_says_what_it_is(path, tmp_path, capsys):
    arguments = ["--model", "v1", "--weights", str(path), "--output", str(tmp_path / "flax")]
    assert main(arguments) == 0
    assert "found keras's mobilenet_v1 with alpha 0.1 and 7 classes" in capsys.readouterr().out
    options = open_weights(tmp_path / "flax").options
    assert (options["padding"], options["norm_epsilon"]) == ("same", 1e-3)
    metadata = load_metadata(tmp_path / "flax")
    assert metadata.source["origin"] == "keras"
    preprocessing = metadata.preprocessing
    size = 224 if path.name == "saved.weights.h5" else 32  # a whole model says its own
    assert (preprocessing.image_size, preprocessing.resize_size) == (size, size)
    assert (preprocessing.mean, preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    assert main(["--to-torch", "--weights", str(tmp_path / "flax"), "--output", "w.pth"]) == 1


def refusal(path):
    message = commands.refusal(path)
    assert "accepted: weights or a model that Keras saved" in message
    return message


def test_a_truncated_file_is_refused_wherever_it_ends(path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for end in [1, 9, *rng.integers(0, len(whole), 12), len(whole) - 1]:
        path.write_bytes(whole[:end])
        assert "is damaged or not a file of Keras's" in refusal(path)


@pytest.mark.parametrize("content", [b"hello, this is text\n" * 9, b"PK\x03\x04", b"\x89PNG"])
@pytest.mark.parametrize("suffix", ["h5", "weights.h5", "keras"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    assert "is damaged or not a file of Keras's" in refusal(path)


def link_outside(file, path):
    file["layers/other/vars/0"] = h5py.ExternalLink("elsewhere.h5", "/secret")


def link_inside(file, path):
    file["layers/other/vars/0"] = h5py.SoftLink("/layers/none")


def store_outside(file, path):
    outside = [(str(path.with_name("raw")), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("layers/other/vars/0", (3,), np.float32, external=outside)


def map_outside(file, path):
    layout = h5py.VirtualLayout((3,), np.float32)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "secret", (3,))
    file.create_virtual_dataset("layers/other/vars/0", layout)


@pytest.mark.parametrize("refer", [link_outside, link_inside, store_outside, map_outside])
def test_data_elsewhere_is_refused(path, refer):
    with edited(path) as file:
        refer(file, path)
    assert "refers to data elsewhere, which is not read: layers/other/vars/0" in refusal(path)


def test_another_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["images/train"] = np.zeros((2, 3), np.float32)
    assert "is an HDF5 file without layers of Keras's" in refusal(tmp_path / "data.h5")


def test_an_archive_without_weights_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert f"is an archive without {MEMBER}" in refusal(tmp_path / "w.keras")


def test_a_models_configuration_is_data_that_may_be_anything(saved, tmp_path):
    path = shutil.copy(saved["keras"], tmp_path / "w.keras")
    with zipfile.ZipFile(path) as archive:
        weights = archive.read(MEMBER)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", '{"class_name": "Lambda", "config": "no layers"}')
        archive.writestr(MEMBER, weights)
    assert convert(NAME, path).model.alpha == 0.1


def test_a_whole_model_says_the_epsilon_of_its_normalizations(saved, tmp_path):
    path = shutil.copy(saved["keras"], tmp_path / "w.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = members["config.json"].replace(b'"epsilon": 0.001', b'"epsilon": 0.01')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "config.json": config}.items():
            archive.writestr(name, content)
    found = convert_file(path, NAME)
    assert found.filled.model.norm_epsilon == 0.01
    assert "norm_epsilon" not in found.assumed
    assert "norm_epsilon" in convert_file(saved["weights.h5"], NAME).assumed


def test_without_h5py_the_error_names_the_extra(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install -e '.*\[keras\]'"):
        read_source(saved["h5"])


@pytest.mark.parametrize("root", ["/", "/model_weights"])
def test_names_of_keras_2(tmp_path, root):
    names = {
        "conv1/kernel:0": "conv1/kernel",
        "conv_dw_1/depthwise_kernel:0": "conv_dw_1/kernel",
        "block2_sepconv1/depthwise_kernel:0": "block2_sepconv1/depthwise/kernel",
        "block2_sepconv1/pointwise_kernel:0": "block2_sepconv1/pointwise/kernel",
        "expanded_conv/depthwise/BatchNorm/gamma:0": "expanded_conv/depthwise/BatchNorm/gamma",
        "conv2d_12/kernel:0": "conv2d/kernel",
        "conv2d_13/kernel:0": "conv2d_1/kernel",
        "batch_normalization_v1/beta:0": "batch_normalization_v1/beta",
        "predictions/bias:0": "predictions/bias",
        "odd/thing:0": "odd/odd/thing:0",
    }
    arrays = {name: np.full(3, i, np.float32) for i, name in enumerate(names)}
    write_keras_2(tmp_path / "w.h5", arrays, root)
    found = read_source(tmp_path / "w.h5").tensors
    expected = {ours: arrays[theirs] for theirs, ours in names.items()}
    inside = root.strip("/")
    expected = {f"{inside}/{k}".strip("/") if "odd" in k else k: v for k, v in expected.items()}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.array_equal(found[name], array), name


def test_names_of_keras_1(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = np.asarray(["convolution2d_1", "batchnormalization_1"], "S")
        for layer, weights in {
            "convolution2d_1": ("W", "b"),
            "batchnormalization_1": ("gamma", "beta", "running_mean", "running_std"),
        }.items():
            names = [f"{layer}_{weight}:0" for weight in weights]
            file.create_group(layer).attrs["weight_names"] = np.asarray(names, "S")
            for name in names:
                file[layer][name] = np.zeros(3, np.float32)
    assert set(read_source(tmp_path / "w.h5").tensors) == {
        *(f"conv2d/{leaf}" for leaf in ("kernel", "bias")),
        *(f"batch_normalization/{x}" for x in ("gamma", "beta", "moving_mean", "moving_variance")),
    }


def test_a_file_in_bfloat16_is_widened(tmp_path):
    numbers = np.float32([1, -2.5, 3])
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = numbers.astype(ml_dtypes.bfloat16).view("V2")
        file["layers/dense/vars/0"].attrs["dtype"] = "bfloat16"
    source = read_source(tmp_path / "w.weights.h5")
    assert source.precision == "bfloat16"
    assert np.array_equal(source.tensors["layers.dense/kernel"], numbers)


def test_rules_know_the_names_of_keras_2():
    rule = RULES["keras", "mobilenet_v3_large"]
    model = rule.network(**rule.options)
    names, old = (dict(modules(model)) for modules in (rule.modules, rule.other_names[0]))
    assert {
        "Conv",
        "Conv/BatchNorm",
        "expanded_conv/depthwise/BatchNorm",
        "expanded_conv_3/squeeze_excite/Conv_1",
        "expanded_conv_14/project",
        "Conv_2",
        "Logits",
    } <= set(old.values())
    for ours, theirs in old.items():
        assert theirs.lower().replace("/", "_").replace("batchnorm", "bn") == names[ours]
    tensors = {f"{name}/kernel": np.zeros(1) for name in old.values()}
    assert Reading.of(rule, tensors).rule.modules is rule.other_names[0]
