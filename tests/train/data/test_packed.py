"""Packed data sets: what `flaxmobile pack` writes and `packed:DIR` reads."""

import io
import json
import pickle
import resource

import numpy as np
import pytest
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.images import UnreadableImageError
from flaxmobile.preprocessing import Preprocessing
from tests.train.data.batches import OneColour, assert_equal, take
from train.data import Selection, open_dataset, packed
from train.data.augment import augment_digit, augment_photograph
from train.data.examples import AugmentedImages, PreparedImages
from train.data.identity import changes, identify
from train.data.packed import write_packed
from train.data.pipeline import eval_batches, train_batches
from train.data.records import Dataset
from train.pack import main


def pack(*flags):
    main("flaxmobile pack", [str(flag) for flag in flags])


def open_packed(path):
    return open_dataset(f"packed:{path}")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "packed"


@pytest.fixture
def packed_flowers(image_folder, output):
    pack(f"folder:{image_folder}", "--output", output)
    return output


def test_a_packed_folder_gives_the_same_batches(flowers, packed_flowers, small):
    dataset = open_packed(packed_flowers)
    assert dataset.class_names == flowers.class_names
    assert dataset.augment is augment_photograph
    reader = AugmentedImages(small, augment_photograph)
    assert_equal(
        take(train_batches(dataset, reader=reader, batch_size=4, seed=1), 5),
        take(train_batches(flowers, reader=reader, batch_size=4, seed=1), 5),
    )
    options = {"reader": PreparedImages(small), "batch_size": 4}
    for split in ("validation", "test"):
        assert_equal(
            take(eval_batches(getattr(dataset, split), **options)),
            take(eval_batches(getattr(flowers, split), **options)),
        )


def test_several_shards_hold_what_one_does(image_folder, flowers, output, monkeypatch):
    monkeypatch.setattr(packed, "_SHARD_BYTES", 3 * len(flowers.train[0].encoded))
    pack(f"folder:{image_folder}", "--output", output)
    assert len(list(output.glob("train-*.array_record"))) == 5
    source = pickle.loads(pickle.dumps(open_packed(output).train))
    assert [source[i][:2] for i in range(15)] == [flowers.train[i][:2] for i in range(15)]
    np.testing.assert_array_equal(source.labels(), flowers.train.labels())


def test_labels_of_several_classes(image_folder, tmp_path, output):
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n000,a|b\n001,b\n002,a\n003,a|b\n004,b\n")
    flags = ["--labels", table, "--multi-label", "--val-split", "0.4"]
    pack(f"folder:{image_folder}/train/daisy", "--output", output, *flags)
    dataset = open_packed(output)
    selection = Selection(labels=(str(table),), multi_label=True, val_split=0.4)
    folder = open_dataset(f"folder:{image_folder}/train/daisy", selection=selection)
    assert dataset.multi_label
    assert dataset.train[0][:2] == folder.train[0][:2]
    np.testing.assert_array_equal(dataset.train.labels(), folder.train.labels())


def test_digits_stay_digits(output):
    preset, source = Preprocessing(64, 64, mean=(0.5,) * 3), OneColour(3)
    digits = Dataset("d", ("0", "1"), source, source, None, augment_digit, preset, workers=0)
    records = [source[index] for index in range(3)]
    write_packed(output, digits, {"train": records, "validation": records[:1]})
    dataset = open_packed(output)
    assert (dataset.augment, dataset.preset, dataset.workers) == (augment_digit, preset, 0)
    assert (len(dataset.train), len(dataset.validation), dataset.test) == (3, 1, None)


# ---- smaller images


def test_larger_images_are_scaled_to_the_shorter_side(image_folder, flowers, output, tmp_path):
    pixels = np.linspace(0, 255, 3 * 400 * 300).reshape(300, 400, 3).astype(np.uint8)
    path = image_folder / "train" / "daisy" / "000.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(pixels).save(path, "jpeg", quality=95, exif=exif)
    pack(f"folder:{image_folder}", "--output", output, "--max-side", 36)
    source = open_packed(output).train
    assert source[1].encoded == flowers.train[1].encoded, "31×40 pixels"
    with Image.open(io.BytesIO(source[0].encoded)) as image:
        assert (image.format, image.size) == ("JPEG", (36, 48))
        with Image.open(path) as large:
            expected = large.transpose(Image.Transpose.ROTATE_270).resize((36, 48))
        difference = np.asarray(image, float) - np.asarray(expected, float)
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("flags", [[], ["--max-side", "20"]])
def test_a_bad_image_stops_or_is_left_out(image_folder, output, flags, capsys):
    bad = image_folder / "train" / "rose" / "007.png"
    if flags:
        bad.write_bytes(bad.read_bytes()[:500])
    else:
        bad.unlink()
        bad.symlink_to("nowhere.png")
    before = set(output.parent.iterdir())
    with pytest.raises(UnreadableImageError, match=r"rose/007\.png cannot be read"):
        pack(f"folder:{image_folder}", "--output", output, *flags)
    assert set(output.parent.iterdir()) == before
    pack(f"folder:{image_folder}", "--output", output, *flags, "--on-bad-image", "skip")
    printed = capsys.readouterr().out
    assert f"wrote 14 train, 9 validation, 6 test images to {output}" in printed
    assert "1 unreadable images are left out" in printed
    assert open_packed(output).train.labels().tolist() == [0] * 5 + [1] * 4 + [2] * 5


# ---- identity


def test_identity_is_the_content_and_not_the_place(image_folder, packed_flowers):
    before = identify(open_packed(packed_flowers))
    moved = packed_flowers.rename(packed_flowers.with_name("elsewhere"))
    assert changes(before, identify(open_packed(moved))) == []
    path = image_folder / "val" / "rose" / "004.png"
    path.write_bytes(path.with_name("003.png").read_bytes())
    pack(f"folder:{image_folder}", "--output", packed_flowers)
    assert changes(before, identify(open_packed(packed_flowers))) == [
        "validation: 9 images before, 9 images now that are not the same"
    ]


# ---- what cannot be packed or read


def test_existing_folders_and_wrong_values_are_refused(image_folder, packed_flowers, capsys):
    name = f"folder:{image_folder}"
    for flags, message in [
        (["--output", packed_flowers], f"--output {packed_flowers} exists: remove it"),
        (["--output", "/nowhere/packed"], "is no directory to write in"),
        (["--output", "new", "--max-side", "0"], "--max-side is 0; accepted: 1 and more"),
        (["--output", "new", "--quality", "96"], "--quality is 96; accepted: 1 to 95"),
        (["--output", "new", "--val-split", "2"], "--val-split is 2.0; accepted"),
    ]:
        with pytest.raises(SystemExit) as stop:
            pack(name, *flags)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_a_full_disk_leaves_nothing(image_folder, output):
    before = set(output.parent.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot be written: .*File too large"):
            pack(f"folder:{image_folder}", "--output", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert set(output.parent.iterdir()) == before


def test_other_folders_are_told(tmp_path):
    with pytest.raises(InputError, match=r"has no packed\.json: packed:DIR needs a folder that"):
        open_packed(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"packed\.json is damaged"),
        ("[]", r"packed\.json has version None"),
        ('{"version": 9}', r"packed\.json has version 9; accepted: 1; pack the data anew"),
    ],
)
def test_a_damaged_index_is_told(packed_flowers, content, message):
    (packed_flowers / "packed.json").write_text(content)
    with pytest.raises(InputError, match=message):
        open_packed(packed_flowers)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def remove(path):
    path.unlink()


def relabel(path):
    np.save(path, np.full(15, 3, np.int32))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("train-00000.array_record", cut, r"\d+ bytes instead of \d+: copy it again"),
        ("train-00000.array_record", remove, r"0 bytes instead of \d+: copy it again"),
        ("train-labels.npy", cut, "cannot be read"),
        ("train-labels.npy", remove, "cannot be read: .*No such file"),
        ("train-labels.npy", relabel, "does not fit the 15 images and 3 classes"),
    ],
)
def test_a_damaged_file_is_named(packed_flowers, file, damage, message):
    damage(packed_flowers / file)
    with pytest.raises(InputError, match=f"{file}.*{message}"):
        open_packed(packed_flowers)


def test_a_flipped_bit_is_found_by_its_record(packed_flowers):
    path = packed_flowers / "train-00000.array_record"
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    source = open_packed(packed_flowers).train
    with pytest.raises(UnreadableImageError, match=r"packed/train/\d+ cannot be read: .*hash"):
        [source[index] for index in range(len(source))]


def test_flags_of_a_selection_are_refused(packed_flowers):
    with pytest.raises(InputError, match="--val-split does not apply to packed:"):
        open_dataset(f"packed:{packed_flowers}", selection=Selection(val_split=0.5))


def test_the_index_says_how_the_images_are_treated(packed_flowers):
    index = json.loads((packed_flowers / "packed.json").read_text())
    assert index["class_names"] == ["daisy", "rose", "tulip"]
    assert index["splits"]["train"]["images"] == 15
