"""QUEEN: what is sensitive, what it costs a class, and what is answered then."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erfc

from pp_jax.defenses import QUEEN, contrastive
from pp_jax.defenses.contrastive import Plane
from pp_jax.defenses.diverse import Ensemble
from pp_jax.defenses.queen import MembersLoss, reversed_gradient
from pp_jax.serving.perturbation import perturb_sequence
from support import Linear, broken_promises, given_logits, hard_posteriors

RNG = np.random.default_rng(0)


def _pixels(params, image):
    """Features that are the pixels."""
    del params
    return image.ravel()


@functools.cache
def made(**options):
    """Three classes whose features are the pixels, three; the plane keeps two: u = (x₀, x₁)."""
    inner = np.concatenate([np.eye(3)[:, :2], -np.eye(3)[:, :2]], axis=1).astype(np.float32)
    outer = np.concatenate([np.eye(2), -np.eye(2)]).astype(np.float32)
    plane = Plane(
        (jnp.asarray(inner), jnp.zeros(4), jnp.asarray(outer)), jnp.zeros(3), jnp.float32(1), jnp.zeros((3, 2)),
        jnp.full(3, 0.5),
    )  # fmt: skip
    head = jnp.asarray(np.concatenate([4 * np.eye(3), np.zeros((1, 3))]), jnp.float32)
    given = {"radius": 0.5, "threshold": 0.1, "capacity": 8} | options
    return QUEEN(_pixels, None, head, jnp.eye(3), plane, given_logits, jnp.zeros(2), **given)


def _asked(defense, images, probs=None, state=None):
    """Responses and the coverage after them; posteriors are the head's by default."""
    images = np.asarray(images, np.float32).reshape(-1, 3, 1, 1)
    probs = np.asarray(jax.nn.softmax(4 * images.reshape(-1, 3))) if probs is None else probs
    found, state = perturb_sequence(defense, defense.init() if state is None else state, probs, images)
    return np.asarray(found), state, probs


def test_queries_far_apart_cover_a_class_and_its_score_is_the_sum_by_hand():
    images = [[0.3, 0.0, 0.0], [0.4, 0.0, 0.0], [0.0, 0.3, 0.4], [0.9, 0.0, 0.0]]
    _, state, _ = _asked(made(threshold=9.0), images)
    # The second lies within r of the first, the last outside the core.
    assert state.counts.tolist() == [1, 0, 1]
    expected = [(0.5 * erfc(0.5 * (d / 0.5 - 1)) * 0.5) ** 2 for d in (0.3, 0.3)]
    np.testing.assert_allclose(state.scores[jnp.array([0, 2])], expected, rtol=1e-5)


@pytest.mark.slow
def test_beyond_the_threshold_sensitive_queries_get_the_reversed_gradient():
    defense = made(radius=0.1, threshold=0.01)
    grid = np.stack([[0.45 * np.cos(a), 0.45 * np.sin(a), 0.6] for a in np.linspace(0, 1.5, 8)])
    found, state, probs = _asked(defense, grid)
    top = probs.argmax(1)
    shadow = np.asarray(jax.nn.softmax(jnp.asarray(grid, jnp.float32)))
    expected = np.maximum(2 * shadow - probs, 0)
    expected /= expected.sum(1, keepdims=True)
    assert state.scores[2] > 0.01
    np.testing.assert_allclose(found[-1], expected[-1], atol=1e-5)
    np.testing.assert_allclose(found[0], probs[0], atol=1e-6)
    assert (top == 2).all()


@pytest.mark.slow
def test_one_user_poisons_another_where_the_coverage_is_shared():
    """Griefing: the second user's first query is reversed because of the first user's."""
    defense = made(radius=0.1, threshold=0.01)
    grid = np.stack([[0.45 * np.cos(a), 0.45 * np.sin(a), 0.6] for a in np.linspace(0, 1.5, 8)])
    mine = [[0.05, 0.05, 0.6]]
    alone, _, probs = _asked(defense, mine)
    after, _, _ = _asked(defense, mine, state=_asked(defense, grid)[1])
    np.testing.assert_allclose(alone, probs, atol=1e-6)
    assert np.abs(after - probs).sum() > 0.1


@pytest.mark.slow
def test_what_is_not_sensitive_moves_towards_the_farthest_class_and_keeps_its_own():
    found, _, probs = _asked(made(), [[0.9, 0.1, 0.0]])
    path = [[0.9, 0.1, 0.0] + s / 20 * (np.eye(3)[2] - [0.9, 0.1, 0.0]) for s in range(21)]
    last = [p for p in path if np.argmax(p) == 0][-1]
    np.testing.assert_allclose(found[0], jax.nn.softmax(4 * jnp.asarray(last, jnp.float32)), atol=1e-5)
    assert found.argmax(1) == probs.argmax(1)


def test_the_reversed_gradient_is_the_posterior_of_the_largest_cosine():
    rng = np.random.default_rng(1)
    others = rng.dirichlet(np.ones(4), 4000)
    for _ in range(20):
        y, p = rng.dirichlet(np.ones(4), 2)
        towards = 2 * p - y
        best = np.asarray(reversed_gradient(jnp.float32(y), jnp.float32(p)))
        cosines = others @ towards / np.linalg.norm(others, axis=1)
        assert best @ towards / np.linalg.norm(best) >= cosines.max() - 1e-5


@pytest.mark.slow
def test_responses_are_posteriors_for_every_hard_posterior_and_a_cut_sequence_is_the_same():
    probs = hard_posteriors(RNG, 120, 3)
    images = RNG.random((120, 3)).astype(np.float32)
    found, state, _ = _asked(made(), images, probs)
    counts = broken_promises(probs, found, np.full(120, 2, np.float32), distance="L1", keep_argmax=False)
    assert not any(counts.values()), counts
    first, between, _ = _asked(made(), images[:50], probs[:50])
    rest, after, _ = _asked(made(), images[50:], probs[50:], between)
    np.testing.assert_allclose(np.concatenate([first, rest]), found, atol=1e-6)
    np.testing.assert_allclose(after.scores, state.scores, rtol=1e-5)


@pytest.mark.slow
def test_the_plane_brings_a_class_together():
    labels = RNG.integers(0, 3, 300)
    features = (np.eye(6)[labels] + 0.5 * RNG.normal(size=(300, 6))).astype(np.float32)

    def spread(steps):
        plane = contrastive.plane_of(jax.random.key(0), features, labels, classes=3, steps=steps)
        apart = np.linalg.norm(plane.centres[:, None] - plane.centres[None], axis=2)[np.triu_indices(3, 1)]
        return float(plane.scales.mean() / apart.min())

    assert spread(200) < 0.7 * spread(0)


def test_the_contrastive_loss_is_that_by_hand():
    places, labels = RNG.normal(size=(6, 2)), np.array([0, 0, 1, 1, 1, 2])
    unit = places / np.linalg.norm(places, axis=1, keepdims=True)
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        norm = np.log(sum(np.exp(unit[i] @ unit[j] / 0.1) for j in others))
        same = [unit[i] @ unit[j] / 0.1 - norm for j in others if labels[j] == labels[i]]
        total -= np.mean(same) if same else 0.0
    found = contrastive.contrastive_loss(jnp.asarray(places, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(found, total / 6, rtol=1e-4)


@pytest.mark.slow
def test_members_learn_by_themselves():
    models = Ensemble(Linear(3), 2).init(jax.random.key(0), (2, 2, 1))
    value, _ = MembersLoss()(Ensemble(Linear(3), 2), models, jnp.zeros((2, 2, 2, 1)), jnp.eye(3)[:2], None, None)
    np.testing.assert_allclose(value, 2 * np.log(3), rtol=1e-5)


def test_what_does_not_fit_is_refused():
    for name, value in (("threshold", -1.0), ("alpha", -1.0), ("radius", -1.0)):
        with pytest.raises(ValueError, match=f"{name} must be at least 0"):
            dataclasses.replace(made(), **{name: value})
    with pytest.raises(ValueError, match="beta must be above 0"):
        dataclasses.replace(made(), beta=0.0)
    with pytest.raises(ValueError, match="capacity must be a whole number of at least 1, not 0"):
        dataclasses.replace(made(), capacity=0)
    with pytest.raises(ValueError, match="the head is of 3 classes, the posterior has 4"):
        _asked(made(), np.zeros((1, 3)), np.full((1, 4), 0.25, np.float32))
