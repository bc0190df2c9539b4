"""Weights directories: exact round trips, and every way in which one can be wrong."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import flaxmobile
from flaxmobile import InputError, Metadata, Preprocessing, load_weights, save_weights
from flaxmobile.registry import options_of
from tests.networks import random_variables, small_model

OPTIONS = {"alpha": 0.35, "num_classes": 5}
METADATA = Metadata(
    Preprocessing(64, 72, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic"),
    ("daisy", "dandelion", "rose", "sunflower", "tulip"),
    {"file": "net.pth", "sha256": "0" * 64, "licence": "BSD-3-Clause"},
    "sigmoid",
)


@pytest.fixture(scope="module")
def variables():
    return random_variables(small_model())


@pytest.fixture(scope="module")
def saved(tmp_path_factory, variables):
    """A good weights directory; only to be read."""
    directory = tmp_path_factory.mktemp("weights") / "good"
    save_weights(directory, "v2", OPTIONS, variables, METADATA)
    return directory


@pytest.fixture
def directory(saved, tmp_path):
    """A copy of it, to be spoiled."""
    return shutil.copytree(saved, tmp_path / "copy")


def _bytes(tree):
    return jax.tree.map(lambda leaf: (leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()), tree)


def _files(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def _edit(directory, **changes):
    """Change entries of model.json; None removes one."""
    path = directory / "model.json"
    description = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in description.items() if v is not None}))


def _options(directory, **changes):
    options = json.loads((directory / "model.json").read_text())["options"]
    _edit(directory, options={**options, **changes})


def _store(directory, variables):
    """Replace the numbers by others, with matching sums: a directory that someone made wrongly."""
    shutil.rmtree(directory / "variables")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory / "variables", variables)
    sums = {
        str(path): hashlib.sha256(content).hexdigest()
        for path, content in _files(directory).items()
        if path.name != "model.json"
    }
    _edit(directory, sha256=sums)


def test_round_trip_is_exact_to_the_bit(tmp_path, variables):
    strange = jax.tree.map(np.copy, variables)
    bias = strange["params"]["stem"]["norm"]["bias"]
    bias[:5] = np.float32([-0.0, 1e-45, np.inf, np.nan, np.finfo(np.float32).max])
    given = {**strange, "params": jax.tree.map(jnp.asarray, strange["params"])}  # jax and numpy
    save_weights(tmp_path / "a" / "b", "v2", OPTIONS, given)
    model, loaded = load_weights(tmp_path / "a" / "b")
    assert model == small_model()
    assert _bytes(loaded) == _bytes(strange)
    leaves = jax.tree.leaves(loaded)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert {leaf.sharding.device_set == {jax.devices()[0]} for leaf in leaves} == {True}


def test_options_come_back_dtype_included(tmp_path):
    options = {**OPTIONS, "dtype": jnp.bfloat16, "padding": "same", "norm_epsilon": 1e-3}
    save_weights(tmp_path / "w", "mobilenet_v2", options, random_variables(small_model()))
    model, loaded = load_weights(tmp_path / "w")
    assert model == flaxmobile.create_model("v2", **options)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype("float32")}


def test_metadata_comes_back(saved):
    assert flaxmobile.load_metadata(saved) == METADATA


def test_description_says_model_options_classes_preprocessing_source_and_version(saved):
    description = json.loads((saved / "model.json").read_text())
    assert description["model"] == "mobilenet_v2"
    assert description["options"] == {**OPTIONS, "dtype": "float32"}
    assert description["num_classes"] == 5
    assert description["class_names"] == list(METADATA.class_names)
    assert description["preprocessing"]["image_size"] == 64
    assert description["source"] == METADATA.source
    assert description["library"] == f"flaxmobile {flaxmobile.__version__}"


def test_nothing_is_pickled(saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    for name, content in _files(saved).items():
        assert not content.startswith(b"\x80"), name  # the first byte of a binary pickle
        assert name.suffix not in (".pkl", ".pickle", ".npy", ".npz", ".pt", ".pth")
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    load_weights(saved)


def test_a_directory_can_be_moved_and_given_as_text(directory, monkeypatch):
    monkeypatch.chdir(directory.parent)
    assert load_weights("copy/")[0] == small_model()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "mobilenet_v22"}, r"model\.json: unknown model 'mobilenet_v22'.*'mobilenet_v2'"),
        ({"format": 2}, r"model\.json has format 2; this version reads format 1"),
        ({"format": None}, r"model\.json has format None"),
        ({"model": None}, r"model\.json is damaged: it has no 'model'"),
        ({"options": []}, r"model\.json is damaged: it has no 'options'"),
        ({"sha256": None}, r"model\.json is damaged: it has no 'sha256'"),
    ],
)
def test_a_wrong_description_is_refused(directory, change, message):
    _edit(directory, **change)
    with pytest.raises(InputError, match=message):
        load_weights(directory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.0}, r"does not fit the model: .*stem/conv/kernel is float32\[3, 3, 3, 16\]"),
        ({"alpha": 0}, r"model\.json: alpha is 0"),
        ({"num_classes": 4}, r"classifier/kernel is float32\[1280, 5\], .* float32\[1280, 4\]"),
        ({"num_classes": 0}, "classifier/kernel is not a parameter of the model"),
        ({"width": 2}, r"model\.json: unknown option of mobilenet_v2 'width'"),
        ({"dtype": "float33"}, r"model\.json: unknown dtype 'float33'"),
        ({"shortcut": "projection"}, "shortcut/conv/kernel is missing"),
    ],
)
def test_options_that_do_not_fit_the_numbers_are_refused(directory, options, message):
    _options(directory, **options)
    with pytest.raises(InputError, match=message):
        load_weights(directory)


@pytest.mark.parametrize(
    "names", [["daisy"], [], "daisy", 5, {"0": "daisy"}, ["a", "b", "c", "d", 5]]
)
def test_class_names_that_do_not_fit_the_classes_are_refused(directory, names):
    _edit(directory, class_names=names)
    with pytest.raises(InputError, match=r"model\.json.*class.names"):
        flaxmobile.load_metadata(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_sise": 64}, "unknown preprocessing field 'image_sise'.*'image_size'"),
        ({"interpolation": "lanczos"}, "unknown interpolation 'lanczos'.*bilinear"),
        ({"image_size": "64"}, "image_size"),
        ({"image_size": 64.5}, "image_size"),
        ({"image_size": 0}, "image_size is 0"),
        ({"mean": [0.5]}, "mean"),
        ({"mean": ["a", "b", "c"]}, "mean"),
        ({"std": [1, 1, 0]}, "std above 0"),
    ],
)
def test_wrong_preprocessing_is_refused(directory, change, message):
    preprocessing = json.loads((directory / "model.json").read_text())["preprocessing"]
    _edit(directory, preprocessing={**preprocessing, **change})
    with pytest.raises(InputError, match=message):
        flaxmobile.load_metadata(directory)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00{", b'{"format": 1}'])
@pytest.mark.parametrize("load", [load_weights, flaxmobile.load_metadata])
def test_a_broken_description_is_refused(directory, content, load):
    (directory / "model.json").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.json is damaged: "):
        load(directory)


@pytest.mark.parametrize("path", [".", "missing", "empty", "file"])
def test_what_is_no_weights_directory_is_refused(tmp_path, path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"is not a weights directory: it has no model\.json"):
        load_weights(tmp_path / path)


def test_of_a_training_run_the_best_weights_are_named(directory):
    run = directory.parent / "run"
    run.mkdir()
    directory.rename(run / "best")
    with pytest.raises(InputError, match=f"that run's best weights are {run / 'best'}$"):
        load_weights(run)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def _flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing: the weights directory is incomplete"),
        (_truncate, "is damaged: its SHA-256 is not"),
        (_flip_a_byte, "is damaged: its SHA-256 is not"),
    ],
    ids=["missing", "truncated", "one bit flipped"],
)
def test_damage_to_any_file_is_refused_and_the_file_named(directory, damage, message):
    for name, content in _files(directory).items():
        if name.name != "model.json":
            damage(directory / name)
            with pytest.raises(InputError, match=f"{name} {message}"):
                load_weights(directory)
            (directory / name).write_bytes(content)
    load_weights(directory)


def test_a_file_without_a_sum_is_refused(directory):
    sums = json.loads((directory / "model.json").read_text())["sha256"]
    _edit(directory, sha256=dict(list(sums.items())[1:]))
    with pytest.raises(InputError, match=f"{next(iter(sums))}.*SHA-256"):
        load_weights(directory)


def test_bfloat16_is_stored_as_float32(tmp_path, variables):
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables)
    save_weights(tmp_path / "w", "v2", OPTIONS, narrow)
    _, loaded = load_weights(tmp_path / "w")
    assert _bytes(loaded) == _bytes(jax.tree.map(lambda leaf: leaf.astype(np.float32), narrow))


def _without_a_parameter(tree):
    del tree["params"]["stage2_block1"]["expand"]["conv"]["kernel"]


def _with_another_parameter(tree):
    tree["params"]["stem"]["conv"]["bias"] = np.zeros(16, np.float32)


def _with_another_shape(tree):
    tree["batch_stats"]["head"]["norm"]["mean"] = np.zeros((1, 1280), np.float32)


def _with_another_dtype(tree):
    classifier = tree["params"]["classifier"]
    classifier["bias"] = classifier["bias"].astype(np.int32)


def _without_statistics(tree):
    del tree["batch_stats"]


MISTAKES = pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_a_parameter, "params/stage2_block1/expand/conv/kernel is missing"),
        (_with_another_parameter, "params/stem/conv/bias is not a parameter of the model"),
        (
            _with_another_shape,
            r"batch_stats/head/norm/mean is float32\[1, 1280\], the model has float32\[1280\]",
        ),
        (_with_another_dtype, r"classifier/bias is int32\[5\], the model has float32\[5\]"),
        (_without_statistics, "batch_stats/head/norm/mean is missing"),
    ],
)


@MISTAKES
def test_stored_numbers_that_are_not_the_models_are_refused(directory, variables, spoil, message):
    tree = jax.tree.map(np.copy, variables)
    spoil(tree)
    _store(directory, tree)
    with pytest.raises(InputError, match=message):
        load_weights(directory)


@MISTAKES
def test_variables_that_are_not_the_models_are_not_saved(tmp_path, variables, spoil, message):
    tree = jax.tree.map(np.copy, variables)
    spoil(tree)
    with pytest.raises(InputError, match=message):
        save_weights(tmp_path / "w", "v2", OPTIONS, tree)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "metadata", "message"),
    [
        ("v9", OPTIONS, None, "unknown model 'v9'"),
        ("v2", {**OPTIONS, "alpha": 0.0}, None, "alpha is 0.0"),
        ("v2", {**OPTIONS, "num_clases": 5}, None, "unknown option"),
        ("v2", OPTIONS, Metadata(class_names=("a", "b")), "2 class names .* for 5 classes"),
    ],
)
def test_a_wrong_name_option_or_number_of_class_names_is_not_saved(
    tmp_path, variables, name, options, metadata, message
):
    with pytest.raises(InputError, match=message):
        save_weights(tmp_path / "w", name, options, variables, metadata)
    assert not list(tmp_path.iterdir())


def test_a_source_that_json_cannot_hold_is_refused_before_anything_is_written(
    tmp_path, variables, monkeypatch
):
    monkeypatch.setattr(ocp, "Checkpointer", None)
    with pytest.raises(InputError, match=r"model\.json cannot hold \{1\} in options or source"):
        save_weights(tmp_path / "w", "v2", OPTIONS, variables, Metadata(source={"a": {1}}))
    assert not list(tmp_path.iterdir())


def test_options_as_a_module_has_them_come_back(tmp_path):
    """Flax freezes the dictionaries of a module."""
    options = {"alpha": 0.1, "num_classes": 5}
    layer, channels = next(iter(flaxmobile.create_model("ic_conv", **options).layers().items()))
    model = flaxmobile.create_model("ic_conv", **options, pattern={layer: [[1, 2]] * channels})
    save_weights(tmp_path / "w", "ic_conv", options_of(model), random_variables(model))
    assert load_weights(tmp_path / "w")[0] == model


def test_numbers_of_numpy_are_kept_as_plain_ones(tmp_path, variables):
    source = {"accuracy": np.float32(0.5), "images": np.int64(3)}
    save_weights(tmp_path / "w", "v2", OPTIONS, variables, Metadata(source=source))
    assert flaxmobile.load_metadata(tmp_path / "w").source == {"accuracy": 0.5, "images": 3}


def test_defects_while_writing_keep_their_traceback(tmp_path, variables, monkeypatch):
    def save(*_):
        raise ValueError("a defect of Orbax")

    monkeypatch.setattr(ocp.Checkpointer, "save", save)
    with pytest.raises(ValueError, match="a defect of Orbax") as error:
        save_weights(tmp_path / "w", "v2", OPTIONS, variables)
    assert not isinstance(error.value, InputError)
    assert not list(tmp_path.iterdir())


def test_an_existing_directory_is_refused_and_left_as_it_is(directory, variables):
    before = _files(directory)
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    with pytest.raises(InputError, match="copy exists already"):
        save_weights(directory, "v2", OPTIONS, other)
    assert _files(directory) == before


def test_overwriting_replaces_the_whole_directory(directory, variables):
    (directory / "old.txt").write_text("")
    other = jax.tree.map(lambda leaf: leaf + 1, variables)
    save_weights(directory, "v2", OPTIONS, other, overwrite=True)
    assert _bytes(load_weights(directory)[1]) == _bytes(other)
    assert flaxmobile.load_metadata(directory) == Metadata(output="softmax")
    assert [path.name for path in directory.parent.iterdir()] == ["copy"]
    assert not (directory / "old.txt").exists()


FULL_DISK = """
import resource, sys
from flaxmobile import InputError, save_weights
from tests.networks import random_variables, small_model
variables = random_variables(small_model())
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_weights(
        sys.argv[1], "v2", {"alpha": 0.35, "num_classes": 5}, variables, overwrite=True
    )
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("exists", [False, True], ids=["new", "over an old one"])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(directory, tmp_path, exists):
    target = directory if exists else tmp_path / "new"
    before = _files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, target],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"{target} cannot be written: ")
    assert done.stdout.count("\n") == 1
    assert _files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
