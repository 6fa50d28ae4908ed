"""Attackers who know the detector: identities, cover, and queries chosen by the detector itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import detection
from pp_jax.detection import evading

KEY = jax.random.key(0)


def test_a_split_budget_is_dealt_in_turn():
    rows = evading.split(np.arange(11), 3)
    assert rows.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert evading.split(np.arange(4), 1).tolist() == [[0, 1, 2, 3]]
    assert evading.split(np.zeros((6, 2)), 3).shape == (3, 2, 2)


def test_more_identities_than_queries_are_refused():
    with pytest.raises(ValueError, match="identities must be at most the 4 queries, not 5"):
        evading.split(np.arange(4), 5)
    with pytest.raises(ValueError, match="identities must be a whole number of at least 1, not 0"):
        evading.split(np.arange(4), 0)


def test_a_mixture_keeps_the_order_of_what_is_wanted():
    rows = evading.mixed(KEY, np.arange(100, 200), np.arange(10), 0.3)
    wanted = rows[rows >= 100]
    assert len(rows) == 100
    assert wanted.tolist() == list(range(100, 170))
    np.testing.assert_array_equal(rows, evading.mixed(KEY, np.arange(100, 200), np.arange(10), 0.3))
    assert evading.mixed(KEY, np.arange(5), np.arange(3), 0).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"share must be at least 0 and at most 1, not 1\.5"):
        evading.mixed(KEY, np.arange(4), np.arange(2), 1.5)


def seen():
    """Images of four classes that the victim is certain of."""
    probs = jnp.eye(4)[np.arange(200) % 4]
    return detection.Observed(jnp.zeros((200, 1, 1, 1)), probs, jnp.zeros((200, 1)))


@pytest.mark.parametrize("candidates", [1, 8])
def test_the_least_suspicious_query_keeps_the_score_low(candidates):
    detector = detection.LabelMMD(jnp.array([0.7, 0.1, 0.1, 0.1]), window=32)
    rows = evading.evading(KEY, detector, seen(), queries=64, candidates=candidates)
    assert rows.shape == (64,)
    assert rows.min() >= 0
    assert rows.max() < 200
    last = detection.watch(detector, seen(), rows[None])[0, -1]
    assert last < 0.02 if candidates == 8 else last > 0.1


def test_an_evading_attacker_needs_a_query_and_a_candidate():
    detector = detection.LabelMMD(jnp.full(4, 0.25), window=8)
    with pytest.raises(ValueError, match="queries must be a whole number of at least 1, not 0"):
        evading.evading(KEY, detector, seen(), queries=0)
    with pytest.raises(ValueError, match="candidates must be a whole number of at least 1, not 0"):
        evading.evading(KEY, detector, seen(), queries=3, candidates=0)


def test_the_auroc_counts_pairs_and_ties_half():
    benign, attack = np.array([[0, 1], [3, 2], [0, 0]]), np.array([[1, 0], [5, 9]])
    highest = [(b, a) for b in (1, 3, 0) for a in (1, 9)]
    wanted = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for b, a in highest])
    assert evading.auroc(benign, attack) == pytest.approx(wanted)
    assert evading.auroc(benign, benign) == pytest.approx(0.5)
