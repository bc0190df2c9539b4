"""Classes of unequal size."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from train.data import open_dataset
from train.data.balance import balanced_weights, describe_inequality


@pytest.mark.parametrize("counts", [(5, 5, 5), (100, 7, 1)])
def test_weights_are_those_of_scikit_learn(counts):
    labels = np.repeat(np.arange(3), counts)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    weights = balanced_weights(labels, 3)
    np.testing.assert_allclose(weights, expected)
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)


def test_a_class_without_images_weighs_nothing():
    assert balanced_weights([0, 0, 2, 2], 4) == (1.0, 0.0, 1.0, 0.0)


def test_very_unequal_classes_are_said(image_folder, write_images):
    assert describe_inequality([0] * 9 + [1], ("a", "b")) is None
    write_images(image_folder / "train" / "rose", 50)
    assert open_dataset(f"folder:{image_folder}").notes == (
        "classes are unequal: 50 training images of 'rose', 5 of 'daisy'; --class-weights balanced "
        "weighs them",
    )
