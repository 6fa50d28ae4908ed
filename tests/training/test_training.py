"""Training: the loss falls, the schedule decays, and a killed run resumes bitwise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax.training import Best, Recipe, fit, soft_cross_entropy, start
from support import Linear, blobs

IMAGES, LABELS = blobs(0, 130)
RECIPE = Recipe(epochs=4, batch_size=32, learning_rate=0.1, decay_every=2)


def _fit(targets=LABELS, recipe=RECIPE, **options):
    """Parameters, and the states and losses of every epoch."""
    seen = []
    params = fit(
        jax.random.key(0), Linear(4), IMAGES, targets, recipe, on_epoch=lambda s, x: seen.append((s, x)), **options
    )
    return params, seen


def _copy(state):
    """A host copy of a state, as a checkpoint would hold it."""
    return jax.tree.map(np.array, state._replace(epoch=0))._replace(epoch=state.epoch)


def _assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_loss_falls():
    losses = [loss for _, loss in _fit()[1]]
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < 0.9 * losses[0]


def test_resuming_from_any_epoch_gives_bitwise_the_same_parameters():
    copies = []
    params = fit(jax.random.key(0), Linear(4), IMAGES, LABELS, RECIPE, on_epoch=lambda s, _: copies.append(_copy(s)))
    assert [state.epoch for state in copies] == [1, 2, 3, 4]
    for state in copies:
        _assert_same(_fit(state=state)[0], params)


def test_class_indices_are_one_hot_targets():
    hot = np.eye(4, dtype=np.float32)[LABELS]
    _assert_same(_fit(LABELS)[0], _fit(hot)[0])
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(130, 4)), jnp.float32)
    expected = -np.mean(np.asarray(jax.nn.log_softmax(logits))[np.arange(130), LABELS])
    np.testing.assert_allclose(soft_cross_entropy(logits, jnp.asarray(LABELS)), expected, rtol=1e-5)


def test_the_learning_rate_decays_by_its_factor_every_so_many_epochs():
    recipe = Recipe(epochs=9, learning_rate=0.8, momentum=0.0, decay_every=3, decay=0.5)
    optimizer = recipe.optimizer(2)
    weight, steps = jnp.zeros(()), []
    state = optimizer.init(weight)
    for _ in range(18):
        change, state = optimizer.update(jnp.ones(()), state, weight)
        steps.append(-float(change))
    np.testing.assert_allclose(steps, [0.8] * 6 + [0.4] * 6 + [0.2] * 6, rtol=1e-6)


def test_momentum_and_weight_decay_enter_the_step():
    optimizer = Recipe(epochs=1, learning_rate=1.0, momentum=0.5, weight_decay=0.1).optimizer(1)
    weight = jnp.float32(2.0)
    state = optimizer.init(weight)
    first, state = optimizer.update(jnp.ones(()), state, weight)
    second, _ = optimizer.update(jnp.ones(()), state, weight)
    np.testing.assert_allclose([first, second], [-1.2, -1.8], rtol=1e-6)


def test_fit_does_not_donate_the_callers_buffers():
    state = start(jax.random.key(0), Linear(4), (6, 6, 1), RECIPE.optimizer(4))
    before = _copy(state)
    fit(jax.random.key(0), Linear(4), IMAGES, LABELS, RECIPE, state=state)
    _assert_same(jax.tree.map(np.array, state.params), before.params)


def test_fewer_images_than_a_batch_are_one_batch():
    params = fit(jax.random.key(0), Linear(4), IMAGES[:5], LABELS[:5], RECIPE)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("count", [0, 7])
def test_images_and_targets_must_be_as_many(count):
    with pytest.raises(ValueError, match=f"must be as many, at least 1: {count} and {count and 130}"):
        fit(jax.random.key(0), Linear(4), IMAGES[:count], LABELS[: count and 130], RECIPE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 1, "batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"epochs": 1, "learning_rate": -0.1}, "learning_rate must be at least 0 and finite, not -0.1"),
        ({"epochs": 1, "momentum": float("nan")}, "momentum must be at least 0 and finite, not nan"),
        ({"epochs": 1, "decay_every": 0}, "decay_every must be at least 1, not 0"),
    ],
)
def test_a_recipe_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


def test_another_rule_takes_the_place_of_sgd():
    recipe = Recipe(epochs=1, learning_rate=0.01, rule=optax.adam)
    weight = jnp.float32(2.0)
    optimizer = recipe.optimizer(1)
    change, _ = optimizer.update(jnp.float32(123.0), optimizer.init(weight), weight)
    np.testing.assert_allclose(change, -0.01, rtol=1e-5)  # Adam's first step has the length of the learning rate.
    assert _fit(recipe=recipe)[1][-1][1] < 1.4


def test_a_warm_start_begins_where_another_training_ended():
    warm, _ = _fit()
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=0.0)
    _assert_same(_fit(recipe=recipe, params=warm)[0], warm)
    with pytest.raises(ValueError, match="params and state must not both be given"):
        _fit(params=warm, state=start(jax.random.key(0), Linear(4), (6, 6, 1), RECIPE.optimizer(4)))


def _noise(key, image):
    """An augmentation that leaves nothing of an image."""
    return jax.random.uniform(key, image.shape, image.dtype)


def test_augmentation_reaches_every_image_of_every_step_and_is_reproducible():
    augmented = Recipe(epochs=4, batch_size=32, learning_rate=0.1, augment=_noise)
    params, seen = _fit(recipe=augmented)
    assert seen[-1][1] > 1.3  # Nothing is to be learnt from noise: log 4 is 1.386.
    _assert_same(_fit(recipe=augmented)[0], params)


class Traced(Linear):
    """A network that counts how often its training is traced."""

    def __init__(self, classes):
        super().__init__(classes)
        self.traces = 0

    def train(self, params, images):
        self.traces += 1
        return super().train(params, images)


def test_sets_of_every_size_share_one_program_on_a_cpu():
    network = Traced(4)
    for count in (64, 97, 130):
        fit(jax.random.key(0), network, IMAGES[:count], LABELS[:count], Recipe(epochs=2, batch_size=32))
    assert network.traces == 1


def test_best_keeps_the_epoch_that_predicts_held_out_answers_best_and_not_the_last():
    # After the second epoch the learning rate destroys what was learnt.
    losses, copies = [], []
    recipe = Recipe(epochs=4, batch_size=32, learning_rate=0.1, decay_every=2, decay=1e6)
    logits_fn = lambda params, image: image.ravel() @ params["params"]["kernel"] + params["params"]["bias"]  # noqa: E731
    best = Best(logits_fn, IMAGES[100:], LABELS[100:])

    def hear(state, loss):
        best(state, loss)
        copies.append(_copy(state))
        logits = np.stack([logits_fn(copies[-1].params, image) for image in IMAGES[100:]])
        losses.append(float(soft_cross_entropy(jnp.asarray(logits), jnp.asarray(LABELS[100:]))))

    fit(jax.random.key(0), Linear(4), IMAGES[:100], LABELS[:100], recipe, on_epoch=hear)
    assert best.epoch == 1 + int(np.argmin(losses)) == 2
    np.testing.assert_allclose(best.loss, min(losses), rtol=1e-4)
    _assert_same(best.params, copies[best.epoch - 1].params)
    with pytest.raises(ValueError, match="must be as many, at least 1: 0 and 0"):
        Best(logits_fn, IMAGES[:0], LABELS[:0])
