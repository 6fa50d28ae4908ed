"""KeyedSwap: what is exchanged, for whom and how often; for one image alone the classes of a pair look the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import perturb
from pp_jax.defenses import Defender, KeyedSwap, keyed_swap
from pp_jax.defenses.ood import Novelty
from pp_jax.types import Query
from support import hard_posteriors

KEY = jax.random.key(5)
PAIRS = jnp.array([1, 0, 3, 2, 4])
NEAR = {"rtol": 3e-7, "atol": 2e-38}


def _gate(levels):
    """A gate for images of one pixel: the larger it is, the stranger."""
    rows = [np.full(levels, 2.0), np.linspace(0, 1, levels), np.full(levels, 2.0)]
    none, one = np.zeros((1, 1)), np.ones((1, 1))
    arrays = (one, none, none[0], one, np.stack(rows), np.arange(1, levels + 1) / levels)
    return Novelty(_pixels, None, *(jnp.asarray(a, jnp.float32) for a in arrays))


def _pixels(params, image):
    """Features that are the pixels."""
    del params
    return image.ravel()


def _answers(defense, probs, keys, pixels=None):
    """Answers to a batch, a key each."""
    pixels = np.zeros(len(probs), np.float32) if pixels is None else np.float32(pixels)
    return np.asarray(_compiled(defense, probs, pixels[:, None, None, None], keys))


@jax.jit
def _compiled(defense, probs, images, keys):
    """The same, compiled."""
    return jax.vmap(lambda y, x, k: defense(y, Query(x, k)))(probs, images, keys)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_pairs_are_exchanged_together_and_as_often_as_stated(probability):
    probs = np.float32([[0.1, 0.2, 0.3, 0.15, 0.25]] * 4000)
    answers = _answers(KeyedSwap(None, PAIRS, 1.0, probability), probs, jax.random.split(KEY, 4000))
    exchanged = (answers == probs[:, np.asarray(PAIRS)]).all(1)
    assert (exchanged | (answers == probs).all(1)).all()
    assert abs(exchanged.mean() - probability) < 0.03


def test_only_strange_queries_are_exchanged():
    probs = hard_posteriors(np.random.default_rng(0), 1000, 5)
    pixels = np.linspace(0, 1.2, 1000, dtype=np.float32)
    gate = _gate(200)
    answers = _answers(KeyedSwap(gate, PAIRS, 0.1, 1.0), probs, jax.random.split(KEY, 1000), pixels)
    strange = pixels**2 > np.quantile(np.linspace(0, 1, 200), 0.9)
    near = np.abs(pixels**2 - 0.9) < 0.01
    np.testing.assert_allclose(answers[strange & ~near], probs[:, np.asarray(PAIRS)][strange & ~near], **NEAR)
    np.testing.assert_allclose(answers[~strange & ~near], probs[~strange & ~near], **NEAR)


def test_nobody_is_strange_at_share_zero_and_everybody_at_one():
    probs = hard_posteriors(np.random.default_rng(1), 100, 5)
    keys, pixels = jax.random.split(KEY, 100), np.linspace(0, 9, 100)
    np.testing.assert_allclose(_answers(KeyedSwap(_gate(50), PAIRS, 0.0, 1.0), probs, keys, pixels), probs, **NEAR)
    swapped = _answers(KeyedSwap(_gate(50), PAIRS, 1.0, 1.0), probs, keys, pixels)
    np.testing.assert_allclose(swapped, probs[:, np.asarray(PAIRS)], **NEAR)


def test_the_mean_response_to_one_image_over_fresh_keys_is_the_same_for_a_posterior_and_its_exchange():
    """No user gets fresh keys; and near images, whose responses can be compared, are another matter."""
    probs = np.float32([[0.7, 0.1, 0.1, 0.05, 0.05], [0.1, 0.7, 0.05, 0.1, 0.05]])
    keys = jax.random.split(KEY, 20_000)
    means = [_answers(KeyedSwap(None, PAIRS), np.tile(row, (20_000, 1)), keys).mean(0) for row in probs]
    np.testing.assert_allclose(means[0], means[1], atol=0.02)
    np.testing.assert_allclose(means[0], (probs[0] + probs[1]) / 2, atol=0.02)


def test_a_repeated_query_has_one_answer_in_any_batch():
    rng = np.random.default_rng(2)
    probs, images = rng.dirichlet(np.ones(5), 60).astype(np.float32), rng.random((60, 2, 2, 1), np.float32)
    defense = KeyedSwap(None, PAIRS)
    once = np.asarray(perturb(defense, probs, images, key=KEY))
    rows = rng.permutation(np.tile(np.arange(60), 3))
    np.testing.assert_array_equal(perturb(defense, probs[rows], images[rows], key=KEY), once[rows])
    assert 10 < (once != probs).any(1).sum() < 50


def test_the_pairs_are_the_defenders_secret():
    """Nothing that an attacker may guess, as the seed of a network, gives them away."""

    def pairs(secret):
        nothing = None, None, None, None, None
        told = Defender(*nothing, 100, (2, 2, 1), None, jax.random.key(secret), rehearsal=True)
        return np.asarray(KeyedSwap.fitted(told).partners)

    assert (pairs(1) != pairs(2)).mean() > 0.8
    np.testing.assert_array_equal(pairs(1), pairs(1))


@pytest.mark.parametrize("classes", [2, 3, 10, 17])
def test_random_partners_are_each_others_and_leave_at_most_one_alone(classes):
    partners = np.asarray(keyed_swap.random_partners(KEY, classes))
    np.testing.assert_array_equal(partners[partners], np.arange(classes))
    assert (partners == np.arange(classes)).sum() == classes % 2
    other = np.asarray(keyed_swap.random_partners(jax.random.key(6), classes))
    assert classes < 4 or (other != partners).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partners": jnp.array([1, 2, 0])}, r"partners\[partners\[k\]\] = k, not \[1, 2, 0\]"),
        ({"partners": jnp.array([1, 5])}, r"not \[1, 5\]"),
        ({"partners": jnp.ones(3)}, r"\(K,\) whole numbers, not float32 of shape \(3,\)"),
        ({"share": 1.5}, "share must be at least 0 and at most 1, not 1.5"),
        ({"probability": -0.1}, "probability must be at least 0 and at most 1, not -0.1"),
    ],
)
def test_bad_parameters_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        KeyedSwap(**({"novelty": None, "partners": PAIRS} | options))


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(ValueError, match="partners for 5 classes, of 3"):
        KeyedSwap(None, PAIRS)(jnp.full(3, 1 / 3), Query(jnp.zeros((1, 1, 1)), KEY))
    with pytest.raises(ValueError, match="classes must be at least 2, not 1"):
        keyed_swap.random_partners(KEY, 1)
