"""One training step: what is minimized, averaged, frozen and reported."""

import dataclasses
from typing import ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from flaxmobile import Preprocessing
from tests.train.tiny import Tiny
from train.losses import Loss, Teacher
from train.step import Objective, create_state, eval_step, train_step

CLASSES = 7
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
LABELS = np.arange(8, dtype=np.int32) % CLASSES
KEY = jax.random.key(3)


def objective(model=None, **settings):
    model = model or Tiny(num_classes=CLASSES, dropout_rate=0.0)
    rate = settings.pop("rate", 0.1)
    return Objective(model, Preprocessing(32), optax.sgd(rate), lambda step: rate, **settings)


@pytest.fixture(scope="module")
def variables():
    return Tiny(num_classes=CLASSES).init(KEY, jnp.zeros((1, 32, 32, 3)))


def one_step(objective, variables):
    return jax.jit(lambda s: train_step(objective, s, IMAGES, LABELS, KEY))(
        create_state(objective, variables)
    )


judge = jax.jit(eval_step, static_argnums=0)


def logits_of(variables):
    images = Preprocessing(32).normalize(jnp.asarray(IMAGES))
    model = Tiny(num_classes=CLASSES, dropout_rate=0.0)
    return model.apply(variables, images, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_cross_entropy_with_smoothed_labels(variables, smoothing):
    logits, _ = logits_of(variables)
    targets = np.full((8, CLASSES), smoothing / CLASSES)
    targets[np.arange(8), LABELS] += 1 - smoothing
    expected = -(targets * np.asarray(jax.nn.log_softmax(logits))).sum(1).mean()
    _, metrics = one_step(objective(loss=Loss(label_smoothing=smoothing)), variables)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


class WithAuxiliaryHead(Tiny):
    """Its auxiliary logits are the logits."""

    aux_weight: ClassVar[float] = 0.3

    @nn.compact
    def __call__(self, images, train=False):
        logits = Tiny.__call__(self, images, train)
        if self.runs_auxiliary(train):
            self.sow_auxiliary("auxiliary", logits)
        return logits


def test_auxiliary_logits_add_their_share_of_the_loss(variables):
    logits, _ = logits_of(variables)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()
    model = WithAuxiliaryHead(num_classes=CLASSES, dropout_rate=0.0)
    state, metrics = one_step(objective(model), variables)
    np.testing.assert_allclose(metrics["loss"], 1.3 * expected, rtol=1e-5)
    plain, _ = one_step(objective(rate=0.13), variables)
    chex.assert_trees_all_close(state.params, plain.params, rtol=1e-4, atol=1e-5)


def test_step_moves_against_the_gradient(variables):
    def loss(params):
        logits, _ = logits_of({**variables, "params": params})
        return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

    gradients = jax.grad(loss)(variables["params"])
    state, metrics = one_step(objective(), variables)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradients)
    chex.assert_trees_all_close(state.params, moved, rtol=1e-4, atol=1e-5)
    assert int(state.step) == 1
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("step", "warmup", "momentum"),
    [(0, True, 0.1), (3, True, 4 / 13), (100, True, 0.9), (0, False, 0.9)],
)
def test_momentum_of_statistics_warms_up_to_the_networks(variables, step, warmup, momentum):
    given = objective(Tiny(num_classes=CLASSES, dropout_rate=0.0), norm_warmup=warmup)
    before = dataclasses.replace(create_state(given, variables), step=jnp.asarray(step))
    state, _ = jax.jit(lambda s: train_step(given, s, IMAGES, LABELS, KEY))(before)
    network = Tiny(num_classes=CLASSES, dropout_rate=0.0, norm_momentum=momentum)
    images = Preprocessing(32).normalize(jnp.asarray(IMAGES))
    _, updates = network.apply(variables, images, train=True, mutable=["batch_stats"])
    chex.assert_trees_all_close(state.batch_stats, updates["batch_stats"], rtol=1e-5, atol=1e-6)


def test_accuracy_and_top5_count_the_ranks(variables):
    logits = np.asarray(logits_of(variables)[0])
    order = np.argsort(-logits, axis=1)
    _, metrics = one_step(objective(), variables)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean(order[:, 0] == LABELS))
    top5 = np.mean([label in row[:5] for label, row in zip(LABELS, order, strict=True)])
    assert float(metrics["top5"]) == pytest.approx(top5)


def test_ties_and_nan_are_not_hits(variables):
    for value in (0.0, np.nan):
        constant = jax.tree.map(lambda leaf: np.full_like(leaf, value), variables["params"])  # noqa: B023
        given = {**variables, "params": constant}
        assert (judge(objective(), given, IMAGES, LABELS)["rank"] > 0).all()


def test_frozen_backbone_stays_to_the_bit_and_the_classifier_learns(variables):
    model = Tiny(num_classes=CLASSES, frozen_norm=True)
    state, _ = one_step(objective(model, trained=("classifier",)), variables)
    before, after = dict(variables["params"]), dict(state.params)
    old_head, new_head = before.pop("classifier"), after.pop("classifier")
    chex.assert_trees_all_equal(after, before)
    chex.assert_trees_all_equal(state.batch_stats, variables["batch_stats"])
    assert not np.allclose(old_head["kernel"], new_head["kernel"])


def test_frozen_backbone_keeps_no_optimizer_state(variables):
    adam = Objective(
        Tiny(num_classes=CLASSES), Preprocessing(32), optax.adam(1e-3), lambda step: 1e-3,
        trained=("classifier",),
    )  # fmt: skip
    state = create_state(adam, variables)
    assert {leaf.shape for leaf in jax.tree.leaves(state.opt_state)} == {
        (),
        (CLASSES,),
        (8, CLASSES),
    }


def test_moving_average_starts_fast_and_is_what_is_evaluated(variables):
    state, _ = one_step(objective(ema_decay=0.999), variables)
    new = {"params": state.params, "batch_stats": state.batch_stats}
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, dict(variables), new)
    chex.assert_trees_all_close(state.ema, expected, rtol=1e-5, atol=1e-6)
    assert state.variables is state.ema


def test_evaluation_judges_each_image_without_smoothing_and_weights(variables):
    loss = Loss(label_smoothing=0.1, class_weights=tuple(range(CLASSES)))
    judged = judge(objective(loss=loss), variables, IMAGES, LABELS)
    images = Preprocessing(32).normalize(jnp.asarray(IMAGES))
    logits = Tiny(num_classes=CLASSES).apply(variables, images)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
    np.testing.assert_allclose(judged["loss"], losses, rtol=1e-5)
    np.testing.assert_array_equal(judged["predicted"], np.argmax(logits, axis=1))
    places = np.argsort(-np.asarray(logits), axis=1) == LABELS[:, None]
    np.testing.assert_array_equal(judged["rank"], np.argmax(places, axis=1))


def test_dropout_changes_with_the_step_and_not_with_the_call(variables):
    dropping = objective(Tiny(num_classes=CLASSES, dropout_rate=0.5), rate=1e-9)
    state = create_state(dropping, variables)
    losses = [
        float(train_step(dropping, s, IMAGES, LABELS, KEY)[1]["loss"])
        for s in (state, state, train_step(dropping, state, IMAGES, LABELS, KEY)[0])
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_batch_in_parts_has_the_gradients_of_the_whole(variables):
    """With frozen normalization; otherwise each part is normalized by itself."""
    model = Tiny(num_classes=CLASSES, dropout_rate=0.0, frozen_norm=True)
    whole, metrics = one_step(objective(model), variables)
    parts, in_parts = one_step(objective(model, accumulate=4), variables)
    chex.assert_trees_all_close(parts.params, whole.params, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(in_parts, metrics, rtol=1e-5)


def test_statistics_of_a_batch_in_parts_are_the_average_of_the_parts(variables):
    state, _ = one_step(objective(accumulate=2, norm_warmup=False), variables)
    model = Tiny(num_classes=CLASSES, dropout_rate=0.0)
    images = Preprocessing(32).normalize(jnp.asarray(IMAGES))
    apply = jax.jit(lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"])[1])
    first, second = (apply(images[part::2])["batch_stats"] for part in (0, 1))
    expected = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    chex.assert_trees_all_close(state.batch_stats, expected, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_not_finite_is_skipped_when_asked(variables):
    broken = jax.tree.map(jnp.asarray, dict(variables))
    broken["params"]["classifier"]["bias"] = (
        broken["params"]["classifier"]["bias"].at[0].set(jnp.inf)
    )
    for skips in (False, True):
        state, metrics = one_step(objective(skip_nonfinite=skips), broken)
        assert not np.isfinite(metrics["loss"])
        assert int(state.step) == 1
        kept = np.array_equal(
            state.params["stem"]["conv"]["kernel"], broken["params"]["stem"]["conv"]["kernel"]
        )
        assert kept == skips
        assert metrics.get("skipped") == (1 if skips else None)
    _, metrics = one_step(objective(skip_nonfinite=True), variables)
    assert metrics["skipped"] == 0


def test_a_teacher_that_the_student_equals_adds_nothing(variables):
    model = Tiny(num_classes=CLASSES, dropout_rate=0.0, frozen_norm=True)
    teacher = Teacher(model, Preprocessing(32), temperature=2.0, weight=0.5)
    given = objective(model, teacher=teacher)
    _, plain = one_step(objective(model), variables)
    state = create_state(given, variables)
    _, taught = jax.jit(lambda s, t: train_step(given, s, IMAGES, LABELS, KEY, t))(state, variables)
    np.testing.assert_allclose(taught["loss"], 0.5 * plain["loss"], rtol=1e-5)
