"""EMMA undone: the matrix from pairs and from responses alone, and the posteriors from the matrix."""

import jax
import numpy as np
import pytest
from scipy.optimize import nnls

from pp_jax.defenses import EMMA, Top1
from pp_jax.recovery import (
    Inversion,
    Knowledge,
    KnownWeightsInversion,
    anchor_transitions,
    invert_transitions,
    transitions_from_pairs,
)
from pp_jax.types import TransferSet

RNG = np.random.default_rng(0)
MATRIX = 0.5 * np.eye(5) + 0.5 * RNG.dirichlet(np.ones(5), 5)
PROBS = np.concatenate([0.999 * np.eye(5)[RNG.integers(0, 5, 200)] + 0.0002, RNG.dirichlet(np.ones(5), 200)])
ANSWERS = (PROBS @ MATRIX).astype(np.float32)


def test_as_many_pairs_as_classes_give_the_matrix():
    found = transitions_from_pairs(np.eye(5, dtype=np.float32), MATRIX.astype(np.float32))
    np.testing.assert_allclose(found, MATRIX, atol=1e-6)
    noisy = (ANSWERS + RNG.normal(0, 1e-3, ANSWERS.shape)).clip(0)
    noisy = (noisy / noisy.sum(1, keepdims=True)).astype(np.float32)
    found = transitions_from_pairs(PROBS.astype(np.float32), noisy)
    by_scipy = np.stack([nnls(PROBS, column)[0] for column in noisy.T.astype(np.float64)], axis=1)
    np.testing.assert_allclose(found, by_scipy, atol=2e-3)
    np.testing.assert_allclose(found, MATRIX, atol=2e-3)


def test_responses_to_confident_queries_give_the_matrix_without_posteriors():
    np.testing.assert_allclose(anchor_transitions(ANSWERS), MATRIX, atol=2e-3)


def test_posteriors_are_recovered_and_the_attackers_use_it():
    np.testing.assert_allclose(invert_transitions(ANSWERS, MATRIX), PROBS, atol=1e-5)
    defense, images = EMMA(MATRIX.astype(np.float32)), np.zeros((400, 2, 2, 1), np.float32)
    known = Knowledge(None, None, presumed=defense, deployed=defense)
    for recovery, near in ((Inversion(), 0.01), (KnownWeightsInversion(), 1e-5)):
        assert recovery.applies_to(defense)
        assert not recovery.applies_to(Top1())
        found = recovery(jax.random.key(0), TransferSet(images, ANSWERS), knowledge=known).answers
        assert np.abs(found - PROBS).max() < near
        assert np.abs(ANSWERS - PROBS).max() > 0.3


def test_a_singular_matrix_gives_posteriors_all_the_same():
    flat = np.full((5, 5), 0.2)
    found = invert_transitions(np.full((3, 5), 0.2, np.float32), flat)
    np.testing.assert_allclose(found, 0.2, atol=1e-6)
    off = invert_transitions(np.eye(5, dtype=np.float32), flat)
    np.testing.assert_allclose(off.sum(1), 1, atol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="must span all 5 classes, not have rank 1: give pairs of each"):
        transitions_from_pairs(np.full((6, 5), 0.2, np.float32), ANSWERS[:6])
    with pytest.raises(ValueError, match=r"one shape, not \(2, 5\) and \(3, 5\)"):
        transitions_from_pairs(np.full((2, 5), 0.2, np.float32), ANSWERS[:3])
    with pytest.raises(ValueError, match="answers must be at least 5, one for each class, not 3"):
        anchor_transitions(ANSWERS[:3])
    with pytest.raises(ValueError, match=r"transitions must be \(5, 5\), not \(4, 4\)"):
        invert_transitions(ANSWERS, np.eye(4))
