"""The words of --label-map."""

import numpy as np
import pytest
from PIL import Image

from flaxmobile import InputError
from train.data import Selection
from train.data.masks.mask import decode_pair
from train.data.masks.opening import open_masks


def test_masks_of_a_folder_may_be_black_and_white(tmp_path):
    for folder, values in (("images", np.zeros((4, 2, 3))), ("masks", [[0, 255]] * 4)):
        (tmp_path / folder).mkdir()
        for number in range(4):
            image = Image.fromarray(np.asarray(values, np.uint8))
            image.save(tmp_path / folder / f"{number}.png")
    (tmp_path / "classes.txt").write_text("ignored\nbeside\na map\n")
    dataset = open_masks(f"folder:{tmp_path}", None, Selection(label_map=("0=rest", "255=cell")))
    assert dataset.class_names == ("rest", "cell")
    assert np.asarray(decode_pair(dataset.train[0], 2)[1]).tolist() == [[0, 1]] * 4
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(InputError, match="--label-map says how: 0=background 255=object"):
        open_masks(f"folder:{tmp_path}", None, Selection())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cat",), "--label-map has 'cat'; accepted: VALUE=NAME"),
        (("256=cat",), "has '256=cat'"),
        (("x=cat",), "has 'x=cat'"),
        (("1=",), "has '1='"),
        (("0=a,", "1=b"), "has '0=a,'"),
        (("1=a", "1=b"), "names the value 1 twice"),
        (("1=a", "2=a", "3=ignore"), "fewer than two classes"),
    ],
)
def test_a_wrong_label_map_is_refused(words, said):
    with pytest.raises(InputError, match=said):
        open_masks("scenes", None, Selection(label_map=words))


def test_scenes_have_classes_of_their_own():
    with pytest.raises(InputError, match="--label-map does not apply to scenes"):
        open_masks("scenes", None, Selection(label_map=("0=a", "1=b")))
