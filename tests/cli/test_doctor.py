import numpy as np

from flaxmobile import cli
from flaxmobile.cli import doctor


def test_report_has_versions_devices_extras_and_the_numbers(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "keep_freed_memory", lambda: True)
    requirements = ['timm>=1; extra == "torch"', "jax>=0.10", "pillow-heif>=1; extra == 'heif'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: requirements)
    monkeypatch.setattr(doctor, "_version", lambda each: None if "heif" in each else "1.2")
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "flaxmobile 1.2  jax 1.2" in lines[1]
    assert lines[2].startswith("cpu: 8 × cpu; ")
    assert "compiler options: known" in lines
    assert lines[-3:-1] == ["extra torch: installed", "extra heif: missing pillow-heif"]
    assert lines[-1].startswith("self-test: within ")


def test_wrong_numbers_are_an_error(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "keep_freed_memory", lambda: False)
    monkeypatch.setattr(doctor, "LOGITS", tuple(np.multiply(doctor.LOGITS, 1.01)))
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr()
    assert "allocator: not glibc" in printed.out
    assert "self-test: logits [-1.02" in printed.err
