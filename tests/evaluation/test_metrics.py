"""Metrics against hand-made numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax import metrics
from support import given_logits, linear_logits, linear_params

PROBS = np.float32([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])


def test_accuracy_takes_the_first_of_tied_classes():
    assert metrics.accuracy(PROBS, [0, 1, 0, 0]) == 0.75
    assert metrics.accuracy(PROBS, [0, 1, 1, 2]) == 0.75


def test_agreement_is_the_share_of_rows_with_the_same_argmax():
    assert metrics.agreement(PROBS, PROBS) == 1
    assert metrics.agreement(PROBS, PROBS[::-1]) == 0


def test_summary_names_mean_and_percentiles():
    found = metrics.summary(np.arange(101))
    assert found == {"mean": 50.0, "p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}


def test_entropy_is_in_nats_and_a_class_without_probability_adds_nothing():
    probs = np.float32([[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.7, 0.2, 0.1, 0]])
    by_hand = -(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1))
    found = metrics.entropy(probs)
    np.testing.assert_allclose(found, [0, np.log(2), np.log(4), by_hand], atol=1e-7)
    assert not np.signbit(found).any()  # a record would print -0.0
    np.testing.assert_array_equal(metrics.entropy(jnp.asarray(probs[:2], jnp.bfloat16)), found[:2])


def test_entropy_stays_between_zero_and_log_k_under_rounding():
    off = np.float32([[1 + 1e-6, 0, 0], [1 / 3 + 1e-6, 1 / 3, 1 / 3]])
    np.testing.assert_array_equal(metrics.entropy(off), [0, np.log(3)])


def test_distances_of_unchanged_answers_are_zero_and_stay_finite():
    zero = metrics.distances(PROBS, PROBS)
    assert all(value == 0 for part in zero.values() for value in part.values())
    moved = metrics.distances(PROBS[3:], np.float32([[1, 0, 0]]))
    np.testing.assert_allclose(
        [moved[d]["mean"] for d in ("l1", "l2", "kl")], [2, np.sqrt(2), -np.log(1e-7)], rtol=1e-5
    )


def test_angular_deviation_is_the_angle_seen_from_the_surrogates_posterior():
    logits = np.zeros((2, 3, 1, 1), np.float32)
    probs = np.float32([[1, 0, 0], [1, 0, 0]])
    answers = np.float32([[0, 1, 0], [1, 0, 0]])
    found = metrics.angular_deviation(probs, answers, logits, logits_fn=given_logits, params=None, batch_size=1)
    np.testing.assert_allclose(found, [120, 0], atol=0.05)


def test_predict_is_the_posterior_whatever_the_batch_size():
    params = linear_params(jax.random.key(0), 4, 3)
    images = np.random.default_rng(0).random((7, 2, 2, 1)).astype(np.float32)
    whole = metrics.predict(linear_logits, params, images)
    np.testing.assert_allclose(metrics.predict(linear_logits, params, images, batch_size=3), whole, atol=1e-6)
    expected = jax.nn.softmax(jax.vmap(linear_logits, (None, 0))(params, jnp.asarray(images)))
    np.testing.assert_allclose(whole, expected, atol=1e-6)
