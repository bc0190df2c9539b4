import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from flaxmobile import create_backbone, create_model, summarize
from flaxmobile.errors import InputError
from flaxmobile.layers import hard_swish, relu
from flaxmobile.models.mobilenet_v3 import LAST_CHANNELS
from tests.networks import abstract, blocks_of

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
TABLE = [
    row for row in ORACLES["published"]["mobilenet_v3"]["rows"] if row["model"].startswith("large")
]
RE, HS = relu, hard_swish

LARGE = [  # table 1: kernel, expanded, out, squeeze-excite, activation, stride
    (3, 16, 16, False, RE, 1),
    (3, 64, 24, False, RE, 2),
    (3, 72, 24, False, RE, 1),
    (5, 72, 40, True, RE, 2),
    (5, 120, 40, True, RE, 1),
    (5, 120, 40, True, RE, 1),
    (3, 240, 80, False, HS, 2),
    (3, 200, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1),
    (3, 184, 80, False, HS, 1),
    (3, 480, 112, True, HS, 1),
    (3, 672, 112, True, HS, 1),
    (5, 672, 160, True, HS, 2),
    (5, 960, 160, True, HS, 1),
    (5, 960, 160, True, HS, 1),
]
SMALL = [  # table 2
    (3, 16, 16, True, RE, 2),
    (3, 72, 24, False, RE, 2),
    (3, 88, 24, False, RE, 1),
    (5, 96, 40, True, HS, 2),
    (5, 240, 40, True, HS, 1),
    (5, 240, 40, True, HS, 1),
    (5, 120, 48, True, HS, 1),
    (5, 144, 48, True, HS, 1),
    (5, 288, 96, True, HS, 2),
    (5, 576, 96, True, HS, 1),
    (5, 576, 96, True, HS, 1),
]
every_size = pytest.mark.parametrize(
    ("name", "table", "hidden"), [("v3-large", LARGE, 1280), ("v3-small", SMALL, 1024)]
)


def bottlenecks(model):
    """The network's blocks between the stem and the last convolution."""
    return list(blocks_of(model).values())


@every_size
def test_network_is_the_papers_table(name, table, hidden):
    model = create_model(name)
    assert [
        (b.kernel, b.expanded, b.features, b.squeeze, b.activation, b.stride)
        for b in bottlenecks(model)
    ] == table
    params = abstract(model)["params"]
    assert params["stem"]["conv"]["kernel"].shape == (3, 3, 3, 16)
    features = table[-1][2]
    assert params["last"]["conv"]["kernel"].shape == (1, 1, features, 6 * features)
    assert params["hidden"]["kernel"].shape == (6 * features, hidden)
    assert params["classifier"]["kernel"].shape == (hidden, 1000)


@every_size
def test_squeeze_excite_keeps_a_quarter_of_the_expanded_channels(name, table, hidden):
    params = abstract(create_model(name))["params"]
    squeezed = {
        b["depthwise"]["conv"]["kernel"].shape[-1]: b["squeeze"]["reduce"]["kernel"].shape[-1]
        for b in params.values()
        if "squeeze" in b
    }
    published = {16: 8, 72: 24, 96: 24, 120: 32, 144: 40, 240: 64, 288: 72, 480: 120, 576: 144}
    published |= {672: 168, 960: 240}
    assert squeezed == {wide: published[wide] for wide in squeezed}
    assert len(squeezed) == len({expanded for _, expanded, _, squeeze, *_ in table if squeeze})


@every_size
def test_minimalistic_has_no_squeeze_no_swish_and_no_wide_kernel(name, table, hidden):
    model = create_model(name, minimalistic=True)
    for found, (_, expanded, features, _, _, stride) in zip(bottlenecks(model), table, strict=True):
        assert (found.kernel, found.squeeze, found.activation) == (3, False, relu)
        assert (found.expanded, found.features, found.stride) == (expanded, features, stride)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    program = str(jax.make_jaxpr(model.apply)(variables, images))
    assert " clamp" not in program  # nor a hard swish outside the blocks


@every_size
def test_a_reduced_tail_has_half_of_the_channels_from_the_last_stride_on(name, table, hidden):
    plain, reduced = (bottlenecks(create_model(name, reduced_tail=flag)) for flag in (False, True))
    tail = max(i for i, row in enumerate(table) if row[-1] == 2)
    for place, (a, b) in enumerate(zip(plain, reduced, strict=True)):
        assert b.features == a.features // (2 if place >= tail else 1)
        assert b.expanded == a.expanded // (2 if place > tail else 1)
    halved = bottlenecks(create_model(name, reduced_tail=True, reduced_expansion=True))
    assert [b.features for b in halved] == [b.features for b in reduced]
    for place, (a, b) in enumerate(zip(plain, halved, strict=True)):
        assert b.expanded == a.expanded // (2 if place >= tail else 1)
    with pytest.raises(InputError, match="accepted: only where reduced_tail is"):
        abstract(create_model(name, reduced_expansion=True))
    params = abstract(create_model(name, reduced_tail=True))["params"]
    assert params["hidden"]["kernel"].shape == (3 * table[-1][2], hidden // 2)


@pytest.mark.parametrize(
    ("alpha", "last_channel", "stem", "widths", "last", "hidden"),
    [
        (0.5, "torchvision", 8, [(8, 8), (40, 16), (48, 16), (48, 24)], 288, 512),
        (0.5, "paper", 16, [(16, 8), (40, 16), (56, 16), (64, 24)], 288, 1024),
        (1.5, "torchvision", 24, [(24, 24), (112, 40), (136, 40), (144, 64)], 864, 1536),
        (1.5, "paper", 24, [(24, 24), (112, 40), (144, 40), (160, 64)], 864, 1536),
        (0.35, "keras", 16, [(16, 8), (40, 8), (32, 8), (32, 16)], 192, 1024),
        (1.5, "keras", 16, [(16, 24), (112, 40), (144, 40), (160, 64)], 864, 1536),
    ],
)
def test_width_multiplier(alpha, last_channel, stem, widths, last, hidden):
    model = create_model("v3-small", alpha=alpha, last_channel=last_channel)
    params = abstract(model)["params"]
    assert params["stem"]["conv"]["kernel"].shape[-1] == stem
    assert [(b.expanded, b.features) for b in bottlenecks(model)[:4]] == widths
    assert params["hidden"]["kernel"].shape == (last, hidden)


@every_size
def test_at_alpha_1_all_scalings_are_the_tables(name, table, hidden):
    torchvision, *others = (
        abstract(create_model(name, last_channel=rule)) for rule in LAST_CHANNELS
    )
    assert others == [torchvision, torchvision]


@every_size
def test_without_hidden_layer_the_last_convolution_is_classified(name, table, hidden):
    params = abstract(create_model(name, hidden_layer=False))["params"]
    assert "hidden" not in params
    assert params["classifier"]["kernel"].shape == (6 * table[-1][2], 1000)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["model"])
def test_counts_are_the_published_ones(row):
    """Of the large networks; the small ones' do not follow from the released architecture."""
    variant = row["model"].split()[1]
    minimalistic = variant == "minimalistic"
    alpha = 1.0 if minimalistic else float(variant)
    options = {"alpha": alpha, "minimalistic": minimalistic, "last_channel": "paper"}
    summary = summarize(create_model("v3-large", **options))
    assert round(summary.macs / 1e6) == row["macs_m"]
    assert summary.params == pytest.approx(row["params_m"] * 1e6, abs=1e5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"last_channel": "slim"}, "unknown last_channel 'slim'.*accepted: torchvision, paper"),
        ({"last_channel": "papre"}, r"did you mean 'paper'\?"),
        ({"dilated": True}, "dilated is True and output_stride 32; accepted: .*output_stride=16"),
        ({"dilated": True, "output_stride": 8}, "output_stride 8; accepted: .*output_stride=16"),
        ({"minimalistic": 1}, "minimalistic is 1; accepted: True or False"),
    ],
)
@pytest.mark.parametrize("name", ["v3-large", "v3-small"])
def test_other_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        create_model(name, **options)


@pytest.mark.parametrize(("name", "first"), [("v3-large", 12), ("v3-small", 8)])
def test_a_dilated_last_stage_is_dilated_from_its_first_block_on(name, first):
    dilated = bottlenecks(create_model(name, dilated=True, output_stride=16))
    atrous = bottlenecks(create_model(name, output_stride=16))
    assert [b.stride for b in dilated] == [b.stride for b in atrous]
    count = len(dilated) - first
    assert [b.dilation for b in dilated] == [1] * first + [2] * count
    assert [b.dilation for b in atrous] == [1] * (first + 1) + [2] * (count - 1)
    assert dilated[first].shortcut is False
    backbone = create_backbone(name, dilated=True, output_stride=16)
    assert abstract(backbone) == abstract(create_backbone(name))


def test_a_shallow_backbone_has_no_last_convolution_and_no_hidden_layer():
    whole, deep, shallow = (
        set(abstract(network)["params"])
        for network in (
            create_model("v3-small"),
            create_backbone("v3-small"),
            create_backbone("v3-small", out_strides=(8, 16)),
        )
    )
    assert whole - deep == {"hidden", "classifier"}
    assert deep - shallow == {"last", "stage5_block1", "stage5_block2", "stage5_block3"}
