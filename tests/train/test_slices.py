"""Names of TPU slices, and the flags about them."""

import pytest

from flaxmobile.errors import InputError
from train.flags import read_config
from train.slices import parse_slice


@pytest.mark.parametrize(
    ("name", "count", "chips"),
    [("v5e:4x4", 1, 16), ("v6e:16x16", 1, 256), ("v5p:2x2x1", 4, 4), ("v4:4x8x8", 1, 256)],
)
def test_a_slice_has_its_shape(name, count, chips):
    slices = parse_slice(name, count)
    assert slices.topology == name
    assert (slices.chips, slices.count) == (chips, count)


@pytest.mark.parametrize(
    "name", ["v99:2x2", "v5e", "v5e:", "v5e:2", "v5e:2x2x1", "v5p:2x2", "v5e:0x2", "v5e:32x16"]
)
def test_an_unknown_slice_lists_what_is_accepted(name):
    with pytest.raises(InputError, match=f"--plan is {name}; accepted: v5e:ROWSxCOLUMNS") as error:
        parse_slice(name)
    assert "\n" not in str(error.value)


def test_slices_together_have_no_more_chips_than_one():
    with pytest.raises(InputError, match="v5e:16x16 with --plan-slices 2; accepted"):
        parse_slice("v5e:16x16", 2)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--plan-batch", "auto"], "need --plan SLICE"),
        (["--plan-slices", "2"], "need --plan SLICE"),
        (["--plan", "v5e:2x2", "--plan-batch", "0"], "--plan-batch is 0; accepted: 1 and more"),
        (["--plan", "v5e:2x2", "--plan-slices", "0"], "--plan-slices is 0; accepted: 1 and more"),
        (["--dataset", "sizes:100x10"], "holds no images: it is for --plan SLICE"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        read_config(flags)
