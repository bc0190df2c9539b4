"""Training with the rounding of an int8 file, and the file."""

import jax
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from flaxmobile import Metadata, Preprocessing, load_metadata, load_weights, registry, save_weights
from flaxmobile.cli.export import main as export
from flaxmobile.exporters.litert.writing import operators
from flaxmobile.variables import abstract_variables
from tests.networks import randomised
from tests.train.tiny import SPEC, Tiny
from train.__main__ import main
from train.data.samples import sample_images

PREPROCESSING = Preprocessing(40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A network that some steps of training in the rounding of int8 began from float weights."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SPECS, "tiny", SPEC)
        options = {"num_classes": 10}
        variables = randomised(abstract_variables(Tiny(**options)))
        save_weights(folder / "float", "tiny", options, variables, Metadata(PREPROCESSING))
        flags = ["--init-from", f"{folder}/float", "--quantize", "int8", "--steps", "15"]
        main([*flags, "--workers", "0", "--output", f"{folder}/run"])
        flags = ["--format", "litert", "--quantize", "int8", "--output", f"{folder}/file"]
        export("flaxmobile export", ["--weights", f"{folder}/run/best", *flags])
        yield folder


def test_the_file_is_in_integers_and_gives_the_logits_it_was_trained_for(trained):
    """To a step of the logits' range."""
    assert operators((trained / "file").read_bytes()) == [
        "QUANTIZE", "PAD", "CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD", "MEAN",
        "FULLY_CONNECTED", "DEQUANTIZE",
    ]  # fmt: skip
    assert load_metadata(trained / "run/best").preprocessing.image_size == 40  # the digits have 64
    model, variables = load_weights(trained / "run/best")
    images = np.asarray(PREPROCESSING.normalize(sample_images("digits", PREPROCESSING, 50)))
    expected = jax.jit(model.apply)(variables, images)
    run = Interpreter(model_path=str(trained / "file")).get_signature_runner()
    found = np.concatenate([run(images=image[None])["logits"] for image in images])
    seen = variables["batch_stats"]["logits_range"]
    step = (seen["most"] - seen["least"]) / 255
    np.testing.assert_allclose(found, expected, atol=1.01 * step)
    assert np.ptp(found, axis=0).max() > 10 * step  # the images are told apart
    unrounded = model.clone(quantized=False).apply({"params": variables["params"]}, images)
    assert np.abs(unrounded - expected).max() > 1.01 * step


def test_it_is_evaluated_as_it_was_trained(trained, capsys):
    assert main(["--output", f"{trained}/run", "--eval-only"]) == 0
    metrics = (trained / "run/metrics.jsonl").read_text().splitlines()[-1]
    accuracy = capsys.readouterr().out.split("accuracy ")[1].split(",")[0]
    assert f'"accuracy": {accuracy}'.rstrip("0")[:19] in metrics


def test_a_network_that_was_quantized_elsewhere_trains_with_steps_of_its_own(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)
    options = {"num_classes": 10, "folded": True, "quantized": True, "given_steps": True}
    variables = randomised(abstract_variables(Tiny(**options)))
    save_weights(tmp_path / "given", "tiny", options, variables, Metadata(PREPROCESSING))
    flags = ["--init-from", f"{tmp_path}/given", "--steps", "1"]
    flags += ["--workers", "0", "--output", f"{tmp_path}/run"]
    assert main(flags) == 1
    assert "cannot be trained; with --quantize int8 it can" in capsys.readouterr().err
    assert main([*flags, "--quantize", "int8", "--learning-rate", "1e-9"]) == 0
    model, trained = load_weights(tmp_path / "run/best")
    assert model.quantized and not model.given_steps
    for found, given in zip(
        *map(jax.tree.leaves, (trained["params"], variables["params"])), strict=True
    ):
        np.testing.assert_allclose(found, given, atol=1e-6)
