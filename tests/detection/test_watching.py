"""Thresholds by calibration, and first alarms."""

import numpy as np
import pytest

from pp_jax import detection


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
