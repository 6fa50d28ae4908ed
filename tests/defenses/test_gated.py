"""A gate and what it answers behind it: who is answered truly, and what the others say of the image."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smallworld as small
from pp_jax import perturb
from pp_jax.defenses import GatedResampled, cards
from pp_jax.defenses.fields import Fields, blurred
from pp_jax.defenses.gated import fields
from pp_jax.defenses.resampled import Resampled
from pp_jax.types import Query
from support import broken_promises, hard_posteriors, quick

KEY = jax.random.key(5)
CLASSES = 4
FORMS = ("other", "drawn", "local", "label")
IMAGES = np.random.default_rng(0).random((60, 8, 8, 1), np.float32)
STORED = Resampled.of(np.random.default_rng(1).dirichlet(np.full(CLASSES, 0.2), 400), each=16).stored


@functools.cache
def made(closed, *, amplitude=1.0):
    """A defense without a gate."""
    drawn = fields(KEY, IMAGES, STORED.shape, 0.5) if closed in ("local", "label") else (None, None)
    return GatedResampled(None, STORED, *drawn, 1.0, amplitude, closed)


@functools.cache
def fitted(closed="local", **options):
    victim = small.victim()
    defender = cards.Defender(
        victim.network, victim.params, victim.images, victim.labels, victim.recipe, CLASSES, (8, 8, 1), victim.network,
        jax.random.key(2),
    )  # fmt: skip
    return GatedResampled.fitted(defender, closed=closed, **options)


@pytest.mark.parametrize("closed", quick(FORMS, 2))
def test_responses_are_posteriors_for_every_hard_posterior(closed):
    probs = hard_posteriors(np.random.default_rng(2), 200, CLASSES)
    images = np.random.default_rng(3).random((200, 8, 8, 1), np.float32)
    found = np.asarray(perturb(made(closed), probs, images, key=KEY))
    counts = broken_promises(probs, found, np.full(200, 2, np.float32), distance="L1", keep_argmax=False)
    assert not any(counts.values()), counts


@pytest.mark.parametrize("closed", quick(["drawn", "local"], 1))
def test_the_response_behind_the_gate_does_not_depend_on_the_posterior(closed):
    rng = np.random.default_rng(4)
    one, other = (rng.dirichlet(np.ones(CLASSES), 60).astype(np.float32) for _ in range(2))
    answers = [np.asarray(perturb(made(closed), y, IMAGES, key=KEY)) for y in (one, other)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("closed", quick(FORMS, 2))
def test_an_image_keeps_its_response_in_any_batch_and_another_key_gives_another(closed):
    probs = np.random.default_rng(4).dirichlet(np.ones(CLASSES), 60).astype(np.float32)
    once = np.asarray(perturb(made(closed), probs, IMAGES, key=KEY))
    rows = np.random.default_rng(5).permutation(60)
    np.testing.assert_allclose(perturb(made(closed), probs[rows], IMAGES[rows], key=KEY), once[rows], atol=1e-6)
    alone = made(closed)(jnp.asarray(probs[0]), Query(jnp.asarray(IMAGES[0]), KEY))
    assert alone.shape == (CLASSES,)
    if made(closed).random:
        other = np.asarray(perturb(made(closed), probs, IMAGES, key=jax.random.key(9)))
    else:
        drawn = fields(jax.random.key(9), IMAGES, STORED.shape, 0.5)
        other = np.asarray(
            perturb(dataclasses.replace(made(closed), cells=drawn[0], ripple=drawn[1]), probs, IMAGES, key=KEY)
        )
    assert (np.abs(once - other).max(1) > 1e-3).mean() > 0.3


def test_copies_of_an_image_agree_where_the_response_is_local_and_differ_where_it_is_drawn():
    copies = np.repeat(IMAGES[:20], 2, axis=0)
    copies[1::2, 4, 4, 0] += np.where(copies[1::2, 4, 4, 0] < 0.5, 1, -1) / 255
    probs = np.full((40, CLASSES), 1 / CLASSES, np.float32)

    def apart(closed, **options):
        found = np.asarray(perturb(made(closed, **options), probs, copies, key=KEY)).reshape(20, 2, CLASSES)
        return np.abs(np.log(np.maximum(found[:, 0], 1e-30)) - np.log(np.maximum(found[:, 1], 1e-30))).max(1)

    assert (apart("drawn") > 0.5).mean() > 0.5
    assert (apart("local") < 0.2).mean() > 0.9
    assert (apart("local") > 1e-6).mean() > 0.9  # not stored posteriors to the last bit
    assert (apart("local", amplitude=0.0) < 1e-5).mean() > 0.9


@pytest.mark.slow
def test_a_labels_response_has_the_entries_of_the_posterior_under_a_class_that_depends_on_place():
    probs = np.random.default_rng(4).dirichlet(np.ones(CLASSES), 60).astype(np.float32)
    found = np.asarray(perturb(made("label"), probs, IMAGES, key=KEY))
    np.testing.assert_allclose(np.sort(found, axis=1), np.sort(probs, axis=1), atol=1e-6)
    again = np.asarray(perturb(made("label"), probs[::-1], IMAGES, key=KEY))
    np.testing.assert_array_equal(found.argmax(1), again.argmax(1))


@pytest.mark.slow
def test_a_fitted_gate_answers_its_own_distribution_truly_and_others_from_the_store():
    rng = np.random.default_rng(6)
    noise = rng.integers(0, 256, (200, 8, 8, 1)).astype(np.uint8)
    own = small.test_images().images
    victim, defense = small.victim(), fitted(share=0.05)
    for images, low, high in ((own, 0, 0.15), (noise, 0.9, 1)):
        probs = np.asarray(jax.nn.softmax(jax.vmap(victim.network, (None, 0))(victim.params, images)))
        found = np.asarray(perturb(defense, probs, images))
        assert low <= (np.abs(found - probs).max(1) > 1e-4).mean() <= high
    open_gate = np.asarray(perturb(dataclasses.replace(defense, share=0.0), probs, images))
    np.testing.assert_allclose(open_gate, probs, atol=1e-6)


@pytest.mark.slow
def test_an_attacker_has_neither_gate_nor_cells():
    guess = fitted().presumed(jax.random.key(3), small.network(), (8, 8, 1))
    assert guess.novelty is None
    assert not np.allclose(guess.cells.amplitudes, fitted().cells.amplitudes)
    assert fitted("drawn").presumed(jax.random.key(3), small.network(), (8, 8, 1)).random


@pytest.mark.slow
def test_fields_vary_by_one_and_near_images_have_near_values():
    drawn = Fields.drawn(KEY, IMAGES, outputs=300, width=1.0, side=4)
    values = np.asarray(jax.jit(jax.vmap(drawn))(IMAGES))
    assert 0.8 < values.std() < 1.2
    near = np.asarray(jax.jit(jax.vmap(drawn))(np.clip(IMAGES + 0.01, 0, 1)))
    assert np.abs(near - values).mean() < 0.2
    rows = np.asarray(jax.vmap(lambda x: blurred(x, 4))(IMAGES))
    scale = 1 / np.asarray(drawn.frequencies).std()
    expected = np.exp(-np.sum((rows[0] - rows[1]) ** 2) / (2 * scale**2))
    assert abs(np.corrcoef(values[0], values[1])[0, 1] - expected) < 0.25
    bytes_ = Fields.drawn(KEY, (255 * IMAGES).astype(np.uint8), outputs=3)
    assert bytes_((255 * IMAGES[0]).astype(np.uint8)).shape == (3,)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 1.5}, "share must be at least 0 and at most 1, not 1.5"),
        ({"amplitude": -1.0}, "amplitude must be at least 0 and at most 100, not -1"),
        ({"closed": "near"}, "closed is 'near': must be one of other, drawn, local, label"),
        ({"closed": "local"}, "cells must be given where closed is local or label, else be None: it is local"),
    ],
)
def test_bad_parameters_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        GatedResampled(None, STORED, None, None, **({"closed": "drawn"} | options))


def test_other_classes_and_empty_fields_are_refused():
    with pytest.raises(ValueError, match="posteriors of 4 classes stored, of 3"):
        made("local")(jnp.full(3, 1 / 3), Query(jnp.zeros((8, 8, 1)), None))
    with pytest.raises(ValueError, match="width must be above 0 and at most 1e"):
        Fields.drawn(KEY, IMAGES, outputs=2, width=0.0)
    with pytest.raises(ValueError, match="outputs must be a whole number of at least 1, not 0"):
        Fields.drawn(KEY, IMAGES, outputs=0)
    assert Fields.drawn(KEY, IMAGES[:1], outputs=2)(IMAGES[0]).shape == (2,)
