import jax
import numpy as np
import pytest

from flaxmobile import InputError, export, fold_batch_norm, jit_inference, load_exported


@pytest.fixture(scope="module")
def file(network, metadata, tmp_path_factory):
    path = tmp_path_factory.mktemp("stablehlo") / "v2.stablehlo"
    export(*network, path, "stablehlo", metadata=metadata, raw_images=True)
    return path


def test_a_file_has_three_platforms_and_says_what_it_takes(file, metadata):
    loaded = load_exported(file)
    assert loaded.platforms == ("cpu", "cuda", "tpu")
    assert (loaded.metadata, loaded.raw_images) == (metadata, True)
    assert (loaded.images.shape, loaded.images.dtype) == ((1, 48, 48, 3), np.uint8)
    exported = jax.export.deserialize(bytearray(file.read_bytes()))  # by JAX alone
    assert exported.platforms == loaded.platforms


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 48, 48, 3), np.float32),
        np.zeros((2, 48, 48, 3), np.uint8),
        np.zeros((48, 48, 3), np.uint8),
    ],
    ids=("float32", "two", "one without an axis"),
)
def test_other_images_are_refused(images, file):
    with pytest.raises(InputError, match=r"the file takes uint8\[1, 48, 48, 3\]"):
        load_exported(file)(images)


@pytest.mark.parametrize("content", [b"", b"text", None], ids=("empty", "text", "cut"))
def test_what_is_no_such_file_is_refused_by_name(content, file, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(InputError, match=rf"{path} is not a StableHLO file"):
        load_exported(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_exported(tmp_path / "gone")


def test_jit_inference_can_be_exported(network, metadata, images):
    model, variables = fold_batch_norm(*network)
    x = metadata.preprocessing.normalize(images)
    infer = jit_inference(model, variables)
    exported = jax.export.export(jax.jit(infer), platforms=["cpu", "tpu"])(x)
    again = jax.export.deserialize(exported.serialize())
    expected = np.asarray(infer(x))
    np.testing.assert_allclose(again.call(x), expected, atol=1e-4 * np.abs(expected).max())
