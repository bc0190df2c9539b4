"""IDX files, as of MNIST."""

import gzip
import io
import pickle
import struct

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.mnist import read_image_file, read_label_file

from flaxmobile.errors import InputError
from flaxmobile.images import read_image
from train.data import Selection, open_dataset
from train.data.augment import augment_digit
from train.data.idx import read_idx

SHAPE = (8, 6)


def encode(values, kind=8):
    return (
        struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.tobytes()
    )


def write(folder, split, count, pack=lambda content: content, suffix="", shape=SHAPE):
    """Images of noise of three classes, unequally often."""
    rng = np.random.default_rng(count)
    folder.mkdir(exist_ok=True)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    labels = np.minimum(np.arange(count) % 6, 2).astype(np.uint8)
    for name, values in (("images-idx3", images), ("labels-idx1", labels)):
        (folder / f"{split}-{name}-ubyte{suffix}").write_bytes(pack(encode(values)))
    return images, labels


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
def test_idx_files_are_read(tmp_path, pack, suffix):
    images, labels = write(tmp_path, "train", 60, pack, suffix)
    tests, _ = write(tmp_path, "t10k", 12, pack, suffix)
    dataset = open_dataset(f"idx:{tmp_path}", selection=Selection(val_split=0.2))
    assert dataset.class_names == ("0", "1", "2")
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [48, 12, 12]
    assert (dataset.augment, dataset.workers) == (augment_digit, 0)
    assert dataset.preset.image_size == dataset.preset.resize_size == 64
    assert "12 of 60 training images are held out" in dataset.notes[0]
    assert np.bincount(dataset.validation.labels()).tolist() == [2, 2, 8]
    expected = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    found = {}
    for source in (dataset.train, dataset.validation):
        for index in range(len(source)):
            record = source[index]
            with Image.open(io.BytesIO(record.encoded)) as image:
                assert image.size == (6, 8)
                found[image.tobytes()] = record.label
    assert found == expected
    record = pickle.loads(pickle.dumps(dataset.test))[3]
    pixels = np.asarray(read_image(record.encoded, record.name))
    np.testing.assert_array_equal(pixels, np.stack([tests[3]] * 3, -1))
    assert record.name.endswith(f"t10k-images-idx3-ubyte{suffix}/3")


def test_idx_files_have_the_numbers_of_torchvision(tmp_path):
    write(tmp_path, "train", 7)
    images, labels = (tmp_path / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1"))
    np.testing.assert_array_equal(read_idx(images), read_image_file(str(images)))
    np.testing.assert_array_equal(read_idx(labels), read_label_file(str(labels)))


def test_colours_are_read(tmp_path):
    images, _ = write(tmp_path, "train", 60, shape=(4, 5, 3))
    dataset = open_dataset(f"idx:{tmp_path}")
    assert dataset.test is None
    pixels = np.asarray(read_image(dataset.train[0].encoded, ""))
    assert any(np.array_equal(pixels, image) for image in images)


def broken(folder, fault):
    """Break a good folder in one way; return what the error must say."""
    images = folder / "train-images-idx3-ubyte"
    content = images.read_bytes()
    if fault == "no folder":
        return folder / "nothing", ["not a folder", "train-images-idx3-ubyte"]
    if fault == "no files":
        images.rename(folder / "a")
        (folder / "train-labels-idx1-ubyte").unlink()
        return folder, ["no IDX file of training images"]
    if fault == "no labels":
        (folder / "train-labels-idx1-ubyte").unlink()
        return folder, ["only images or only labels of its train split"]
    if fault == "cut":
        images.write_bytes(content[:-5])
        return folder, ["shape [60, 8, 6], and 2875 bytes follow"]
    if fault == "header":
        images.write_bytes(content[:6])
        return folder, ["is damaged"]
    if fault == "gzip":
        images.write_bytes(gzip.compress(content)[:-9])
        return folder, ["is damaged"]
    if fault == "floats":
        images.write_bytes(encode(np.zeros((60, 8, 6), np.float32), kind=13))
        return folder, ["not an IDX file of bytes", "0x0d"]
    if fault == "counts":
        images.write_bytes(encode(np.zeros((61, 8, 6), np.uint8)))
        return folder, ["[61, 8, 6]", "[60]"]
    if fault == "several":
        write(folder, "letters-train", 6)
        return folder, ["several IDX files of train images", "letters-train-images"]
    raise AssertionError(fault)


FAULTS = [
    "no folder", "no files", "no labels", "cut", "header", "gzip", "floats", "counts", "several",
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_idx_files_are_refused_with_the_reason(tmp_path, fault):
    write(tmp_path, "train", 60)
    path, said = broken(tmp_path, fault)
    with pytest.raises(InputError) as error:
        open_dataset(f"idx:{path}")
    assert "\n" not in str(error.value)
    for part in said:
        assert part in str(error.value)


@pytest.mark.parametrize("selection", [Selection(labels=("a.csv",)), Selection(splits={"a": "b"})])
def test_flags_that_say_nothing_of_idx_files_are_refused(tmp_path, selection):
    with pytest.raises(InputError, match="does not apply to idx:"):
        open_dataset(f"idx:{tmp_path}", selection=selection)
