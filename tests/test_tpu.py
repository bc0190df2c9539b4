"""What libtpu is told on a machine without a TPU."""

import os

import pytest

from flaxmobile import tpu


@pytest.fixture
def devices(monkeypatch, tmp_path):
    """A machine's /dev, and an environment in which nothing is set."""
    for name in tpu.SETTINGS:
        monkeypatch.setenv(name, "")  # so that the old value comes back
        monkeypatch.delenv(name)
    monkeypatch.setattr(tpu, "DEVICES", tmp_path)
    return tmp_path


@pytest.mark.parametrize("others", [(), ("nvidia0",), ("vfio/vfio",)])
def test_libtpu_is_told_its_surroundings_where_there_is_no_tpu(devices, others):
    for name in others:
        path = devices / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    tpu.set_up_without_chip()
    assert {name: os.environ.get(name) for name in tpu.SETTINGS} == tpu.SETTINGS


@pytest.mark.parametrize("chip", ["accel0", "vfio/0"])
def test_nothing_is_set_where_there_is_a_tpu(devices, chip):
    path = devices / chip
    path.parent.mkdir(exist_ok=True)
    path.touch()
    tpu.set_up_without_chip()
    assert not tpu.SETTINGS.keys() & os.environ.keys()


def test_what_the_user_has_set_stays(devices, monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v6e-8")
    tpu.set_up_without_chip()
    assert os.environ["TPU_ACCELERATOR_TYPE"] == "v6e-8"
