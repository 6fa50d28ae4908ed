"""Honeytrace: near the mixtures responses turn to the target, the formula is the published one, others stay."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smallworld
from pp_jax import perturb
from pp_jax.defenses import Honeytrace, honeytrace
from pp_jax.defenses.cards import Defender
from pp_jax.training.predicting import predict
from pp_jax.types import Query

KEY = jax.random.key(5)
TARGET = 2


def _pixels(params, image):
    """Features that are the pixels."""
    del params
    return image.ravel()


MADE = Honeytrace(_pixels, None, jnp.array([[0.5], [0.5]]), jnp.log(jnp.array([0.1, 0.2, 0.7])), 0.4)


@functools.cache
def _defender(**changes):
    """Of the stripes."""
    victim = smallworld.victim()
    made = Defender(
        victim.network, victim.params, victim.images, victim.labels, victim.recipe, 4, (8, 8, 1), victim.network, KEY
    )
    return dataclasses.replace(made, **changes)


@functools.cache
def _fitted():
    """A trace that may touch one benign image in ten."""
    return Honeytrace.fitted(_defender(), target=TARGET, share=0.1)


def test_mixtures_are_answered_as_the_target_and_most_benign_images_as_before():
    victim, defense = smallworld.victim(), _fitted()
    mixed = honeytrace.mixtures(jax.random.key(9), victim.images, victim.labels, target=TARGET, count=100)
    benign = smallworld.test_images().images
    before = [predict(victim.network, victim.params, images) for images in (mixed, benign)]
    after = [
        np.asarray(perturb(defense, jnp.asarray(y), jnp.asarray(x), key=KEY))
        for y, x in zip(before, (mixed, benign), strict=True)
    ]
    assert after[0][:, TARGET].mean() > before[0][:, TARGET].mean() + 0.1
    assert (np.abs(after[1] - before[1]).max(1) > 1e-6).mean() < 0.25


@pytest.mark.parametrize("pixel", [0.5, 0.6, 0.75, 0.9, 1.0])
def test_the_blend_is_the_published_formula(pixel):
    probs, image = jnp.array([0.7, 0.2, 0.1]), jnp.full((1, 1, 1), pixel)
    similarity = np.clip(1 - abs(pixel - 0.5) / 0.4, 0, 1)
    logits = (1 - similarity**2) * np.log(np.asarray(probs)) + similarity**2 * np.asarray(MADE.target)
    expected = [np.exp(logits) / np.exp(logits).sum(), np.exp(np.asarray(MADE.target))]
    for seed in range(6):
        key = jax.random.key(seed)
        draw = float(jax.random.uniform(key)) < similarity**3
        answer = MADE(probs, Query(image, key))
        np.testing.assert_allclose(answer, expected[int(draw)], atol=1e-6)


def test_unsure_responses_count_as_more_similar():
    image, key = jnp.full((1, 1, 1), 0.8), jax.random.key(0)
    sure, unsure = jnp.array([0.51, 0.29, 0.2]), jnp.array([0.49, 0.31, 0.2])
    moved = [float(jnp.abs(MADE(y, Query(image, key)) - y).sum()) for y in (sure, unsure)]
    assert moved[1] > 3 * moved[0]


def test_far_images_and_a_scale_of_zero_change_nothing():
    probs, key = jnp.array([0.7, 0.3, 0.0]), jax.random.key(0)
    far = jnp.full((1, 1, 1), 1.0)
    np.testing.assert_array_equal(MADE(probs, Query(far, key)), probs)
    near = dataclasses.replace(MADE, scale=0.0)(probs, Query(jnp.full((1, 1, 1), 0.5), key))
    np.testing.assert_array_equal(near, probs)


def test_mixtures_are_halves_of_two_classes_in_the_images_type():
    images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.full((4, 2, 2, 1), 40, np.uint8)
    mixed = honeytrace.mixtures(KEY, images, [0, 1, 1, 1], target=0, count=20)
    assert mixed.dtype == np.uint8
    assert {int(image.max()) for image in mixed} <= {20, 40, 60}


def test_a_rehearsal_fits_nothing():
    made = Honeytrace.fitted(_defender(rehearsal=True))
    assert float(made.scale) == 0
    assert made.references.shape == (1, 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dataclasses.replace(MADE, scale=-1.0), "scale must be at least 0"),
        (lambda: MADE(jnp.array([0.5, 0.5]), Query(jnp.zeros((1, 1, 1)), KEY)), "the target has 3 classes"),
        (lambda: Honeytrace.fitted(_defender(), share=2.0), "share must be at least 0 and at most 1"),
        (lambda: Honeytrace.fitted(_defender(), target=9), "target is 9: there must be images of this class"),
        (lambda: Honeytrace.fitted(_defender(network=_pixels)), r"the victim must have features\(params, image\)"),
        (lambda: Honeytrace.fitted(_defender(images=None)), "the victim has no training images"),
    ],
)
def test_what_cannot_be_made_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
