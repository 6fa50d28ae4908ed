"""The boundary layer: who is exchanged, how often, what that keeps private, and what repeated questions are worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import RandomNoise, perturb
from pp_jax.defenses import BDPL
from pp_jax.defenses.boundary import retain_probability
from pp_jax.types import Query
from support import hard_posteriors

KEY = jax.random.key(5)
EPSILONS = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0)


@jax.jit
def _answers(defense, probs, keys):
    """Answers to a batch, a key each."""
    return jax.vmap(lambda y, k: defense(y, Query(jnp.zeros((1, 1, 1)), k)))(probs, keys)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_labels_in_the_zone_are_kept_with_the_stated_probability(epsilon):
    probs = jnp.tile(jnp.float32([0.1, 0.44, 0.4, 0.06]), (20_000, 1))
    answers = np.asarray(_answers(BDPL(0.1, epsilon), probs, jax.random.split(KEY, 20_000)))
    stated = 0.5 + np.sqrt(np.exp(2 * epsilon) - 1) / (2 + 2 * np.exp(epsilon))
    np.testing.assert_allclose(retain_probability(epsilon), stated, rtol=1e-6)
    assert abs(np.mean(answers.argmax(1) == 1) - stated) < 0.015
    np.testing.assert_allclose(np.sort(answers, axis=1), np.sort(probs, axis=1), rtol=1e-6)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_odds_that_two_labels_agree_are_bounded_by_e_to_the_epsilon_and_reach_it(epsilon):
    p = np.float64(retain_probability(epsilon))
    # Two clean labels, alike or not with even odds, each answered as it is with probability p.
    same_given_same, same_given_apart = p**2 + (1 - p) ** 2, 2 * p * (1 - p)
    odds = np.array([same_given_same / same_given_apart, (1 - same_given_same) / (1 - same_given_apart)])
    assert (odds <= np.exp(epsilon) * (1 + 1e-5)).all()
    assert (odds >= np.exp(-epsilon) * (1 - 1e-5)).all()
    np.testing.assert_allclose(odds[0], np.exp(epsilon), rtol=1e-5)
    # What is not promised: a single label is given away by more.
    assert p / (1 - p) >= np.exp(epsilon) * (1 - 1e-6)


def test_outside_the_zone_nothing_changes_and_inside_only_the_two_top_classes():
    probs = hard_posteriors(np.random.default_rng(0), 3000, 6)
    two = np.sort(probs, axis=1)[:, -2:]
    zone = (two[:, 1] - two[:, 0]) < np.float32(0.2)
    answers = np.asarray(_answers(BDPL(0.2, 0.5), probs, jax.random.split(KEY, 3000)))
    np.testing.assert_allclose(answers[~zone], probs[~zone], rtol=3e-7, atol=2e-38)
    assert np.abs(answers.astype(np.float64) - probs).sum(1).max() <= 0.4 + 1e-6
    order = np.argsort(-probs, axis=1, kind="stable")
    assert np.isin(answers.argmax(1) - order[:, 0], 0).mean() < 1
    assert ((answers.argmax(1) == order[:, 0]) | (answers.argmax(1) == order[:, 1])).all()


def test_exactly_tied_top_classes_are_randomised_too():
    probs = jnp.tile(jnp.float32([0.5, 0.5]), (4000, 1))
    answers = np.asarray(_answers(BDPL(0.1, 0.0), probs, jax.random.split(KEY, 4000)))
    assert abs(answers.argmax(1).mean() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("defense", "least_wrong"), [(BDPL(0.2, 0.5), 0.2), (RandomNoise(3.0, "l2"), 0.4)], ids=["BDPL", "RandomNoise"]
)
def test_averaging_a_thousand_repeats_undoes_nothing_but_would_with_fresh_keys(defense, least_wrong):
    # 200 queries near the boundary of two classes, the first of which is right.
    right = np.random.default_rng(1).uniform(0.52, 0.58, 200).astype(np.float32)
    probs = np.stack([right, 1 - right], axis=1)
    images = np.random.default_rng(0).random((200, 2, 2, 1), np.float32)

    def wrong(answers):
        """The share of wrong labels."""
        return float(np.mean(answers.argmax(1) != 0))

    # Within a batch and across batches a repeat is answered alike, bit for bit.
    repeats = np.tile(np.arange(200), 5)
    once = np.asarray(perturb(defense, probs, images, key=KEY))
    batch = np.asarray(perturb(defense, probs[repeats], images[repeats], key=KEY))
    np.testing.assert_array_equal(batch, once[repeats])
    total = sum(np.asarray(perturb(defense, probs[repeats], images[repeats], key=KEY)).reshape(5, 200, 2).sum(0)
                for _ in range(200))  # fmt: skip
    np.testing.assert_allclose(total / 1000, once, rtol=1e-5)
    assert wrong(total) == wrong(once) >= least_wrong

    # The same defense with a key for every question: the mean of the answers finds nearly every label.
    keys = jax.random.split(KEY, (1000, 200))
    fresh = np.asarray(jax.jit(jax.vmap(_answers, (None, None, 0)))(defense, probs, keys)).mean(0)
    assert wrong(fresh) <= 0.05


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ValueError, match="zone must be at least 0 and at most 1, not 1\\.5"):
        BDPL(1.5, 1.0)
    with pytest.raises(ValueError, match="epsilon must be at least 0 and at most 80, not -1"):
        BDPL(0.1, -1.0)
