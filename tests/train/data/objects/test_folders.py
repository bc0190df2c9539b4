"""Folders of images with boxes: three formats hold the same objects, and say what is wrong."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.images import UnreadableImageError
from tests.train.data.objects.conftest import (
    OBJECTS,
    SIZES,
    write_coco,
    write_image,
    write_voc,
    write_yolo,
)
from train.data.objects.folders import open_annotated
from train.data.records import Selection


def opened(path, **selection):
    return open_annotated(path, Selection(**selection))


def by_name(source):
    return {record.name[-5]: record.label for record in map(source.__getitem__, range(len(source)))}


def test_every_format_holds_the_same_objects(annotated):
    splits = opened(annotated)
    assert splits.class_names == ("__background__", "cat", "dog")
    found = by_name(splits.train) | by_name(splits.validation)
    assert list(found) == ["a", "b", "c"]
    for name, annotations in found.items():
        assert annotations.size == SIZES[name]
        boxes = np.array([box for box, _ in OBJECTS[name]], np.float32).reshape(-1, 4)
        np.testing.assert_allclose(annotations.boxes, boxes, atol=1e-4)
        names = [splits.class_names[label] for label in annotations.labels]
        assert names == [name for _, name in OBJECTS[name]]
        assert not annotations.ignored.any()
    assert splits.test is None and splits.notes == ()
    assert splits.train.labels().tolist() == [[0, 1, 1], [0, 0, 0]]


def test_images_are_held_out_where_there_is_no_validation(tmp_path):
    write_voc(tmp_path)
    shutil.rmtree(tmp_path / "ImageSets")  # then all images are for training
    for folder, suffix in (("Annotations", "xml"), ("JPEGImages", "jpg")):
        shutil.copy(tmp_path / folder / f"a.{suffix}", tmp_path / folder / f"d.{suffix}")
    splits = opened(tmp_path)
    assert (len(splits.train), len(splits.validation)) == (3, 1)
    assert "held out" in splits.notes[0]


def test_a_missing_image_is_unreadable_when_it_is_read(annotated):
    splits = opened(annotated)
    path, _ = splits.train.files[0]
    shutil.os.remove(path)
    with pytest.raises(UnreadableImageError, match=r"a\.jpg cannot be read"):
        splits.train[0]


def test_roboflow_has_its_annotations_beside_the_images(tmp_path):
    write_coco(tmp_path)
    for split, name in (("train", "train"), ("val", "valid")):
        (tmp_path / f"{split}2017").rename(tmp_path / name)
        json_file = tmp_path / "annotations" / f"instances_{split}2017.json"
        json_file.rename(tmp_path / name / "_annotations.coco.json")
    (tmp_path / "annotations").rmdir()
    splits = opened(tmp_path)
    assert [*by_name(splits.train), *by_name(splits.validation)] == ["a", "b", "c"]


def test_yolo_of_roboflow_has_splits_above_images(tmp_path):
    write_yolo(tmp_path)
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / kind / split).rename(tmp_path / split / kind)
        (tmp_path / kind).rmdir()
    for settings in ("train: ../train/images\nval: ../val/images\n", ""):
        (tmp_path / "data.yaml").write_text(f"{settings}names: {{0: cat, 1: dog}}\n")
        splits = opened(tmp_path)
        assert [*by_name(splits.train), *by_name(splits.validation)] == ["a", "b", "c"]


def edit_coco(change):
    def edit(root):
        write_coco(root)
        for split in ("train", "val"):
            file = root / "annotations" / f"instances_{split}2017.json"
            content = json.loads(file.read_text())
            change(content)
            file.write_text(json.dumps(content))

    return edit


def renumber(content, numbers):
    """Give the categories other ids."""
    ids = dict(zip((1, 2), numbers, strict=True))
    for entry in content["categories"]:
        entry["id"] = ids[entry["id"]]
    for entry in content["annotations"]:
        entry["category_id"] = ids[entry["category_id"]]


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ((1, 3), ("cat", "N/A", "dog")),  # as COCO's 80 categories have numbers up to 90
        ((0, 1), ("cat", "dog")),
        ((17, 90), ("cat", "dog")),
    ],
)
def test_ids_of_coco_are_labels_where_they_can_be(tmp_path, ids, names):
    edit_coco(lambda content: renumber(content, ids))(tmp_path)
    splits = opened(tmp_path)
    assert splits.class_names == ("__background__", *names)
    (dog,) = splits.validation[0].label.labels
    assert splits.class_names[dog] == "dog"


def add(content, **entry):
    content["annotations"].append({"image_id": 7, "category_id": 1, **entry})


def test_boxes_end_at_the_edges_and_those_without_area_are_counted(tmp_path):
    def change(content):
        content["annotations"].clear()
        add(content, bbox=[-5, 10, 1000, 1000])
        add(content, bbox=[3, 3, 0, 5])  # empty
        add(content, bbox=[500, 3, 5, 5])  # outside
        add(content, bbox=[1, 2, 3, 4], iscrowd=1)

    edit_coco(change)(tmp_path)
    splits = opened(tmp_path)
    first = splits.train[0].label
    assert first.boxes.tolist() == [[0, 10, 40, 30], [1, 2, 4, 6]]
    assert first.ignored.tolist() == [False, True]
    (note,) = splits.notes
    assert "boxes without area inside their image (4: a.jpg box 2, a.jpg box 3, " in note


def test_difficult_objects_are_ignored(tmp_path):
    write_voc(tmp_path)
    file = tmp_path / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    assert opened(tmp_path).train[0].label.ignored.tolist() == [True, False]


def replace(name, old, new, write):
    def edit(root):
        write(root)
        file = root / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return edit


WRONG = {
    "nothing": (lambda root: None, r"has no boxes; accepted: annotations/\*\.json \(COCO\)"),
    "missing images": (
        edit_coco(lambda c: c["images"].append({"id": 70, "file_name": "lost.jpg"})),
        r"instances_train2017\.json names 1 images that are not in .*train2017: lost\.jpg",
    ),
    "no images": (
        edit_coco(lambda c: [image.update(file_name="lost.jpg") for image in c["images"]]),
        r"names lost\.jpg, which is in none of ",
    ),
    "not JSON": (lambda root: replace(COCO, "{", "", write_coco)(root), "is not JSON"),
    "captions": (edit_coco(lambda c: c.pop("categories")), "has no list 'categories'"),
    "inverted": (
        edit_coco(lambda c: add(c, bbox=[9, 2, -3, 4])),
        r"a\.jpg: box 3 is inverted, .* = \(9, 2, 6, 6\)",
    ),
    "not finite": (edit_coco(lambda c: add(c, bbox=[9, 2, float("nan"), 4])), "4 finite numbers"),
    "no box": (edit_coco(lambda c: add(c, bbox=[1, 2, 3])), "lacks image_id, category_id or"),
    "category": (
        edit_coco(lambda c: add(c, bbox=[1, 2, 3, 4], category_id=9)),
        "is of category 9, which is not in the file",
    ),
    "image": (
        edit_coco(lambda c: add(c, bbox=[1, 2, 3, 4], image_id=9)),
        "is of image 9, which is not in the file",
    ),
    "no boxes": (edit_coco(lambda c: c["annotations"].clear()), "split train has a box"),
    "VOC's image": (
        lambda root: (write_voc(root), (root / "JPEGImages" / "b.jpg").unlink()),
        r"b\.xml describes b\.jpg, which is not in .*JPEGImages",
    ),
    "VOC's XML": (
        lambda root: (write_voc(root), (root / "Annotations" / "b.xml").unlink()),
        r"b\.xml cannot be read: No such file",
    ),
    "VOC's tags": (replace("Annotations/a.xml", "</name>", "", write_voc), r"a\.xml is not XML"),
    "VOC's numbers": (
        replace("Annotations/a.xml", "<xmin>5", "<xmin>five", write_voc),
        r"a\.xml: an object has the box \['five', ",
    ),
    "VOC's classes": (
        replace("Annotations/c.xml", "dog", "cow", write_voc),
        "classes of validation that are not in train: cow",
    ),
    "VOC inverted": (
        replace("Annotations/a.xml", "<xmin>5", "<xmin>35", write_voc),
        r"a\.xml: box 1 is inverted",
    ),
    "YOLO's class": (
        replace("labels/train/a.txt", "1 ", "2 ", write_yolo),
        r"a\.txt line \d: class 2; accepted: 0 to 1",
    ),
    "YOLO's pixels": (
        replace("labels/train/a.txt", "0 ", "0 30 ", write_yolo),
        r"a\.txt line 1 is '0 30 .*; accepted: class x y width height",
    ),
    "YOLO's units": (
        replace("labels/train/a.txt", "0 0.35", "0 14", write_yolo),
        r"a\.txt line 1 is '0 14.*; accepted: shares of the image",
    ),
    "YOLO's names": (
        replace("data.yaml", "[cat, dog]", "2", write_yolo),
        r"data\.yaml: names is 2; accepted: a list",
    ),
    "YOLO without names": (
        lambda root: (write_yolo(root), (root / "data.yaml").unlink()),
        r"no data\.yaml or classes\.txt",
    ),
    "YOLO's folders": (
        replace("data.yaml", "images/val", "lost", write_yolo),
        r"data\.yaml names lost, which is no folder",
    ),
    "YOLO without labels": (
        lambda root: (write_yolo(root), shutil.rmtree(root / "labels" / "train")),
        r"train has images, but .*labels.train has no labels",
    ),
}  # fmt: skip

COCO = "annotations/instances_train2017.json"


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_said_in_one_line(tmp_path, fault):
    write, message = WRONG[fault]
    write(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        opened(tmp_path)
    assert "\n" not in str(raised.value)


def test_two_years_of_coco_are_told_apart_by_name(tmp_path):
    write_coco(tmp_path)
    shutil.copy(tmp_path / COCO, tmp_path / COCO.replace("2017", "2014"))
    with pytest.raises(InputError, match=r"--splits train=train2014"):
        opened(tmp_path)
    splits = opened(tmp_path, splits={"train": "train2017"})
    assert len(splits.train) == 2


def test_images_on_their_side_have_the_size_that_is_seen(tmp_path):
    write_yolo(tmp_path)
    path = tmp_path / "images" / "train" / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(path, exif=exif)
    assert opened(tmp_path).train[0].label.size == (40, 30)


def write_wider(root, faces="2\n4 3 20 12 0 0 0 0 2 0\n0 0 9 9 2 0 0 1 0 0"):
    for split, name, lines in (("train", "a", faces), ("train", "b", "0\n" + "0 " * 10)):
        write_image(root / f"WIDER_{split}" / "images" / "0--Parade" / f"{name}.jpg", name)
        listing = root / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
        listing.parent.mkdir(exist_ok=True)
        with listing.open("a") as file:
            file.write(f"0--Parade/{name}.jpg\n{lines}\n")
    shutil.copytree(root / "WIDER_train", root / "WIDER_val")
    shutil.copy(listing, str(listing).replace("train", "val"))


def test_wider_face_has_faces_and_invalid_ones(tmp_path):
    write_wider(tmp_path)
    splits = opened(tmp_path)
    assert splits.class_names == ("__background__", "face")
    faces, nothing = (splits.train[place].label for place in range(2))
    assert faces.boxes.tolist() == [[4, 3, 24, 15], [0, 0, 9, 9]]
    assert faces.labels.tolist() == [1, 1] and faces.ignored.tolist() == [False, True]
    assert nothing.boxes.shape == (0, 4)


@pytest.mark.parametrize("faces", ["3\n4 3 20 12 0 0 0 0 2 0", "1\n4 3 20 12", "many"])
def test_a_damaged_list_of_wider_face_is_refused(tmp_path, faces):
    write_wider(tmp_path, faces)
    with pytest.raises(InputError, match=r"wider_face_train_bbx_gt\.txt line \d: accepted are"):
        opened(tmp_path)
