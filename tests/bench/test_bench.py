"""The benchmark: that it compares like with like, says what is missing, and reports what it saw.

No test looks at how long anything took.
"""

import json
import os
import signal
import sys

import jax
import numpy as np
import pytest

import flaxmobile.bench.command
import flaxmobile.bench.measure
import flaxmobile.bench.worker
from flaxmobile.bench.candidates import CANDIDATES, Candidate, Missing
from flaxmobile.bench.candidates.base import network, tolerance
from flaxmobile.bench.candidates.in_jax import flax, ours
from flaxmobile.bench.candidates.in_torch import _torch_device
from flaxmobile.bench.command import Config
from flaxmobile.bench.job import Job
from flaxmobile.bench.measure import Result, measure
from flaxmobile.bench.process import Process
from flaxmobile.bench.report import table
from flaxmobile.cli import main
from flaxmobile.errors import InputError


def job(candidate="flaxmobile", task="inference", model="mobilenet_v2", **options):
    return Job(candidate, task, model, {"alpha": 0.35, **options}, 3, 32, 2)


def training_job():
    """In float64, on maps of more than one pixel: smaller networks amplify rounding."""
    options = {"alpha": 0.35, "dtype": "float64"}
    return Job("flaxmobile", "train", "mobilenet_v2", options, 4, 40, 2)


def test_plain_flax_takes_the_same_training_step():
    """The same losses, and Flax's own convolutions in place of ours."""
    with jax.enable_x64(True):
        own, plain = (build(training_job()) for build in (ours, flax))
        own.prepare()
        plain.prepare()
        losses = np.array([[each.fetch(each.call()) for _ in range(3)] for each in (own, plain)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0, 0] != losses[0, 1]
    own_text, plain_text = (each.compiled.as_text() for each in (own, plain))
    assert own_text.count("convolution(") == 0
    assert plain_text.count("convolution(") > 100


def test_candidates_run_in_turn_and_compute_the_same(monkeypatch):
    asked = []
    answer = Process.answer

    def recorded(self, request=""):
        if request:
            asked.append(self.outputs.stem)
        return answer(self, request)

    monkeypatch.setattr(Process, "answer", recorded)
    names = ["flaxmobile", "torch", "onnxruntime"]
    results = measure([job(name) for name in names], rounds=2)
    assert asked == names * 2
    for name, result in results.items():
        assert not result.reason, name
        assert len(result.times) == 2
        assert result.median > 0


RUNTIMES = [f"{name}{kind}" for name in ("onnx", "litert", "openvino") for kind in ("", "-int8")]


@pytest.mark.parametrize("name", RUNTIMES)
def test_exported_files_compute_the_same(name):
    own, other = CANDIDATES["flaxmobile"](job()), CANDIDATES[name](job(name))
    own.prepare()
    expected, found = (each.fetch(each.call()) for each in (own, other))
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < other.tolerance(job(name))
    assert other.file_size() > 300_000
    assert own.file_size() is None


@pytest.mark.parametrize(("head", "outputs"), [("lraspp", (32, 32, 5)), ("ssdlite", (54, 9))])
def test_torchvisions_segmenters_and_detectors_compute_the_same(head, outputs):
    """A detector gives logits and offsets in one array: 5 classes and 4 numbers for 54 boxes."""
    options = {"backbone": "mobilenet_v3_large", "num_classes": 5}
    plain, torch = (
        CANDIDATES[name](Job(name, "inference", head, options, 1, 32, 2))
        for name in ("flax", "torch")
    )
    plain.prepare()
    expected, found = (each.fetch(each.call()) for each in (plain, torch))
    assert found.shape == (1, *outputs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("option", ["head_variant=paper", "backbone=mobilenet_v2"])
def test_what_torchvision_has_not_under_a_head_is_said(option):
    options = {"backbone": "mobilenet_v3_large", **dict([option.split("=")])}
    with pytest.raises(Missing, match=f"torchvision has no ssdlite with {option}"):
        CANDIDATES["torch"](Job("torch", "inference", "ssdlite", options, 1, 32, 2))


def test_an_exported_detector_is_not_compared():
    with pytest.raises(Missing, match="returns boxes, not the offsets"):
        CANDIDATES["onnx"](Job("onnx", "inference", "ssdlite", {}, 1, 32, 2))


def test_heads_are_measured_as_torchvision_publishes_them():
    jobs = Config(models=("lraspp", "ssdlite"), options=("num_classes=7",)).jobs("torch")
    assert [job.image_size for job in jobs] == [520, 320]
    assert jobs[0].options == {"backbone": "mobilenet_v3_large", "num_classes": 7}


def test_a_missing_runtime_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(Missing, match=r"pip install .*\[openvino\]"):
        CANDIDATES["openvino"](job())


def test_exported_files_do_not_train():
    with pytest.raises(Missing, match="does not train"):
        CANDIDATES["litert"](job(task="train"))


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (signal.SIGKILL, "of flaxmobile was killed, .* when memory runs out; take a smaller --ba"),
        (signal.SIGTERM, "of flaxmobile ended with status -15"),
    ],
)
def test_a_candidate_whose_process_ends_is_named(sent, message, tmp_path):
    process = Process(job(), tmp_path)
    process._process.send_signal(sent)
    with pytest.raises(InputError, match=message):
        process.answer()
    process.stop(10)


def test_ctrl_c_is_for_the_command_which_ends_its_candidates(tmp_path):
    with pytest.raises(KeyboardInterrupt), Process(job(), tmp_path) as process:
        assert os.getsid(process._process.pid) == process._process.pid
        raise KeyboardInterrupt
    assert process._process.returncode == -signal.SIGKILL


def test_a_candidate_that_computes_something_else_is_refused(tmp_path):
    own, other = tmp_path / "flaxmobile.npy", tmp_path / "torch.npy"
    np.save(own, np.ones((2, 3)))

    def compare(value, tolerance=1e-3):
        np.save(other, np.full((2, 3), value))
        flaxmobile.bench.measure._check_same(
            {"flaxmobile": (own, 0.0), "torch": (other, tolerance)}
        )

    compare(1.0)
    compare(1.01, tolerance=0.02)
    with pytest.raises(InputError, match=r"torch does not compute what flaxmobile comp.*1\.0e-02"):
        compare(1.01)
    with pytest.raises(InputError, match="torch does not compute"):
        compare(np.nan)


def test_what_a_peer_lacks_is_said(capsys):
    results = measure([job("onnxruntime", task="train")], rounds=1)
    assert results["onnxruntime"].reason == "ONNX Runtime does not train"


def test_candidates_compute_in_bfloat16_where_the_network_does():
    """Every one is as far from float32 as rounding to 8 bits takes it, and not further."""
    built = {name: CANDIDATES[name] for name in ("flaxmobile", "flax", "torch")}
    logits = {}
    for dtype in ("float32", "bfloat16"):
        for name, build in built.items():
            candidate = build(job(dtype=dtype))
            candidate.prepare()
            logits[name, dtype] = candidate.fetch(candidate.call()).astype(np.float64)
    exact = logits["flaxmobile", "float32"]
    errors = {key: np.abs(x - exact).max() / np.abs(exact).max() for key, x in logits.items()}
    assert all(errors[name, "float32"] < tolerance(job()) for name in built)
    assert all(1e-3 < errors[name, "bfloat16"] < tolerance(job(dtype="bfloat16")) for name in built)


@pytest.mark.parametrize("name", ["keras", "onnxruntime"])
def test_peers_that_are_measured_in_float32_say_so(name):
    with pytest.raises(Missing, match="is measured in float32"):
        CANDIDATES[name](job(dtype="bfloat16"))


def test_a_network_that_torch_lacks_is_said_in_the_words_of_the_benchmark():
    with pytest.raises(Missing) as missing:
        CANDIDATES["torch"](job(model="mobilenext"))
    assert str(missing.value).startswith("no library has the networks of authors")
    assert "--verify" not in str(missing.value)


def test_torch_runs_where_jax_runs_or_not_at_all(monkeypatch):
    assert _torch_device(has_cuda=True) == "cpu"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert _torch_device(has_cuda=True) == "cuda"
    with pytest.raises(Missing, match="torch finds no GPU, which JAX uses here"):
        _torch_device(has_cuda=False)


def test_the_step_that_compiles_is_taken_back():
    fresh, prepared = (CANDIDATES["torch"](job(task="train")) for _ in range(2))
    prepared._compiled = True  # does not take the minute that torch.compile does
    prepared.prepare()
    losses = [[each.fetch(each.call()) for _ in range(2)] for each in (fresh, prepared)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert losses[0][0] != losses[0][1]


@pytest.mark.parametrize(("backend", "waits"), [("cpu", 3), ("gpu", 1)])
def test_calls_are_queued_on_an_accelerator(backend, waits, monkeypatch):
    class Counted(Candidate):
        calls, fetched = 0, ()

        def call(self):
            self.calls += 1
            return self.calls

        def fetch(self, outputs):
            self.fetched += (outputs,)

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    candidate = Counted()
    assert flaxmobile.bench.worker._seconds(candidate, 3) > 0
    assert candidate.calls == 3
    assert candidate.fetched == (1, 2, 3)[-waits:]


def test_the_table_gives_medians_and_how_many_times_faster_we_are():
    results = {
        "flaxmobile": Result((0.03, 0.06, 0.03), 1.5, 2**21, ""),
        "torch": Result((0.09, 0.09, 0.09), 0.5, None, ""),
        "onnxruntime": Result((), 0.0, None, "not installed"),
    }
    lines = table(job(), results).splitlines()
    assert lines[0] == "mobilenet_v2 alpha 0.35, inference, batch 3, 32×32"
    assert lines[3].split() == ["flaxmobile", "10.00", "±25%", "1.5", "s", "2", "MiB"]
    assert lines[4].split() == ["torch", "30.00", "±0%", "3.00×", "0.5", "s"]
    assert lines[-1] == "onnxruntime: not installed"
    results["flaxmobile"] = results["flaxmobile"]._replace(device="NVIDIA H200")
    first = table(job(), results).partition("\n")[0]
    assert first == "mobilenet_v2 alpha 0.35, inference, batch 3, 32×32, on one NVIDIA H200"


def test_what_is_read_is_compared_with_what_a_step_takes(monkeypatch, capsys):
    """On two cores: 24 batches of 4 in 2 s, and a step of 4 images in 10 ms."""
    seconds = {"pipeline": 2.0, "train": 0.01}

    def measured(jobs, rounds):
        return {job.candidate: Result((seconds[job.task],), 0, None, "") for job in jobs}

    monkeypatch.setattr(flaxmobile.bench.command, "measure", measured)
    monkeypatch.setattr(flaxmobile.bench.command, "usable_cores", lambda: 2)
    assert (
        main(["bench", "v2", "--task", "pipeline", "--batch-size", "4", "--against", "none"]) == 0
    )
    assert capsys.readouterr().out.splitlines()[-1] == (
        "images per second: read 48 (24 per core), taken by a training step on cpu 400: "
        "16.7 cores keep up"
    )


def test_weights_are_the_same_in_every_process():
    for a, b in zip(*(jax.tree.leaves(network(job())[1]) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_command_writes_what_it_prints(tmp_path, capsys):
    files = ["--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "r.png")]
    flags = ["--options", "alpha=0.35", "--image-size", "32", "--rounds", "2"]
    assert main(["bench", "v2", "--against", "flax", *flags, *files]) == 0
    out = capsys.readouterr().out
    values = json.loads((tmp_path / "r.json").read_text())
    (result,) = values["results"]
    assert values["versions"]["jax"] == jax.__version__
    assert values["versions"]["jax"] in out
    assert set(result["candidates"]) == {"flaxmobile", "flax"}
    shown = result["candidates"]["flax"]["seconds"] * 1e3
    assert f"{shown:.2f}" in out
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["v9"], "unknown model 'v9'"),
        (["lrasp"], "did you mean 'lraspp'"),
        (["--against", "tourch"], "unknown --against 'tourch' (did you mean 'torch'?)"),
        (["--batch-size", "0"], "--batch-size and --rounds are at least 1"),
        (["--image-size", "16"], "--image-size is 16; mobilenet_v2 needs 32 or more"),
        (
            ["--json", "no/where.json"],
            "--json is no/where.json, but no is no directory to write in",
        ),
        (["--plot", "plot.txt"], "--plot is plot.txt; accepted: a file name in .png, .pdf, .svg"),
        (["ssdlite", "--task", "train"], "--task is train; segmenters and detectors such as ssdl"),
        (["--options", "groups=3"], "unknown option of mobilenet_v2 'groups'"),
    ],
)
def test_wrong_input_is_refused_in_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *flags])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_every_network_of_the_default_call_is_checked_before_anything_runs():
    with pytest.raises(InputError, match="unknown model"):
        Config(models=("v2", "nothing")).check()
