"""The training step compiles for TPUs that are not there, under jit and under pmap."""

import dataclasses

import pytest

from flaxmobile import registry
from flaxmobile.layers import Block, relu6
from tests.train.tiny import SPEC, Tiny
from train import roofline
from train.__main__ import main
from train.slices import CHIPS

pytestmark = [
    pytest.mark.xdist_group("libtpu"),  # one process at a time may load libtpu
    pytest.mark.usefixtures("for_a_tpu"),
]

FLAGS = ["--model", "tiny", "--image-size", "32", "--batch-size", "8"]
V2 = ["--model", "v2", "--alpha", "0.1"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)


def numbers(output):
    """First number of each row."""
    rows = (line.removeprefix("  ") for line in output.splitlines()[1:])
    return {row[:28].strip(): float(row[28:].split()[0].replace(",", "")) for row in rows}


@pytest.mark.parametrize(("parallel", "model"), [("jit", []), ("pmap", []), ("jit", V2)])
def test_plan_compiles_the_training_step_for_a_tpu_slice(parallel, model, capsys):
    flags = [*FLAGS, *model, "--dtype", "bfloat16", "--plan", "v5e:2x2", "--parallel", parallel]
    assert main(flags) == 0
    output = capsys.readouterr().out
    assert f"fits on v5e:2x2 (4 chips, {parallel}) with 2 images per chip" in output
    found = numbers(output)
    assert 0 < found["memory per chip"] < 2**14
    assert found["memory traffic per image"] > 0
    milliseconds = 2 * found["memory traffic per image"] / 819  # of two images, at 819 GB/s
    assert found["time per step, at least"] == pytest.approx(milliseconds, rel=0.1)
    speed = found["images per second, at most"]
    assert speed == pytest.approx(8000 / milliseconds, rel=0.1)
    assert found["hours of the run, at least"] == pytest.approx(16 * 1257 / speed / 3600, abs=0.01)


class Ladder(Tiny):
    """Three convolutions, to the strides that heads need."""

    output_stride: int = 32

    def blocks(self):
        return [Block("stem", stride=8), Block("block", stride=2), Block("last", stride=2)]

    def build(self, place, unit):
        return unit(8, 3, stride=place.stride, activation=relu6, name=place.name)


@pytest.mark.parametrize(
    ("task", "model", "parallel"),
    [("segment", "lraspp on ladder", "jit"), ("detect", "ssdlite on ladder", "pmap")],
)
def test_masks_and_boxes_are_planned_too(task, model, parallel, capsys, monkeypatch):
    ladder = dataclasses.replace(SPEC, network=Ladder, aliases=())
    monkeypatch.setitem(registry.SPECS, "ladder", ladder)
    flags = ["--task", task, "--model", "ladder", "--image-size", "64", "--batch-size", "8"]
    assert main([*flags, "--plan", "v5e:2x2", "--parallel", parallel]) == 0
    output = capsys.readouterr().out
    assert f"{model} fits on v5e:2x2 (4 chips, {parallel}) with 2 images per chip" in output
    assert numbers(output)["operations per image"] > 0


@pytest.mark.parametrize(("topology", "chips"), [("v4:2x2x1", 4), ("v6e:16x16", 256)])
def test_every_kind_of_chip_and_many_of_them_compile(topology, chips, capsys):
    flags = [*FLAGS, "--plan", topology, "--plan-batch", "8", "--dataset", "sizes:4000x5"]
    assert main(flags) == 0
    assert f"fits on {topology} ({chips} chips, jit) with 8 images per chip" in (
        capsys.readouterr().out
    )


def test_slices_exchange_over_the_network(capsys):
    assert main([*FLAGS, "--plan", "v5p:2x2x1", "--plan-slices", "2"]) == 0
    output = capsys.readouterr().out
    assert "fits on 2 slices of v5p:2x2x1 (8 chips, jit) with 1 images per chip" in output
    assert "to slices 6.25 GB/s" in output
    assert "sent to slices per step" in numbers(output)


def test_the_largest_batch_is_one_that_the_compiler_accepts(capsys, monkeypatch):
    """With a limit of 8 MiB, so that it is small, and one compilation more than the first."""
    small = dataclasses.replace(CHIPS["v5e"], memory=8 * 2**20)
    monkeypatch.setitem(CHIPS, "v5e", small)
    monkeypatch.setattr(roofline, "COMPILATIONS", 3)
    assert main([*FLAGS, "--plan", "v5e:2x2", "--plan-batch", "auto"]) == 0
    output = capsys.readouterr().out
    images = int(output.partition("with ")[2].split()[0])
    assert images > 8
    assert images % 8 == 0
    assert numbers(output)["memory per chip"] <= 8


def test_a_batch_that_does_not_fit_is_said(capsys):
    assert main([*FLAGS, "--plan", "v5e:2x2", "--plan-batch", str(2**21)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("tiny does not fit on v5e:2x2")
    assert "exceed" in line


def test_planning_twice_does_not_read_a_cached_tpu_program(capsys):
    flags = [*FLAGS, "--plan", "v5e:2x2"]
    assert main(flags) == 0
    first = capsys.readouterr().out
    assert main(flags) == 0
    assert capsys.readouterr().out == first


def test_a_slice_that_libtpu_does_not_know_gives_one_line(capsys):
    assert main([*FLAGS, "--plan", "v5e:3x3"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "topology 'v5e:3x3'" in error
    assert "v5e:2x2" in error


def test_a_batch_that_the_chips_do_not_divide_is_refused(capsys):
    assert main([*FLAGS, "--plan", "v5e:2x2", "--batch-size", "6"]) == 1
    assert "6 cannot be divided among 4 devices; take 4 or 8" in capsys.readouterr().err
