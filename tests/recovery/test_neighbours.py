"""The neighbour attack: coins are inferred from near images, weighed anew in training, and pairs found by queries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import metrics
from pp_jax.defenses import KeyedSwap
from pp_jax.recovery import fit_between, infer_readings, pairs_from_queries
from pp_jax.serving.blackbox import BlackBox, Metered
from pp_jax.training import Recipe, fit
from pp_jax.training.predicting import predict
from support import Linear

NETWORK = Linear(4)
PARTNERS = np.array([2, 3, 0, 1])
VICTIM = {"params": {"kernel": 1.5 * jax.random.normal(jax.random.key(9), (64, 4)), "bias": jnp.zeros(4)}}
RECIPE = Recipe(epochs=6, batch_size=25, learning_rate=0.5)


@functools.cache
def _images(seed, count):
    """Stripes of random direction and phase, (count, 8, 8, 1), float32 in [0, 1]."""
    turn, phase = np.random.default_rng(seed).uniform([[0], [0]], [[np.pi], [2 * np.pi]], (2, count))
    rows, columns = np.mgrid[:8, :8]
    way = np.multiply.outer(np.cos(turn), rows) + np.multiply.outer(np.sin(turn), columns)
    return np.float32(0.5 + 0.5 * np.sin(0.6 * way + phase[:, None, None]))[..., None]


@functools.cache
def _theft(*, probability=0.5, count=600):
    """Queries, the readings of their responses, and each coin: 1 as given, −1 exchanged."""
    images = _images(0, count)
    defense = KeyedSwap(None, jnp.asarray(PARTNERS), probability=probability)
    responses, audit = jax.device_get(BlackBox(NETWORK, VICTIM, defense, jax.random.key(1))(images))
    coins = np.where(np.isclose(responses, audit.probs, atol=1e-6).all(axis=1), 1, -1)
    return images, np.stack([responses, responses[:, PARTNERS]], axis=1), coins


def _accuracy(params):
    """Agreement with the victim on images of which none was queried."""
    images = _images(5, 500)
    return metrics.agreement(*(predict(NETWORK, p, images) for p in (params, VICTIM)))


def test_nearly_every_coin_is_inferred_up_to_the_common_sign():
    images, readings, coins = _theft()
    beliefs = infer_readings(images, readings)
    right = np.mean(np.sign(beliefs) == coins)
    assert 0.4 < np.mean(coins == 1) < 0.6
    assert max(right, 1 - right) >= 0.95


def test_the_sign_is_that_of_most_coins():
    images, readings, coins = _theft(probability=0.25)
    assert np.mean(np.sign(infer_readings(images, readings)) == coins) >= 0.95
    assert np.mean(np.sign(infer_readings(images, readings[:, ::-1])) == coins) >= 0.95


def test_beliefs_are_deterministic_and_follow_the_order_of_the_queries():
    images, readings, _ = _theft()
    beliefs = infer_readings(images, readings)
    np.testing.assert_array_equal(beliefs, infer_readings(images, readings))
    order = np.random.default_rng(0).permutation(len(images))
    moved = infer_readings(images[order], readings[order])
    assert np.mean(np.sign(moved) == np.sign(beliefs[order])) > 0.98


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 8, 8, 1), np.uint8), ((3, 5, 1, 2), np.float32), ((5, 40, 33, 3), np.uint8)]
)
def test_images_of_any_shape_have_finite_beliefs(shape, dtype):
    rng = np.random.default_rng(0)
    images = (255 * rng.random(shape)).astype(np.uint8) if dtype == np.uint8 else rng.random(shape, np.float32)
    readings = np.eye(4, dtype=np.float32)[rng.integers(0, 4, (len(images), 2))]
    beliefs = infer_readings(images, readings)
    assert beliefs.shape == shape[:1]
    assert beliefs.dtype == np.float32
    assert (np.abs(beliefs) <= 1).all()


def test_equal_readings_and_equal_images_say_nothing_and_are_never_nan():
    readings = np.full((20, 2, 4), 0.25, np.float32)
    np.testing.assert_allclose(infer_readings(np.zeros((20, 8, 8, 1), np.uint8), readings), 0, atol=1e-9)


def test_a_network_trained_between_readings_learns_what_a_plain_one_cannot():
    images, readings, coins = _theft()
    beliefs = infer_readings(images, readings)
    beliefs *= np.sign(np.sum(beliefs * coins))
    stolen = _accuracy(fit_between(jax.random.key(0), NETWORK, images, readings, beliefs, RECIPE))
    assert stolen > 0.9
    assert stolen > _accuracy(fit(jax.random.key(0), NETWORK, images, readings[:, 0], RECIPE)) + 0.2


def test_training_corrects_beliefs_that_are_often_wrong():
    images, readings, coins = _theft()
    doubtful = 0.5 * np.where(np.random.default_rng(0).random(len(coins)) < 0.2, -coins, coins)
    weighed, not_weighed = (
        _accuracy(fit_between(jax.random.key(0), NETWORK, images, readings, doubtful, RECIPE, trust=trust))
        for trust in (2.0, 0.0)
    )
    assert weighed > not_weighed + 0.05


def test_the_probe_settles_the_sign():
    images, readings, coins = _theft()
    truth = np.stack([p := predict(NETWORK, VICTIM, _images(3, 60)), p[:, PARTNERS]], axis=1)
    epochs = []
    for sign in (1, -1):
        beliefs = np.float32(0.9 * sign * coins)
        params = fit_between(
            jax.random.key(0),
            NETWORK,
            images,
            readings,
            beliefs,
            RECIPE,
            probe=(_images(3, 60), truth),
            on_epoch=lambda state, loss: epochs.append((state.epoch, loss)),
        )
        assert _accuracy(params) > 0.9
    assert epochs[:6] == epochs[6:]
    assert [number for number, _ in epochs[:6]] == [1, 2, 3, 4, 5, 6]


def test_without_doubt_or_trust_the_network_is_that_of_a_plain_fit():
    images, readings, _ = _theft()
    first, weights = readings[:, 0], VICTIM
    same = np.stack([first, first], axis=1)
    between = fit_between(jax.random.key(0), NETWORK, images, same, np.zeros(len(images)), RECIPE, params=weights)
    plain = fit(jax.random.key(0), NETWORK, images, first, RECIPE, params=weights)
    for ours, theirs in zip(jax.tree.leaves(between), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_twelve_queries_reveal_the_pairs(dtype):
    images = _images(4, 3)
    images = np.round(255 * images).astype(np.uint8) if dtype == np.uint8 else images
    given = images.copy()
    box = BlackBox(NETWORK, VICTIM, KeyedSwap(None, jnp.asarray(PARTNERS)), jax.random.key(2))
    api = Metered(box.api(), 12)
    np.testing.assert_array_equal(pairs_from_queries(jax.random.key(0), api, images), PARTNERS)
    assert api.spent == 12
    np.testing.assert_array_equal(images, given)


def test_an_api_that_exchanges_nothing_has_no_pairs():
    box = BlackBox(NETWORK, VICTIM)
    np.testing.assert_array_equal(pairs_from_queries(jax.random.key(0), box.api(), _images(4, 3)), np.arange(4))


IMAGES, READINGS = np.zeros((3, 8, 8, 1), np.uint8), np.full((3, 2, 4), 0.25, np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: infer_readings(IMAGES, READINGS[:2]), "two posteriors an image"),
        (lambda: infer_readings(IMAGES, READINGS[:, :1]), "two posteriors an image"),
        (lambda: infer_readings(IMAGES, 2 * READINGS), "must sum to one"),
        (lambda: infer_readings(IMAGES[:1], READINGS[:1]), "at least 2"),
        (lambda: infer_readings(IMAGES[0], READINGS), "images must have shape"),
        (lambda: infer_readings(IMAGES, READINGS, neighbours=0), "neighbours must be at least 1"),
        (lambda: infer_readings(IMAGES, READINGS, floor=0.0), "floor must be above 0"),
        (lambda: fit_between(jax.random.key(0), NETWORK, IMAGES, READINGS, np.zeros(2), RECIPE), "beliefs must be"),
        (
            lambda: fit_between(jax.random.key(0), NETWORK, IMAGES, READINGS, 2 * np.ones(3), RECIPE),
            "beliefs must be",
        ),
        (
            lambda: fit_between(jax.random.key(0), NETWORK, IMAGES, READINGS, np.zeros(3), RECIPE, trust=-1.0),
            "trust must be at least 0",
        ),
        (
            lambda: fit_between(
                jax.random.key(0), NETWORK, IMAGES, READINGS, np.zeros(3), RECIPE, probe=(IMAGES, READINGS[:1])
            ),
            "two posteriors an image",
        ),
        (
            lambda: pairs_from_queries(jax.random.key(0), lambda x: READINGS[:, 0], IMAGES),
            "every image: 12 asked, 3",
        ),
        (lambda: pairs_from_queries(jax.random.key(0), lambda x: x, IMAGES, copies=1), "copies must be at least 2"),
    ],
)
def test_what_cannot_be_used_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
