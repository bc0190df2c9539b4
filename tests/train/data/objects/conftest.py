"""A folder of two training images and one for validation, in each format of boxes."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

SIZES = {"a": (40, 30), "b": (20, 50), "c": (64, 48)}
"""Image -> (width, height)."""

SPLITS = {"train": ("a", "b"), "val": ("c",)}

OBJECTS = {
    "a": [((4, 3, 24, 15), "cat"), ((0, 0, 40, 30), "dog")],
    "b": [],
    "c": [((16, 12, 48, 36), "dog")],
}
"""Image -> (box, name) of its objects."""

NAMES = ("cat", "dog")


def write_image(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZES[name]).save(path)


def write_coco(root: Path) -> None:
    for split, images in SPLITS.items():
        content = {
            "images": [
                {"id": 7 + n, "file_name": f"{name}.jpg", "width": w, "height": h}
                for n, name in enumerate(images)
                for w, h in [SIZES[name]]
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            "annotations": [
                {
                    "id": 100 * n + k,
                    "image_id": 7 + n,
                    "category_id": 1 + NAMES.index(label),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "iscrowd": 0,
                }
                for n, name in enumerate(images)
                for k, ((x0, y0, x1, y1), label) in enumerate(OBJECTS[name])
            ],
        }
        file = root / "annotations" / f"instances_{split}2017.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        for name in images:
            write_image(root / f"{split}2017" / f"{name}.jpg", name)


def write_voc(root: Path) -> None:
    for split, images in SPLITS.items():
        listing = root / "ImageSets" / "Main" / f"{split}.txt"
        listing.parent.mkdir(parents=True, exist_ok=True)
        listing.write_text("".join(f"{name}\n" for name in images))
        for name in images:
            tree = ElementTree.Element("annotation")
            ElementTree.SubElement(tree, "filename").text = f"{name}.jpg"
            for (x0, y0, x1, y1), label in OBJECTS[name]:
                item = ElementTree.SubElement(tree, "object")
                ElementTree.SubElement(item, "name").text = label
                ElementTree.SubElement(item, "difficult").text = "0"
                box = ElementTree.SubElement(item, "bndbox")
                corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
                for side, value in corners.items():
                    ElementTree.SubElement(box, side).text = str(value)
            file = root / "Annotations" / f"{name}.xml"
            file.parent.mkdir(exist_ok=True)
            ElementTree.ElementTree(tree).write(file)
            write_image(root / "JPEGImages" / f"{name}.jpg", name)


def write_yolo(root: Path) -> None:
    for split, images in SPLITS.items():
        for name in images:
            write_image(root / "images" / split / f"{name}.jpg", name)
            width, height = SIZES[name]
            lines = [
                f"{NAMES.index(label)} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} "
                f"{(x1 - x0) / width} {(y1 - y0) / height}\n"
                for (x0, y0, x1, y1), label in OBJECTS[name]
            ]
            file = root / "labels" / split / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            if lines:  # an image without objects needs no file
                file.write_text("".join(lines))
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


@pytest.fixture(params=WRITERS)
def annotated(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder, in each format in turn."""
    WRITERS[request.param](tmp_path)
    return tmp_path
