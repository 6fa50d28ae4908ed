"""The loop over epochs: the loss falls, any loss, and a killed run resumes bitwise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax.training import MixMatch, Recipe, Rotations, fit, soft_cross_entropy, start
from pp_jax.training.augmentation import bind, random_crop
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


def test_another_rule_trains():
    assert _fit(recipe=Recipe(epochs=1, learning_rate=0.01, rule=optax.adam))[1][-1][1] < 1.4


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
    network, traces = Traced(4), []
    for count in (64, 97, 130):
        fit(jax.random.key(0), network, IMAGES[:count], LABELS[:count], Recipe(epochs=2, batch_size=32))
        traces.append(network.traces)
    assert traces == [2, 2, 2]  # The number of its outputs is looked up once, by a trace of its own.


@dataclasses.dataclass(frozen=True)
class Squared:
    """Somebody's own loss: the Brier score, unlabelled images pulled towards the uniform posterior."""

    weight: float = 1.0

    def __call__(self, network, params, images, targets, unlabelled, key):
        del key
        logits, updated = network.train(params, images)
        value = jnp.mean(jnp.sum((jax.nn.softmax(logits) - targets) ** 2, axis=-1))
        if unlabelled is None:
            return value, updated
        apart = jax.nn.softmax(network.train(params, unlabelled)[0]) - 1 / targets.shape[-1]
        return value + self.weight * jnp.mean(jnp.sum(apart**2, axis=-1)), updated


HOT = np.eye(4, dtype=np.float32)[LABELS]
OTHERS = 1 - blobs(2, 70)[0]


def test_somebodys_own_loss_is_what_is_minimised():
    _, seen = _fit(HOT, loss=Squared())
    assert (np.diff([loss for _, loss in seen]) < 0).all()
    assert 0 < seen[-1][1] < seen[0][1] < 2
    plain, pulled = (_fit(HOT, loss=Squared(w), unlabelled=OTHERS)[0] for w in (0.0, 10.0))
    _assert_same(plain, _fit(HOT, loss=Squared(0.0), unlabelled=OTHERS)[0])
    confidence = [float(jax.nn.softmax(Linear(4).train(params, OTHERS)[0]).max(1).mean()) for params in (plain, pulled)]
    assert confidence[1] < confidence[0]


@pytest.mark.parametrize("loss", [Rotations(), MixMatch(augment=bind(random_crop, padding=1))], ids=["s4l", "mixmatch"])
def test_a_semi_supervised_fit_resumes_from_any_epoch_bitwise(loss):
    network, copies = Linear(8 if isinstance(loss, Rotations) else 4), []
    arguments = (jax.random.key(0), network, IMAGES, HOT, RECIPE)
    options = {"loss": loss, "unlabelled": OTHERS}
    params = fit(*arguments, **options, on_epoch=lambda s, _: copies.append(_copy(s)))
    for state in copies:
        _assert_same(fit(*arguments, **options, state=state), params)


@pytest.mark.parametrize("options", [{}, {"loss": Squared(), "unlabelled": OTHERS}], ids=["supervised", "unlabelled"])
def test_several_steps_in_one_program_are_the_steps_one_by_one(options):
    one, seen = _fit(HOT, steps_per_call=1, **options)
    for count in (3, 100):
        several, losses = _fit(HOT, steps_per_call=count, **options)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), several, one)
        np.testing.assert_allclose([x for _, x in losses], [x for _, x in seen], rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A loss that is nothing but a draw from its key."""

    def __call__(self, network, params, images, targets, unlabelled, key):
        logits, updated = network.train(params, images)
        return 0 * jnp.sum(logits) + jax.random.uniform(key), updated


@pytest.mark.parametrize("augment", [None, _noise])
def test_every_step_of_every_epoch_hands_the_loss_another_key(augment):
    recipe = Recipe(epochs=3, batch_size=130, augment=augment)
    draws = [loss for _, loss in _fit(HOT, recipe, loss=Drawing())[1]]
    assert len(set(draws)) == 3
    one = Recipe(epochs=1, batch_size=65, augment=augment)
    assert _fit(HOT, one, loss=Drawing())[1][0][1] != draws[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_per_call": 0}, "steps_per_call must be a whole number of at least 1, not 0"),
        (
            {"unlabelled": OTHERS[:, :5]},
            r"must be alike, not \(130, 6, 6, 1\) and \(70, 5, 6, 1\)",
        ),
        ({"unlabelled": np.uint8(OTHERS)}, "both kinds of images must be alike"),
        ({"unlabelled": OTHERS, "targets": 2 * HOT}, "must sum to one: 130 of 130"),
        ({"unlabelled": OTHERS, "recipe": Recipe(epochs=1, augment=_noise)}, "without augment and privacy, not with"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        _fit(**{"targets": HOT, **options})
