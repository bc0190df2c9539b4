"""Strictness: every tensor used once, every parameter filled once, all problems told at once."""

import jax
import numpy as np
import pytest
import torch
from flax import traverse_util

from convert import engine
from convert.reading import Reading
from convert.rules import RULES
from flaxmobile import InputError, create_model
from flaxmobile.tasks import build
from tests.convert import rules
from tests.convert.rules import (
    assert_modules_are_those_of,
    each_rule,
    each_variant,
    options_for,
)
from tests.convert.states import DEPTHWISE, EXPAND, STEM, VARIANCE, random_state
from tests.networks import abstract, random_variables, small_model

RULE = RULES["torchvision", "mobilenet_v2"]


@pytest.fixture
def tensors():
    return {name: tensor.numpy() for name, tensor in random_state().items()}


def fill(tensors, **chosen):
    return rules.fill(RULE, "mobilenet_v2", tensors, **chosen)


def test_kernels_are_transposed_and_statistics_find_their_place(tensors):
    found = fill(tensors)
    params, stats = found.variables["params"], found.variables["batch_stats"]
    block = params["stage3_block2"]
    stem = params["stem"]["conv"]["kernel"]
    assert np.array_equal(stem, tensors[STEM].transpose(2, 3, 1, 0))
    assert np.array_equal(block["expand"]["conv"]["kernel"][0, 0], tensors[EXPAND][:, :, 0, 0].T)
    depthwise = block["depthwise"]["conv"]["kernel"]
    assert np.array_equal(depthwise[:, :, 0], tensors[DEPTHWISE][:, 0].transpose(1, 2, 0))
    assert np.array_equal(params["classifier"]["kernel"], tensors["classifier.1.weight"].T)
    assert np.array_equal(stats["head"]["norm"]["var"], tensors[VARIANCE])
    assert np.array_equal(stats["stem"]["norm"]["mean"], tensors["features.0.1.running_mean"])
    assert np.array_equal(params["stem"]["norm"]["scale"], tensors["features.0.1.weight"])
    assert np.array_equal(params["stem"]["norm"]["bias"], tensors["features.0.1.bias"])


def test_every_tensor_is_used_or_ignored_with_a_reason(tensors):
    found = fill(tensors)
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    assert set(found.ignored) == counters
    assert set(found.ignored.values()) == {RULE.layout.counter.reason}


def test_counters_may_be_absent_as_in_files_of_old(tensors):
    old = {name: array for name, array in tensors.items() if "num_batches" not in name}
    assert fill(old).ignored == {}


def test_a_tensor_too_many_is_refused(tensors):
    tensors["features.19.weight"] = np.zeros(3, np.float32)
    with pytest.raises(InputError, match=r"features\.19\.weight is unknown$"):
        fill(tensors)


def test_a_counter_of_no_normalization_is_refused(tensors):
    tensors["features.0.0.num_batches_tracked"] = np.zeros((), np.int64)
    with pytest.raises(InputError, match=r"features\.0\.0\.num_batches_tracked is unknown"):
        fill(tensors)


@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.35, 0.6, 0.75, 1.0, 1.125, 1.3, 1.4, 2.335])
def test_width_and_classes_are_read_from_the_tensors(alpha):
    tensors = {name: tensor.numpy() for name, tensor in random_state(alpha, 7).items()}
    options, problems = Reading.of(RULE, tensors).options()
    assert (options["alpha"], options["num_classes"], problems) == (alpha, 7, [])


@each_rule(lambda origin, rule: rule.widths)
def test_a_rules_widths_are_those_of_a_wide_network(origin, name):
    """Those of narrower ones are looked at where they are converted."""
    rule = RULES[origin, name]
    model = build(name, **{**rule.options, "alpha": 1.4, **rule.variants[-1]})
    params = abstract(model)["params"]
    kernels = traverse_util.flatten_dict(params, sep="/")
    for module, width in rule.widths(model).items():
        assert kernels[f"{module}/kernel"].shape[-1] == width


def test_another_alpha_of_the_same_network_is_kept(tensors):
    assert fill(tensors, alpha=0.34).options["alpha"] == 0.34


def test_another_width_than_expected_is_refused_naming_both(tensors):
    with pytest.raises(InputError, match=r"--alpha is 1\.4, .* alpha 0\.35$"):
        fill(tensors, alpha=1.4)


def drop(tensors, name):
    del tensors[name]


def rename(tensors, name):
    tensors[name + "s"] = tensors.pop(name)


def reshape(tensors, name):
    tensors[name] = tensors[name].reshape(*tensors[name].shape, 1)


def swap_axes(tensors, name):
    tensors[name] = np.moveaxis(tensors[name][..., np.newaxis], -1, 0)


def shorten(tensors, name):
    tensors[name] = tensors[name][1:]


def as_float64(tensors, name):
    tensors[name] = tensors[name].astype(np.float64)


def as_float16(tensors, name):
    tensors[name] = tensors[name].astype(np.float16)


def as_integer(tensors, name):
    tensors[name] = tensors[name].astype(np.int32)


def put_nan(tensors, name):
    tensors[name].flat[-1] = np.nan


def put_infinity(tensors, name):
    tensors[name].flat[0] = -np.inf


MUTATIONS = {
    drop: "{name} is missing",
    rename: "{name} is missing (did you mean '{name}s'?)",
    reshape: "{name} is float32[",
    swap_axes: "{name} is float32[1, ",
    shorten: "{name} is float32[",
    as_float64: "{name} is float64[",
    as_float16: "{name} is float16[",
    as_integer: "{name} is int32[",
    put_nan: "{name} holds 1 of ",
    put_infinity: "{name} holds 1 of ",
}


@pytest.mark.parametrize("name", [EXPAND, VARIANCE])
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_damaged_tensor_is_named(tensors, mutate, name):
    mutate(tensors, name)
    with pytest.raises(InputError) as caught:
        fill(tensors)
    assert MUTATIONS[mutate].format(name=name) in str(caught.value)


@pytest.mark.parametrize("mutate", [drop, rename, reshape, shorten, as_float64, put_nan])
@pytest.mark.parametrize("name", [STEM, "classifier.1.weight", "classifier.1.bias"])
def test_tensors_that_tell_the_sizes_may_be_damaged_too(tensors, mutate, name):
    mutate(tensors, name)
    with pytest.raises(InputError, match=r"classifier\.1\." if "cla" in name else name):
        fill(tensors)


def test_all_problems_are_told_at_once(tensors):
    drop(tensors, STEM)
    rename(tensors, EXPAND)
    reshape(tensors, DEPTHWISE)
    put_nan(tensors, VARIANCE)
    as_float64(tensors, "features.1.conv.1.weight")
    with pytest.raises(InputError) as caught:
        fill(tensors, alpha=0.5)
    message = str(caught.value)
    for part in (
        "mobilenet_v2 with alpha 0.35 and 10 classes",
        "--alpha is 0.5",
        f"{STEM} is missing",
        f"{EXPAND}s is unknown (did you mean '{EXPAND}'?)",
        f"{DEPTHWISE} is float32[96, 1, 3, 3, 1], accepted: float32[96, 1, 3, 3]",
        f"{VARIANCE} holds 1 of 1280 values that are NaN or infinite",
        "features.1.conv.1.weight is float64[",
    ):
        assert part in message
    assert message.count("\n") < 15


def numbered(model):
    """Numbers that tell every element of a leaf, and every leaf, from the others."""
    leaves, tree = jax.tree.flatten(abstract(model))
    sizes = [leaf.size for leaf in leaves]
    arrays = [
        np.arange(i, i + size, dtype=np.float32).reshape(leaf.shape)
        for i, (size, leaf) in enumerate(zip(sizes, leaves, strict=True))
    ]
    return jax.tree.unflatten(tree, arrays)


def with_constants(rule, variables):
    flat = traverse_util.flatten_dict(variables, sep="/")
    for path, array in flat.items():
        kind = f"{path.partition('/')[0]}/{path.rpartition('/')[2]}"
        if kind in rule.constants:
            flat[path] = np.full_like(array, rule.constants[kind])
    return traverse_util.unflatten_dict(flat, sep="/")


def test_a_parameter_that_the_origin_lacks_has_its_constant_there():
    rule = RULE._replace(constants={"params/scale": 1.0})
    model = small_model()
    variables = random_variables(model)
    with pytest.raises(InputError, match=r"params/head/norm/scale is not 1\.0 everywhere"):
        engine.from_flax(rule, model, variables)
    state = engine.from_flax(RULE, model, with_constants(rule, variables))
    with pytest.raises(InputError, match=r"features\.0\.1\.weight is unknown"):
        rules.fill(rule, "mobilenet_v2", state)


@each_variant("keras", "authors", "mediapipe", "transformers", "ports", "slim")
def test_a_rule_names_every_variable_once_and_is_recognised(origin, name, variant):
    """As `test_round_trip` has it of the origins with a library of torch."""
    rule, options = RULES[origin, name], options_for(origin, name, variant)
    model = create_model(name, **options)
    variables = with_constants(rule, numbered(model))
    found = rules.fill(rule, name, engine.from_flax(rule, model, variables))
    assert found.options == options
    assert_modules_are_those_of(rule, found)
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "same"}, "padding is 'same', accepted: 'symmetric'"),
        ({"norm_epsilon": 1e-3}, "norm_epsilon is 0.001, accepted: 1e-05"),
        ({"shortcut": "projection"}, "shortcut is 'projection', accepted: 'bottleneck'"),
        ({"linear": False}, "linear is False, accepted: True"),
        ({"output_stride": 16}, "output_stride is 16, accepted: 32"),
        ({"folded": True}, "folded is True, accepted: False"),
    ],
)
def test_a_network_that_the_origin_does_not_have_is_refused(options, message):
    model = small_model(**options)
    with pytest.raises(InputError) as caught:
        engine.from_flax(RULE, model, random_variables(model))
    assert message in str(caught.value)


def test_an_option_that_a_rule_does_not_name_is_the_networks_default():
    obstacles = engine.obstacles(
        RULES["torchvision", "shufflenet_v2"], create_model("shufflenet_v2", variant="megvii")
    )
    assert obstacles == ["variant is 'megvii', accepted: 'torchvision'"]


def test_weights_that_are_not_finite_are_not_written(tensors):
    found = fill(tensors)
    found.variables["params"]["stem"]["conv"]["kernel"][0] = np.nan
    with pytest.raises(InputError, match="params/stem/conv/kernel holds 144 of 432 values"):
        engine.from_flax(RULE, found.model, found.variables)


@pytest.mark.parametrize("alpha", [0.35, 1.4])
def test_the_way_there_and_back_changes_no_bit(alpha):
    state = random_state(alpha)
    found = fill({name: tensor.numpy() for name, tensor in state.items()})
    back = engine.from_flax(RULE, found.model, found.variables)
    assert list(back) == list(state)
    for name, tensor in state.items():
        array = torch.tensor(back[name])
        assert array.dtype == tensor.dtype
        assert torch.equal(array, torch.zeros_like(tensor) if array.ndim == 0 else tensor)
