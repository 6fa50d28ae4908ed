"""Benign accounts: each habit does what it is called."""

import jax
import numpy as np
import pytest

from pp_jax.detection import benign

LABELS = np.repeat(np.arange(5), 40)


@pytest.mark.parametrize("habit", benign.HABITS)
def test_every_habit_gives_indices_into_the_pool_and_depends_on_the_key_alone(habit):
    streams = habit(jax.random.key(0), LABELS, 7, 50)
    assert streams.shape == (7, 50)
    assert streams.min() >= 0
    assert streams.max() < 200
    np.testing.assert_array_equal(streams, habit(jax.random.key(0), LABELS, 7, 50))
    assert (streams != habit(jax.random.key(1), LABELS, 7, 50)).any()


def test_uniform_accounts_ask_nothing_twice():
    for row in benign.uniform(jax.random.key(0), LABELS, 5, 150):
        assert len(set(row)) == 150


def test_skewed_accounts_ask_about_two_classes():
    for row in benign.skewed(jax.random.key(0), LABELS, 5, 60):
        assert len(set(LABELS[row])) == 2


def test_bursty_accounts_change_the_class_seldom():
    streams = LABELS[benign.bursty(jax.random.key(0), LABELS, 20, 200)]
    assert 0.02 < (streams[:, 1:] != streams[:, :-1]).mean() < 0.06


def test_repeating_accounts_know_few_images():
    for row in benign.repeated(jax.random.key(0), LABELS, 5, 100):
        assert len(set(row)) <= 20
