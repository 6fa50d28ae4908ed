"""PATE's noisy votes and their price, and APMSA's changed inputs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smallworld as small
from pp_jax import perturb
from pp_jax.defenses import APMSA, PATE, Defender
from pp_jax.training import Recipe
from support import (
    broken_promises,
    given_logits,
    hard_posteriors,
    linear_logits,
    linear_params,
    linear_posteriors,
    quick,
)

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).random((60, 4, 1, 1), np.float32)
CLEAN = np.full((60, 4), 0.25, np.float32)


def _shifted(shift, image):
    """A teacher whose logits are the pixels, rolled."""
    return jnp.roll(image.ravel(), shift)


TEACHERS = jnp.array([0, 0, 0, 1, 2])


@functools.cache
def _defender():
    victim = small.victim()
    return Defender(
        victim.network, victim.params, victim.images, victim.labels, victim.recipe, 4, (8, 8, 1), victim.network, KEY
    )


def test_without_noise_a_response_is_the_histogram_of_the_votes_or_its_mode():
    top = IMAGES.reshape(60, 4).argmax(1)
    votes = (3 * np.eye(4)[top] + np.eye(4)[(top + 1) % 4] + np.eye(4)[(top + 2) % 4]) / 5
    found = perturb(PATE(_shifted, TEACHERS, 0.0), CLEAN, IMAGES, key=KEY)
    np.testing.assert_allclose(found, votes, atol=1e-6)
    labels = perturb(PATE(_shifted, TEACHERS, 0.0, label=True), CLEAN, IMAGES, key=KEY)
    np.testing.assert_array_equal(labels, np.eye(4)[top])


@pytest.mark.parametrize("noise", quick(["laplace", "gaussian"], 0))
def test_noise_has_its_scale_and_an_image_keeps_it(noise):
    defense = PATE(_shifted, TEACHERS, 1.0, noise=noise)
    once = np.asarray(perturb(defense, CLEAN, IMAGES, key=KEY))
    np.testing.assert_allclose(perturb(defense, CLEAN[::-1], IMAGES[::-1], key=KEY)[::-1], once, atol=1e-6)
    assert (
        np.abs(np.asarray(perturb(defense, CLEAN, IMAGES, key=jax.random.key(1))) - once).max(1) > 1e-3
    ).mean() > 0.9
    counts = broken_promises(CLEAN, once, np.full(60, 2, np.float32), distance="L1", keep_argmax=False)
    assert not any(counts.values()), counts
    many = np.tile(IMAGES[:1], (4000, 1, 1, 1)) + np.linspace(0, 1e-3, 4000, dtype=np.float32)[:, None, None, None]
    labels = np.asarray(perturb(dataclasses.replace(defense, label=True), np.full((4000, 4), 0.25, np.float32),
                                np.clip(many, 0, 1), key=KEY))  # fmt: skip
    top = IMAGES[0].ravel().argmax()
    rng = np.random.default_rng(0)
    draw = rng.laplace if noise == "laplace" else rng.normal
    votes = 3 * np.eye(4)[top] + np.eye(4)[(top + 1) % 4] + np.eye(4)[(top + 2) % 4]
    expected = ((votes + draw(0, 1, (40_000, 4))).argmax(1) == top).mean()
    assert abs((labels.argmax(1) == top).mean() - expected) < 0.03


def test_the_price_is_that_of_the_bounds_by_hand():
    def pate(scale, noise):
        return PATE(_shifted, TEACHERS, scale, noise=noise)

    assert pate(20.0, "laplace").epsilon(1) == pytest.approx(0.1, rel=1e-6)
    orders = np.linspace(0.01, 500, 200_000)
    moments = np.min((2 * 100 * orders * (orders + 1) / 400 + np.log(1e5)) / orders)
    assert pate(20.0, "laplace").epsilon(100) == pytest.approx(min(10, moments), rel=1e-2)
    gauss = np.min(100 * (1 + orders) / 1600 + np.log(1e5) / orders)
    assert pate(40.0, "gaussian").epsilon(100) == pytest.approx(gauss, rel=1e-2)
    assert pate(0.0, "laplace").epsilon(1) == np.inf
    assert pate(40.0, "gaussian").epsilon(100) < pate(40.0, "gaussian").epsilon(200)


@pytest.mark.slow
def test_teachers_learn_from_parts_and_together_know_the_classes():
    defender = dataclasses.replace(_defender(), recipe=Recipe(8, 32, 0.05))
    made = PATE.fitted(defender, teachers=3, scale=0.0, epochs=12)
    test = small.test_images()
    found = np.asarray(perturb(made, np.full((128, 4), 0.25, np.float32), test.images, key=KEY))
    assert (found.argmax(1) == test.labels).mean() > 0.6
    assert {leaf.shape[0] for leaf in jax.tree.leaves(made.teachers)} == {3}
    assert made.presumed(KEY, small.network(), (8, 8, 1)) is None


@pytest.fixture(scope="module")
def linear():
    """A linear victim of 6 × 6 images, its posteriors, and a defense with soft templates."""
    params = linear_params(KEY, 36, 4, scale=0.5)
    images = np.random.default_rng(1).random((100, 6, 6, 1), np.float32)
    templates = jnp.asarray(0.6 * np.eye(4) + 0.1, jnp.float32)
    return images, linear_posteriors(params, images), APMSA(linear_logits, params, templates, 0.1)


def test_responses_of_a_class_are_more_alike_and_keep_it(linear):
    images, probs, defense = linear
    found = np.asarray(perturb(defense, probs, images))
    assert (found.argmax(1) == probs.argmax(1)).all()
    counts = broken_promises(np.asarray(probs), found, np.full(100, 2, np.float32), distance="L1", keep_argmax=True)
    assert not any(counts.values()), counts

    def spread(rows):
        tops = np.asarray(rows).argmax(1)
        return np.mean([np.asarray(rows)[tops == label].std(0).mean() for label in np.unique(tops)])

    assert spread(found) < 0.8 * spread(probs)


@pytest.mark.slow
def test_a_response_is_the_posterior_of_an_image_within_the_radius(linear):
    images, probs, defense = linear
    still = perturb(dataclasses.replace(defense, radius=0.0), probs, images)
    np.testing.assert_allclose(still, probs, atol=1e-5)
    kernel = np.asarray(defense.params["params"]["kernel"], np.float64)
    found = np.asarray(perturb(defense, probs, images), np.float64)
    # A change δ moves the logit difference of two classes by at most ‖δ‖∞ ‖w_a − w_b‖₁.
    for a in range(4):
        for b in range(4):
            moved = np.log(found[:, a] / found[:, b]) - np.log(np.asarray(probs)[:, a] / np.asarray(probs)[:, b])
            assert np.abs(moved).max() <= 0.1 * np.abs(kernel[:, a] - kernel[:, b]).sum() + 1e-3


@pytest.mark.slow
def test_hard_posteriors_of_any_victim_keep_their_class():
    probs = hard_posteriors(np.random.default_rng(2), 100, 4)
    images = np.random.default_rng(3).random((100, 4, 1, 1), np.float32)
    found = np.asarray(perturb(APMSA(given_logits, None, jnp.eye(4)), probs, images))
    counts = broken_promises(probs, found, np.full(100, 2, np.float32), distance="L1", keep_argmax=True)
    assert not any(counts.values()), counts


@pytest.mark.slow
def test_templates_are_mean_posteriors_and_an_attacker_has_a_network_of_its_own():
    made = APMSA.fitted(_defender(), steps=2)
    assert (np.asarray(made.templates).argmax(1) == np.arange(4)).all()
    guess = made.presumed(KEY, small.network(), (8, 8, 1))
    assert jax.tree.structure(guess) == jax.tree.structure(made)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="scale must be at least 0"):
        PATE(_shifted, TEACHERS, -1.0)
    with pytest.raises(ValueError, match="noise is 'none': must be one of laplace, gaussian"):
        PATE(_shifted, TEACHERS, noise="none")
    with pytest.raises(ValueError, match="network knows 4 classes, the victim's posterior has 3"):
        perturb(PATE(_shifted, TEACHERS), np.full((1, 3), 1 / 3, np.float32), IMAGES[:1], key=KEY)
    with pytest.raises(ValueError, match="teachers is 500: must be at most 400, the number of training images"):
        PATE.fitted(_defender(), teachers=500)
    with pytest.raises(ValueError, match="teachers must be a whole number of at least 2, not 1"):
        PATE.fitted(_defender(), teachers=1)
    with pytest.raises(ValueError, match="delta must be above 0 and below 1, not 1"):
        PATE(_shifted, TEACHERS).epsilon(1, delta=1.0)
    with pytest.raises(ValueError, match="radius must be at least 0 and at most 1, not 2"):
        APMSA(linear_logits, None, jnp.eye(4), 2.0)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1, not 0"):
        APMSA(linear_logits, None, jnp.eye(4), steps=0)
