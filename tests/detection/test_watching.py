"""Thresholds by calibration, and first alarms."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import detection
from pp_jax.pytree import pytree


def test_a_threshold_keeps_its_false_alarm_rate_on_new_accounts():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(200):
        scores = rng.normal(size=(400, 5))
        limit = detection.threshold(scores[:200], 0.05)
        alarms.append((scores[200:].max(axis=1) > limit).mean())
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.01)
    assert np.mean(alarms) <= 0.055


def test_too_few_accounts_for_a_rate_are_refused():
    with pytest.raises(ValueError, match=r"a false-alarm rate of 0\.001 needs at least 999 benign accounts, not 100"):
        detection.threshold(np.zeros((100, 3)), 0.001)
    with pytest.raises(ValueError, match="rate must be above 0 and below 1, not 1"):
        detection.threshold(np.zeros((100, 3)), 1)


def test_the_first_alarm_is_counted_in_queries():
    scores = np.array([[-np.inf, 1.0, 3.0], [0.0, 0.0, 2.0]])
    assert detection.first_alarm(scores, 2.0).tolist() == [3.0, np.inf]


def test_streams_that_are_no_indices_are_refused():
    seen = detection.Observed(np.zeros((4, 1, 1, 1)), np.zeros((4, 2)), np.zeros((4, 3)))
    detector = detection.LabelMMD(np.ones(2) / 2)
    with pytest.raises(ValueError, match="streams must be in 0…3, not 0…9"):
        detection.watch(detector, seen, [[0, 9]])
    with pytest.raises(ValueError, match=r"streams must be \(A, n\) whole numbers, not float64 of shape \(2,\)"):
        detection.watch(detector, seen, [0.5, 1.0])


def pool():
    """100 images of four classes that the victim is certain of."""
    rng = np.random.default_rng(0)
    probs = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 100)]
    return detection.Observed(np.zeros((100, 2, 2, 1), np.uint8), probs, rng.random((100, 3), np.float32))


@pytree
@dataclasses.dataclass(frozen=True)
class Counting:
    """A detector of somebody's own that keeps no summaries: how many queries had a feature above a half."""

    def init(self):
        return jnp.zeros((), jnp.int32)

    def update(self, state, image, probs, features):
        state = state + (features[0] > 0.5)
        return state, state.astype(jnp.float32)


def test_scores_do_not_depend_on_how_many_accounts_are_watched_at_once():
    streams = np.random.default_rng(1).integers(0, 100, (37, 70))
    detector = detection.LabelMMD(jnp.full(4, 0.25), window=8)
    together = detection.watch(detector, pool(), streams)
    np.testing.assert_array_equal(detection.watch(detector, pool(), streams, at_once=40_000), together)
    known = detection.summaries(detector, pool())
    assert known.shape == (100,)
    np.testing.assert_array_equal(detection.watch(detector, pool(), streams[:1, :5], known=known), together[:1, :5])


def test_a_detector_without_summaries_is_watched_as_well():
    streams = np.random.default_rng(1).integers(0, 100, (3, 9))
    found = detection.watch(Counting(), pool(), streams)
    np.testing.assert_array_equal(found, (pool().features[streams, 0] > 0.5).cumsum(axis=1))


def test_no_accounts_have_no_scores():
    assert detection.watch(Counting(), pool(), np.zeros((0, 5), int)).shape == (0, 5)
