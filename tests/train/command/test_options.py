"""Options of the step, through the command."""

import chex
import jax
import numpy as np
import pytest
from PIL import Image

import train.loop
from flaxmobile import cli, load_metadata, load_weights
from tests.train.command.process import FLAGS, losses
from train.__main__ import main
from train.parallel import JitParallel


def test_recipes_of_the_step_train_together():
    flags = [*FLAGS, "--mixup", "0.2", "--cutmix", "1", "--accumulate", "2", "--clip", "1"]
    flags += ["--loss", "bce", "--lr-scale", "stem.*=0", "--skip-nonfinite", "1"]
    assert main([*flags, "--steps", "3", "--learning-rate", "0.01", "--output", "run"]) == 0
    assert main([*FLAGS, "--steps", "1", "--learning-rate", "1e-12", "--output", "start"]) == 0
    tuned, start = (load_weights(f"{run}/best")[1]["params"] for run in ("run", "start"))
    chex.assert_trees_all_close(tuned["stem"], start["stem"], atol=1e-9)
    assert not np.allclose(tuned["classifier"]["kernel"], start["classifier"]["kernel"])


def test_a_student_learns_from_a_teacher(uninterrupted):
    flags = [*FLAGS, "--steps", "2", "--distill-from", str(uninterrupted / "best")]
    assert main([*flags, "--distill-weight", "1", "--output", "run"]) == 0
    assert losses("run")[1] != losses(uninterrupted)[1]


def test_pmap_and_jit_runs_have_the_same_losses():
    for parallel in ("jit", "pmap"):
        flags = [*FLAGS, "--steps", "5", "--parallel", parallel, "--output", parallel]
        assert main(flags) == 0
    np.testing.assert_allclose(
        list(losses("jit").values()), list(losses("pmap").values()), rtol=1e-4
    )


def test_a_network_of_one_channel_sees_grey():
    assert main([*FLAGS, "--options", "in_channels=1", "--steps", "2", "--output", "run"]) == 0
    assert load_weights("run/best")[0].in_channels == 1
    preprocessing = load_metadata("run/best").preprocessing
    assert (preprocessing.channel_order, len(preprocessing.mean)) == ("grey", 1)
    image = np.zeros((9, 9, 3), np.uint8)
    Image.fromarray(image).save("black.png")
    assert cli.main(["predict", "--weights", "run/best", "black.png"]) == 0


def test_bfloat16_trains():
    assert main([*FLAGS, "--steps", "3", "--dtype", "bfloat16", "--output", "run"]) == 0
    model, variables = load_weights("run/best")
    assert model.dtype == "bfloat16"
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_an_epoch_transfers_nothing_but_what_it_puts(monkeypatch):
    """Batches go to the devices by `put_batch`; nothing else of a step comes from the host."""
    fit = train.loop.Trainer.fit

    def guarded(trainer):
        with jax.transfer_guard("disallow"):
            fit(trainer)

    monkeypatch.setattr(train.loop.Trainer, "fit", guarded)
    assert main([*FLAGS, "--steps", "3", "--output", "run"]) == 0
    monkeypatch.setattr(JitParallel, "put_batch", lambda parallel, array: array)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        main([*FLAGS, "--steps", "3", "--output", "other"])
