import json

import jax
import numpy as np
import pytest
from flax import linen
from jax import lax

import flaxmobile
from flaxmobile import create_model, load_dilations, save_dilations, search_dilations
from flaxmobile.errors import InputError
from tests.networks import random_variables, short_model

bases = pytest.mark.parametrize("base", ["resnet50", "mobilenet_v2"])


def supernet(base, most=2):
    return short_model("ic_conv", base=base, pattern=None, supernet=most)


def batches(count=2, size=32):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3, size, size, 3)).astype(np.float32) for _ in range(count)]


def kernel_of(variables, layer):
    block, unit = layer.split("/")
    return variables["params"][block][unit]["conv"]


def taps(most, vertical, horizontal):
    rows, columns = (
        [most - dilation, most, most + dilation] for dilation in (vertical, horizontal)
    )
    return np.ix_(rows, columns)


def planted(base, most=2):
    """A supernet whose large kernels are dilated 3×3 ones, and the pattern of those."""
    model = supernet(base, most)
    variables, rng = random_variables(model), np.random.default_rng(1)
    for block in variables["params"].values():
        if "expand" in block and base == "mobilenet_v2":
            # A channel that is always 0 has no dilation.
            block["expand"]["norm"]["bias"][:], block["expand"]["norm"]["scale"][:] = 3, 0.1
    pattern = {}
    for layer, channels in model.layers().items():
        pattern[layer] = rng.integers(1, most + 1, (channels, 2)).tolist()
        conv = kernel_of(variables, layer)
        for channel, pair in enumerate(pattern[layer]):
            dense = conv["kernel"][..., channel].copy()
            conv["kernel"][..., channel] = 0
            conv["kernel"][..., channel][taps(most, *pair)] = 3 * dense[taps(most, *pair)]
    return model, variables, pattern


@bases
def test_planted_dilations_are_found_and_make_the_same_network(base, tmp_path):
    model, variables, pattern = planted(base)
    found = search_dilations(model, variables, batches(1, 96))  # the last maps are 3×3
    assert found == pattern

    save_dilations(tmp_path / "dilations.json", found)
    loaded = load_dilations(tmp_path / "dilations.json")
    small = short_model("ic_conv", base=base, pattern=loaded)
    images = batches()[0]
    expected = jax.jit(model.apply)(variables, images)
    for layer, dilations in found.items():
        conv = kernel_of(variables, layer)
        conv["kernel"] = np.stack(
            [conv["kernel"][..., c][taps(2, *pair)] for c, pair in enumerate(dilations)], -1
        )
    logits = jax.jit(small.apply)(variables, images)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("base", "layer"),
    [
        ("resnet50", "stage1_block1/filter"),
        ("resnet50", "stage2_block1/filter"),  # strided
        ("mobilenet_v2", "stage2_block1/depthwise"),
    ],
)
def test_dilations_are_those_of_the_smallest_error_over_all_images(base, layer):
    """Against the outputs of every image, large kernel and every dilated one, then the mean."""
    model = supernet(base)
    variables = random_variables(model)
    found = search_dilations(model, variables, batches())[layer]

    units = []
    block, unit = layer.split("/")

    @jax.jit
    def inputs(variables, images):
        found = []

        def record(call, args, kwargs, context):
            if context.module.path == (block, unit, "conv") and context.method_name == "__call__":
                found.append(args[0])
                units.append(context.module)
            return call(*args, **kwargs)

        with linen.intercept_methods(record):
            model.apply(variables, images)
        return found[0]

    kernel = np.asarray(kernel_of(variables, layer)["kernel"], np.float64)
    x = np.asarray(inputs(variables, np.concatenate(batches())), np.float64)

    def outputs(kernel):
        with jax.enable_x64(True):
            y = lax.conv_general_dilated(
                x,
                kernel,
                (units[0].stride,) * 2,
                [(2, 2), (2, 2)],
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                feature_group_count=units[0].groups,
            )
        return np.asarray(y)

    whole, errors = outputs(kernel), {}
    for pair in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        dilated = np.zeros_like(kernel)
        dilated[taps(2, *pair)] = kernel[taps(2, *pair)]
        errors[pair] = np.abs((whole - outputs(dilated)).mean(0)).sum((0, 1))  # [channels]
    pairs = list(errors)
    best = [list(pairs[i]) for i in np.argmin(np.stack([errors[p] for p in pairs]), axis=0)]
    assert found == best
    assert len({tuple(pair) for pair in best}) > 1


def test_a_channel_without_weights_stays_undilated():
    model, variables, pattern = planted("resnet50")
    layer = "stage1_block2/filter"
    kernel_of(variables, layer)["kernel"][..., 3] = 0
    pattern[layer][3] = [1, 1]
    assert search_dilations(model, variables, batches(1, 96)) == pattern


def test_batches_may_come_from_a_generator_and_be_of_different_lengths():
    model = supernet("resnet50")
    variables = random_variables(model)
    first, second = batches()
    whole = search_dilations(model, variables, [np.concatenate([first, second[:1]])])
    assert search_dilations(model, variables, (b for b in (first, second[:1]))) == whole


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (create_model("ic_conv", alpha=0.1), batches(1), "ICConvNet without large kernels; acc"),
        (create_model("v2"), batches(1), r"MobileNetV2 without .*\(\"ic_conv\", supernet=d_max"),
        (supernet("resnet50"), [], "no images; accepted: at least one batch"),
        (
            supernet("resnet50"),
            [batches(1)[0], batches(1, 33)[0]],
            r"images of \[32, 32, 3\] and \[33, 33, 3\]; accepted: one size",
        ),
    ],
)
def test_a_search_that_cannot_be_done_is_refused(model, given, message):
    with pytest.raises(InputError, match=message):
        search_dilations(model, random_variables(model), given)


def test_the_file_is_json_with_a_format(tmp_path):
    save_dilations(tmp_path / "a.json", {"stage1_block1/filter": [[1, 2]]})
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "format": 1,
        "dilations": {"stage1_block1/filter": [[1, 2]]},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a.json is not JSON .*; accepted: {\"format\": 1, \"dilations\": "),
        ("[]", "a.json is not a dilation pattern; accepted: "),
        ('{"format": 1}', "a.json is not a dilation pattern"),
        ('{"format": 1, "dilations": []}', "a.json is not a dilation pattern"),
        ('{"format": 2, "dilations": {}}', "a.json has format 2; this version reads format 1"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_dilations(tmp_path / "a.json")


def test_a_path_that_cannot_be_read_or_written_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.json cannot be read: No such file"):
        load_dilations(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        save_dilations(tmp_path, {})


def test_they_are_offered_at_the_top():
    assert {"search_dilations", "load_dilations", "save_dilations"} <= set(flaxmobile.__all__)
