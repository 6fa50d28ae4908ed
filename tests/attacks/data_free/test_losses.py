"""Differences of clone and response, against NumPy."""

import jax.numpy as jnp
import numpy as np

from pp_jax.attacks.data_free import Divergence, HardLabel, LogitDistance

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype(np.float32)
ANSWERS = RNG.dirichlet(np.ones(4), 6).astype(np.float32)
P = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def test_divergence_is_relative_entropy_and_zero_at_the_victim():
    expected = (ANSWERS * np.log(ANSWERS / P)).sum(1)
    np.testing.assert_allclose(Divergence()(LOGITS, ANSWERS), expected, rtol=1e-4)
    np.testing.assert_allclose(Divergence()(jnp.log(ANSWERS), ANSWERS), 0, atol=1e-6)
    assert np.isfinite(Divergence()(LOGITS, jnp.eye(4)[jnp.arange(6) % 4])).all()


def test_logit_distance_is_l1_to_centred_log_posteriors_and_knows_logits_up_to_a_constant():
    logs = np.log(ANSWERS)
    expected = np.abs(LOGITS - (logs - logs.mean(1, keepdims=True))).mean(1)
    np.testing.assert_allclose(LogitDistance()(LOGITS, ANSWERS), expected, rtol=1e-4)
    centred = LOGITS - LOGITS.mean(1, keepdims=True)
    np.testing.assert_allclose(LogitDistance()(centred, P), 0, atol=1e-5)


def test_a_truncated_response_counts_as_the_floor():
    cut = jnp.array([[0.9, 0.1, 0.0]])
    logs = np.log([0.9, 0.1, 1e-3])
    np.testing.assert_allclose(
        LogitDistance(1e-3)(jnp.zeros((1, 3)), cut), np.abs(logs - logs.mean()).mean(), rtol=1e-5
    )


def test_hard_label_is_cross_entropy_to_the_argmax():
    expected = -np.log(P[np.arange(6), ANSWERS.argmax(1)])
    np.testing.assert_allclose(HardLabel()(LOGITS, ANSWERS), expected, rtol=1e-4)
