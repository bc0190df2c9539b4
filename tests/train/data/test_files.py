"""Image files in a folder: which are found, by what, and what is left out."""

import sys
from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from flaxmobile.images import register_heif
from train.data import open_dataset
from train.data.files import image_suffixes


def test_what_is_left_out_is_said(image_folder, write_images):
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        write_images(image_folder / "train" / "rose" / name, 1)
    write_images(image_folder / "train" / "lost+found", 1)
    (image_folder / "train" / "rose" / "._000.png").write_text("")
    (image_folder / "val" / "rose" / "Thumbs.db").write_text("")
    (image_folder / "train" / "rose" / "notes.txt").write_text("no image")
    (image_folder / "train" / "README").write_text("")
    (image_folder / "vaild").mkdir()
    dataset = open_dataset(f"folder:{image_folder}")
    assert len(dataset.train) == 15
    assert dataset.class_names == ("daisy", "rose", "tulip")
    (note,) = dataset.notes
    for said in (
        "hidden or system files and folders (6: ._000.png, .ipynb_checkpoints, @eaDir, Thumbs.db",
        "files that are no images (1: notes.txt)",
        "files and folders beside the classes or splits (2: README, vaild)",
    ):
        assert said in note


def test_links_may_form_circles(image_folder):
    rose = image_folder / "train" / "rose"
    for place in (rose / "back", rose / "deep" / "up", image_folder / "train" / "loop"):
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(image_folder / "train", target_is_directory=True)
    elsewhere = image_folder.parent / "elsewhere"
    (image_folder / "train" / "daisy").rename(elsewhere)
    (image_folder / "train" / "daisy").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "circle").symlink_to(elsewhere, target_is_directory=True)
    dataset = open_dataset(f"folder:{image_folder}")
    assert dataset.class_names == ("daisy", "rose", "tulip")
    assert len(dataset.train) == 15
    assert "links to a folder that holds them" in dataset.notes[0]
    assert "(4: back, circle, loop, up)" in dataset.notes[0]


@pytest.mark.parametrize(
    "suffix", [".webp", ".bmp", ".tif", ".TIFF", ".gif", ".jfif", ".avif", ".ppm", ".jp2"]
)
def test_images_of_every_format_are_read(image_folder, write_images, suffix):
    write_images(image_folder / "train" / "rose", 1, first=40, suffix=suffix)
    dataset = open_dataset(f"folder:{image_folder}")
    assert (len(dataset.train), dataset.notes) == (16, ())


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.jpg.1"])
def test_images_under_other_suffixes_are_found_by_content(image_folder, name):
    path = image_folder / "train" / "rose" / "005.png"
    Image.open(path).save(path.with_name(name), "jpeg")
    dataset = open_dataset(f"folder:{image_folder}")
    assert (len(dataset.train), dataset.notes) == (16, ())


@pytest.fixture
def heic_reader(monkeypatch):
    """A stand-in for pillow-heif, which reads PNG files under HEIC's suffix; PIL knows neither."""
    for name in ("OPEN", "EXTENSION", "ID"):
        monkeypatch.setattr(Image, name, getattr(Image, name).copy())

    def register():
        Image.register_open("HEIF", PngImageFile)
        Image.register_extension("HEIF", ".heic")

    def forget():
        register_heif.cache_clear()
        image_suffixes.cache_clear()

    forget()
    yield SimpleNamespace(register_heif_opener=register)
    forget()


@pytest.mark.parametrize("installed", [False, True])
def test_heic_files_need_pillow_heif(image_folder, monkeypatch, heic_reader, installed):
    monkeypatch.setitem(sys.modules, "pillow_heif", heic_reader if installed else None)
    path = image_folder / "train" / "rose" / "005.png"
    path.rename(path.with_name("photo.HEIC"))
    dataset = open_dataset(f"folder:{image_folder}")
    assert len(dataset.train) == 14 + installed
    said = ("left out: HEIC files, which pip install pillow-heif makes readable (1: photo.HEIC)",)
    assert dataset.notes == (() if installed else said)
