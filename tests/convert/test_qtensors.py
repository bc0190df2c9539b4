"""Quantized tensors of torch files: integers with their steps."""

import numpy as np
import pytest
import torch

from convert.sources import read_source
from tests.convert.commands import refusal
from tests.convert.torch_writer import Malicious, Quantized, Storage, Tensor, write_archive

NUMBERS = np.arange(6, dtype=np.float32).tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


quantizes = pytest.mark.filterwarnings("ignore:.*quantized tensor creation")  # torch gives it up
ONE_STEP, A_STEP_EACH = torch.per_tensor_affine, torch.per_channel_affine
INTEGERS = np.asarray([-128, -1, 0, 1, 2, 127], np.int8)


@quantizes
@pytest.mark.parametrize("zipped", [True, False])
def test_quantized_kernels_are_read_with_their_steps(path, zipped):
    whole = torch.randn(4, 3, 2)
    scales = torch.tensor([0.1, 0.02, 0.3, 0.004], dtype=torch.float64)
    packed = torch.quantize_per_tensor(torch.randn(5, 4), 0.01, 0, torch.qint8)
    tensors = {
        "a.weight": torch.quantize_per_tensor(whole, 0.03, 0, torch.qint8),
        "b.weight": torch.quantize_per_channel(
            whole, scales, torch.zeros(4, dtype=torch.int64), 0, torch.qint8
        ),
        "c._packed_params.dtype": torch.qint8,
        "c._packed_params._packed_params": (packed, torch.ones(5)),
        "d._packed_params._packed_params": (packed, None),
        "e._packed_params.weight": packed,
        "e._packed_params.bias": torch.ones(5),
    }
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    steps = torch.full((4,), 0.03), scales.float(), *[torch.full((5,), 0.01)] * 3
    kernels = tensors["a.weight"], tensors["b.weight"], packed, packed, packed
    expected = {}
    for layer, kernel, each in zip("abcde", kernels, steps, strict=True):
        expected |= {f"{layer}.weight": kernel.dequantize(), f"{layer}.steps": each}
        expected |= {f"{layer}.bias": torch.ones(5)} if layer in "ce" else {}
    found = read_source(path).tensors
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name], tensor, rtol=1e-6)


def test_nothing_is_run_in_what_a_quantized_tensor_says(path):
    trap = path.parent / "trap"
    for how in [(Malicious(trap), 0.1, 0), (ONE_STEP, Malicious(trap), 0), (Malicious(trap),)]:
        write_archive(path, {"a.weight": Quantized(*how)}, {"0": INTEGERS.tobytes()})
        refusal(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "tensor",
    [
        *(Quantized(ONE_STEP, scale, 0) for scale in (0.0, -0.1, np.nan, np.inf, 1e300, "a", None)),
        Quantized(ONE_STEP, 0.1, 1),
        Quantized(ONE_STEP, 0.1, "0"),
        Quantized(ONE_STEP, [0.1], 0),
        Quantized(ONE_STEP, [0.1] * 3, [0] * 3),
        Quantized(A_STEP_EACH, [0.1, 0.0], [0, 0], 0),
        Quantized(A_STEP_EACH, [0.1, 0.1], [0, 3], 0),
        Quantized(A_STEP_EACH, [0.1], [0], 0),
        Quantized(A_STEP_EACH, [0.1] * 3, [0] * 3, 0),
        Quantized(A_STEP_EACH, [[0.1, 0.1]], [[0, 0]], 0),
        *(Quantized(A_STEP_EACH, [0.1] * 3, [0] * 3, axis) for axis in (1, -1, 2, "0", None)),
        Quantized(A_STEP_EACH, Tensor(Storage("1"), 0, (3,), (1,)), [0, 0], 0),
        Quantized(A_STEP_EACH, Tensor(Storage("1"), 0, (7,), (1,)), [0, 0], 0),
        Quantized(ONE_STEP, 0.1, 0, shape=(2, 4)),
        Quantized(ONE_STEP, 0.1, 0, shape=(), strides=()),
        Quantized(ONE_STEP, 0.1, 0, storage=Storage("1")),
        Quantized(ONE_STEP, 0.1, 0, storage=Storage("2", 6, torch.ByteStorage)),
        Quantized(),
        Quantized(7, 0.1, 0),
    ],
    ids=range(29),
)
def test_a_quantized_tensor_that_is_no_kernel_is_refused(path, tensor):
    storages = {"0": INTEGERS.tobytes(), "1": NUMBERS, "2": INTEGERS.tobytes()}
    whole = {"b": Tensor(Storage("1")), "a.weight": Quantized(ONE_STEP, 0.1, 0)}
    write_archive(path, whole, storages)
    expected = (INTEGERS * np.float32(0.1)).reshape(2, 3)
    assert np.array_equal(read_source(path).tensors["a.weight"], expected)
    write_archive(path, {**whole, "a.weight": tensor}, storages)
    assert "is damaged or not a torch file" in refusal(path)


def test_ways_to_quantize_that_no_kernel_has_are_named(path):
    scheme = torch.per_channel_affine_float_qparams
    tensor = Quantized(scheme, [0.1, 0.1], [0.5, 0.5], 0)
    write_archive(path, {"a.weight": tensor, "b": Tensor(Storage("1"))}, {"0": INTEGERS.tobytes()})
    assert "holds 'a.weight' (torch.per_channel_affine_float_qparams)" in refusal(path)


@quantizes
def test_a_kernel_that_is_packed_and_not_is_refused(path):
    kernel = torch.quantize_per_tensor(torch.randn(5, 4), 0.01, 0, torch.qint8)
    for other in ("c.weight", "c.steps"):
        content = {"c._packed_params._packed_params": (kernel, None), other: torch.ones(5)}
        torch.save(content, path)
        assert "is damaged or not a torch file" in refusal(path)
