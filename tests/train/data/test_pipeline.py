"""Batches of pixels: their order, their content, and what becomes of unreadable images."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from flaxmobile.errors import InputError
from flaxmobile.preprocessing import Preprocessing
from tests.train.data.batches import OneColour, assert_equal, numbers, take
from train.data.examples import AugmentedImages, PreparedImages
from train.data.pipeline import Share, eval_batches, train_batches

DTYPES = {"image": np.uint8, "label": np.int32, "weight": np.float32, "unreadable": np.int32}


@pytest.fixture
def evaluate(flowers, small):
    def make(**options):
        return eval_batches(
            flowers.train, **({"reader": PreparedImages(small), "batch_size": 4} | options)
        )

    return make


def damage(image_folder, *names):
    for name in names:
        path = image_folder / name
        path.write_bytes(path.read_bytes()[:-200])


# ---- training


def test_training_batches_are_pixels_and_labels(train):
    for batch in take(train(), 3):
        assert {name: values.dtype for name, values in batch.items()} == DTYPES
        assert batch["image"].shape == (4, 24, 24, 3)
        np.testing.assert_array_equal(batch["label"], numbers([batch]) // 5)
        np.testing.assert_array_equal(batch["weight"], np.ones(4))
        np.testing.assert_array_equal(batch["unreadable"], -np.ones(4))


def test_every_epoch_holds_every_record_once_in_a_new_order(train):
    epochs = numbers(take(train(), 15)).reshape(4, 15)
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(15)] * 4)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_each_look_at_an_image_is_augmented_anew(train):
    batches = take(train(batch_size=15), 6)
    looks = [batch["image"][numbers([batch]) == 3] for batch in batches]
    assert len({look.tobytes() for look in looks}) == 6


def test_the_seed_alone_decides(train):
    assert_equal(take(train(seed=5), 4), take(train(seed=5), 4))
    assert list(numbers(take(train(seed=5), 4))) != list(numbers(take(train(seed=6), 4)))


@pytest.mark.parametrize("start", [1, 4, 9])
def test_a_stream_that_starts_later_goes_on_bit_for_bit(train, start):
    assert_equal(take(train(), 12)[start:], take(train(start=start), 12 - start))


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_batches_may_have_any_size(train, batch_size):
    batch = take(train(batch_size=batch_size), 1)[0]
    assert batch["image"].shape == (batch_size, 24, 24, 3)
    assert len(set(numbers([batch]))) == min(batch_size, 15)


@pytest.mark.parametrize("start", [0, 2])
def test_processes_read_the_rows_of_one(train, start):
    whole = take(train(batch_size=6, start=start), 3)
    shares = [take(train(batch_size=6, start=start, share=Share(i, 3)), 3) for i in range(3)]
    together = [
        {name: np.concatenate([part[name] for part in parts]) for name in DTYPES}
        for parts in zip(*shares, strict=True)
    ]
    assert_equal(together, whole)


def test_processes_evaluate_each_image_once(evaluate):
    whole = take(evaluate(batch_size=4))
    shares = [take(evaluate(batch_size=4, share=Share(i, 2))) for i in range(2)]
    assert [part["label"].shape for part in shares[0]] == [(2,)] * len(whole)
    together = [
        {name: np.concatenate([part[name] for part in parts]) for name in DTYPES}
        for parts in zip(*shares, strict=True)
    ]
    assert_equal(together, whole)


def test_a_dataset_of_one_record_can_be_trained_on(flowers, small):
    dataset = dataclasses.replace(flowers, train=OneColour(1))
    reader = AugmentedImages(small, flowers.augment)
    batches = take(train_batches(dataset, reader=reader, batch_size=3, seed=0), 2)
    assert (numbers(batches) == 0).all()


@pytest.mark.parametrize("start", [0, 2])
def test_repeated_variants_of_an_image_follow_each_other(train, start):
    """15 records, thrice: 9 batches of 5 see each of them three times."""
    batches = take(train(batch_size=5, repeats=3, start=start), 9 - start)
    order = take(train(batch_size=5), 3)
    expected = np.repeat(numbers(order), 3)[5 * start :]
    np.testing.assert_array_equal(numbers(batches), expected)
    if start == 0:
        variants = np.concatenate([batch["image"] for batch in batches])[:3]
        assert len({variant.tobytes() for variant in variants}) == 3


# ---- evaluation


def test_evaluation_reads_every_record_once_in_order(evaluate):
    batches = take(evaluate())
    assert [batch["image"].shape for batch in batches] == [(4, 24, 24, 3)] * 4
    weights = np.concatenate([batch["weight"] for batch in batches])
    np.testing.assert_array_equal(weights, [1] * 15 + [0])
    np.testing.assert_array_equal(numbers(batches)[:15], np.arange(15))
    labels = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(labels[:15], np.arange(15) // 5)
    assert {name: values.dtype for name, values in batches[3].items()} == DTYPES


def test_evaluation_prepares_images_as_torchvision_does(flowers):
    reader = PreparedImages(Preprocessing(image_size=24))
    reference = Compose([Resize(27), CenterCrop(24)])
    batch = take(eval_batches(flowers.train, reader=reader, batch_size=15))[0]
    for index, pixels in enumerate(batch["image"]):
        with Image.open(flowers.train[index].name) as image:
            np.testing.assert_array_equal(pixels, reference(image))


# ---- images that cannot be read


def test_an_unreadable_image_stops_training_by_its_name(train, image_folder):
    damage(image_folder, "train/rose/007.png")
    with pytest.raises(InputError, match=r"flowers/train/rose/007\.png cannot be read") as error:
        take(train(), 15)
    assert "\n" not in str(error.value)


def test_an_unreadable_image_stops_evaluation_by_its_name(evaluate, image_folder):
    (image_folder / "train/tulip/011.png").unlink()
    with pytest.raises(InputError, match=r"flowers/train/tulip/011\.png cannot be read: No such"):
        take(evaluate())


def test_skipping_takes_the_next_readable_image_and_reports_the_other(train, image_folder):
    whole = take(train(), 15)
    damage(image_folder, "train/rose/007.png", "train/rose/008.png", "train/tulip/014.png")
    instead = {7: 9, 8: 9, 14: 0}
    skipping = take(train(skip_unreadable=True), 15)
    for before, after in zip(whole, skipping, strict=True):
        wanted = numbers([before]).tolist()
        assert numbers([after]).tolist() == [instead.get(number, number) for number in wanted]
        np.testing.assert_array_equal(after["label"], numbers([after]) // 5)
        assert after["unreadable"].tolist() == [n if n in instead else -1 for n in wanted]
        assert (after["weight"] == 1).all()
        good = after["unreadable"] == -1
        np.testing.assert_array_equal(after["image"][good], before["image"][good])


def test_skipping_gives_no_weight_in_evaluation(evaluate, image_folder):
    damage(image_folder, "train/rose/007.png", "train/tulip/014.png")
    batches = take(evaluate(skip_unreadable=True))
    weights = np.concatenate([batch["weight"] for batch in batches])
    assert np.flatnonzero(weights == 0).tolist() == [7, 14, 15]
    unreadable = np.concatenate([batch["unreadable"] for batch in batches])
    assert unreadable[unreadable >= 0].tolist() == [7, 14]


def test_skipping_ends_where_no_image_can_be_read(train, image_folder):
    for path in (image_folder / "train").rglob("*.png"):
        path.write_text("")
    with pytest.raises(InputError, match=r"flowers: none of the 15 images can be read"):
        take(train(skip_unreadable=True), 1)


class WrongLabel(OneColour):
    def __getitem__(self, index):
        raise InputError(f"memory/{index} has label 9; accepted: 0 to 2")


def test_a_wrong_label_is_never_skipped(flowers, small):
    dataset = dataclasses.replace(flowers, train=WrongLabel(5))
    reader = AugmentedImages(small, flowers.augment)
    options = {"batch_size": 4, "skip_unreadable": True}
    with pytest.raises(InputError, match="has label 9"):
        take(train_batches(dataset, reader=reader, seed=0, **options), 1)
    with pytest.raises(InputError, match="memory/0 has label 9"):
        take(eval_batches(dataset.train, reader=PreparedImages(small), **options), 1)


# ---- the numbers of torchvision

SIZES = [(1, 1), (23, 24), (24, 24), (27, 27), (27, 300), (301, 27), (40, 41), (61, 37), (500, 375)]
MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize(("crop", "resize"), [(24, 27), (24, 24), (25, 32), (32, 24), (33, 24)])
def test_evaluation_has_the_pixels_of_torchvision(crop, resize, interpolation):
    reference = Compose([Resize(resize, MODES[interpolation]), CenterCrop(crop)])
    preprocessing = Preprocessing(crop, resize, interpolation=interpolation)
    for width, height in SIZES:
        rng = np.random.default_rng(width * height)
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        np.testing.assert_array_equal(preprocessing.crop(image), reference(image))


@pytest.mark.parametrize("size", range(32, 300, 13))
def test_the_default_resize_keeps_seven_eighths(size):
    image = Image.fromarray(np.random.default_rng(size).integers(0, 256, (90, 131, 3), np.uint8))
    reference = Compose([Resize(round(size / 0.875)), CenterCrop(size)])
    np.testing.assert_array_equal(Preprocessing(size).crop(image), reference(image))
