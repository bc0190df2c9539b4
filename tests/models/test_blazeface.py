import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile import create_backbone, create_model, fold_batch_norm, summarize
from flaxmobile.errors import InputError
from flaxmobile.models.blazeface import BlazeBlock
from flaxmobile.models.blazeface_tables import KEYPOINTS, REGRESSORS
from tests.networks import abstract, random_variables

ORACLE = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())["blazeface"]


def shapes(model, size=128):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    return {name: list(leaf.shape[1:]) for name, leaf in output.items()}


def test_maps_are_the_papers():
    names = {2: "stem", 4: "stride4", 8: "stride8", 16: "stride16"}
    found = {names[stride]: shape for stride, shape in shapes(create_backbone("blazeface")).items()}
    assert found == ORACLE["maps"]
    released = shapes(create_backbone("blazeface", variant="mediapipe"))
    assert [released[stride][2] for stride in (8, 16)] == [88, 96]
    back = create_backbone("blazeface", variant="mediapipe_back", output_stride=32)
    expected = {2: [128, 128, 24], 4: [64, 64, 24], 8: [32, 32, 48], 16: [16, 16, 96]}
    assert shapes(back, 256) == {**expected, 32: [8, 8, 96]}
    full = create_backbone("blazeface", variant="mediapipe_full_range", output_stride=32)
    expected = {2: [96, 96, 32], 4: [48, 48, 64], 8: [24, 24, 128], 16: [12, 12, 256]}
    assert shapes(full, 192) == {**expected, 32: [6, 6, 384]}


@pytest.mark.parametrize("variant", ["mediapipe_full_range", "mediapipe_full_range_sparse"])
def test_a_full_range_detector_takes_any_size(variant):
    model = create_model("blazeface", detector=True, variant=variant, output_stride=32)
    assert shapes(model, 72) == {"boxes": [18 * 18, 16], "scores": [18 * 18]}
    assert shapes(model, 100) == {"boxes": [25 * 25, 16], "scores": [25 * 25]}


def count(given, table):
    """Kernels, scales and biases of table 4, by hand."""
    total = 5 * 5 * 3 * 24 + 2 * 24
    for channels, squeezed in table:
        if squeezed:
            total += 25 * given + 2 * given + given * squeezed + 2 * squeezed
        inner = squeezed or given
        total += 25 * inner + 2 * inner + inner * channels + 2 * channels
        given = channels
    return total


def test_counts_are_those_of_table_4():
    table = [(24, 0), (24, 0), (48, 0), (48, 0), (48, 0), *[(96, 24)] * 6]
    features = count(24, table)
    assert summarize(create_model("blazeface", num_classes=0), 128).params == features
    heads = 97 * (2 + 6) * (REGRESSORS + 1)
    assert summarize(create_model("blazeface", detector=True), 128).params == features + heads


def test_there_are_five_single_and_six_double_blocks():
    params = abstract(create_model("blazeface"))["params"]
    doubles = {name for name in params if "squeeze" in params[name]}
    assert doubles == {f"block{number}" for number in range(6, 12)}
    assert set(params) - doubles == {"stem", "classifier", *(f"block{i}" for i in range(1, 6))}


@pytest.mark.parametrize("size", [128, 256])
def test_a_detector_gives_numbers_for_every_anchor(size):
    anchors = int(ORACLE["anchors"].split("=")[1]) * size**2 // 128**2
    model = create_model("blazeface", detector=True, dtype="bfloat16")
    assert shapes(model, size) == {"boxes": [anchors, 16], "scores": [anchors]}
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    outputs = jax.eval_shape(model.apply, abstract(model), images)
    assert {output.dtype for output in outputs.values()} == {jnp.dtype("float32")}


def test_a_detector_has_the_classifiers_features():
    detector, classifier = (
        abstract(create_model("blazeface", detector=flag))["params"] for flag in (True, False)
    )
    heads = {f"{kind}_stride{stride}" for kind in ("boxes", "scores") for stride in (8, 16)}
    assert set(detector) - set(classifier) == heads
    assert set(classifier) - set(detector) == {"classifier"}
    assert all(detector[name] == classifier[name] for name in set(detector) - heads)
    assert len(KEYPOINTS) == 6


def test_a_folded_detector_gives_the_same_numbers():
    model = create_model("blazeface", detector=True)
    variables = random_variables(model)
    folded, parameters = fold_batch_norm(model, variables)
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    expected, found = jax.jit(lambda v, p: (model.apply(v, images), folded.apply(p, images)))(
        variables, parameters
    )
    for name, output in expected.items():
        np.testing.assert_allclose(found[name], output, atol=2e-5 * np.abs(output).max())


def test_padding_channels_keep_the_input_and_add_zeros():
    x = np.random.default_rng(0).normal(size=(2, 7, 8, 4)).astype(np.float32)
    block = BlazeBlock(6, stride=2)
    variables = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(0), x))
    y = block.apply(variables, x)
    padded = np.pad(x, [(0, 0), (0, 1), (0, 0), (0, 0)], constant_values=-np.inf)
    pooled = padded.reshape(2, 4, 2, 4, 2, 4).max((2, 4))
    np.testing.assert_array_equal(y[..., :4], np.maximum(pooled, 0))
    np.testing.assert_array_equal(y[..., 4:], 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortcut": "padding"}, r"'padding' \(did you mean 'pad'\?\); accepted: pad, projection"),
        ({"variant": "papers"}, r"'papers' \(did you mean 'paper'\?\); accepted: paper, mediapipe"),
        ({"output_stride": 32}, "output_stride is 32; accepted: 16"),
        ({"variant": "mediapipe_back"}, "output_stride is 16; accepted: 32"),
        ({"alpha": 1.0}, "unknown option of blazeface 'alpha'"),
    ],
)
def test_options_that_the_network_does_not_offer_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        create_model("blazeface", **options)


def test_strides_that_the_network_does_not_have_are_refused():
    with pytest.raises(InputError, match="has 32; output_stride 16 gives 2, 4, 8, 16"):
        create_backbone("blazeface", out_strides=(16, 32))
    with pytest.raises(InputError, match="unknown shortcut 'none'"):
        BlazeBlock(4, shortcut="none").init(jax.random.key(0), jnp.zeros((1, 8, 8, 4)))
