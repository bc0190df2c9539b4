"""The embedded scenes of digits: image, mask and boxes agree, and follow from their number."""

import numpy as np
import pytest

from train.data.scans import load_scans
from train.data.scenes import CLASS_NAMES, SIDE, make_scene, open_scenes


def test_boxes_hold_the_pixels_of_their_digits():
    for index in range(8):
        scene = make_scene("train", index)
        assert scene.image.shape == (SIDE, SIDE, 3)
        outside = scene.mask.copy()
        assert len(scene.boxes) == len(scene.labels) > 0
        for (left, top, right, bottom), label in zip(
            scene.boxes.astype(int), scene.labels, strict=True
        ):
            inside = scene.mask[top:bottom, left:right]
            assert set(np.unique(inside)) <= {0, label}
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.any()
            outside[top:bottom, left:right] = 0
        assert not outside.any()


def test_a_scene_follows_from_split_number_and_seed():
    def image(*given):
        return make_scene(*given).image.tobytes()

    assert image("test", 3) == image("test", 3)
    assert len({image("test", 3), image("test", 4), image("test", 3, 1), image("train", 3)}) == 4


def test_no_scan_is_in_two_splits():
    scans = load_scans()
    places = [set(scans.places(split)) for split in ("train", "validation", "test")]
    assert [len(each) for each in places] == [1257, 180, 360]
    assert len(set.union(*places)) == len(scans.digits) == 1797


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_records_hold_what_the_label_function_makes(split):
    source = getattr(open_scenes(lambda scene: scene.labels.tolist()), split)
    record = source[2]
    assert record.label == make_scene(split, 2).labels.tolist()
    assert record.name == f"scenes/{split}/2"
    assert max(record.label) < len(CLASS_NAMES)
