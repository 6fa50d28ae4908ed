"""Losses that need no more than logits: what they are worth, and what a network fitted with them does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax.training import OutlierExposure, Recipe, SoftCrossEntropy, fit, outlier_exposure, soft_cross_entropy
from support import Linear, blobs, bright_halves, linear_logits, linear_params, linear_posteriors

KEY = jax.random.key(0)


def test_soft_cross_entropy_is_the_mean_over_a_batch_of_soft_labels_or_class_indices():
    logits = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    labels, soft = np.arange(20) % 4, np.random.default_rng(1).dirichlet(np.ones(4), 20).astype(np.float32)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    np.testing.assert_allclose(soft_cross_entropy(logits, soft), -np.mean((soft * log_probs).sum(1)), rtol=1e-5)
    np.testing.assert_allclose(
        soft_cross_entropy(logits, labels), -np.mean(log_probs[np.arange(20), labels]), rtol=1e-5
    )


def test_equal_losses_are_one_key_of_a_cache():
    assert SoftCrossEntropy() == SoftCrossEntropy()
    assert hash(OutlierExposure(0.3)) == hash(OutlierExposure(0.3))
    assert OutlierExposure(0.3) != OutlierExposure(0.5)


def test_outlier_exposure_is_least_for_a_uniform_prediction():
    np.testing.assert_allclose(outlier_exposure(jnp.zeros(8)), np.log(8), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(outlier_exposure)(jnp.zeros(8)), 0, atol=1e-7)
    assert outlier_exposure(jnp.arange(8.0)) > np.log(8)


def _trained(loss, *data, steps=150):
    """A linear network after some steps of Adam on the mean of `loss(params, *row)`."""
    params, optimizer = linear_params(KEY, 36, 4, scale=0.01), optax.adam(0.05)

    @jax.jit
    def step(carry, _):
        params, state = carry
        gradient = jax.grad(lambda p: jnp.mean(jax.vmap(loss, (None, *(0,) * len(data)))(p, *data)))(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]


def test_training_with_outlier_exposure_makes_a_victim_doubt_outliers_alone():
    images, labels = blobs(1, 256)
    negatives = 1 - blobs(3, 256)[0]

    def exposed(weight):
        def loss(p, x, label, outlier):
            inside = optax.softmax_cross_entropy_with_integer_labels(linear_logits(p, x), label)
            return inside + weight * outlier_exposure(linear_logits(p, outlier))

        return _trained(loss, images, labels, negatives)

    def confidence(params, x):
        return float(jax.nn.softmax(jax.vmap(linear_logits, (None, 0))(params, x)).max(1).mean())

    fresh = 1 - blobs(4, 256)[0]
    plain, taught = exposed(0.0), exposed(0.5)
    assert confidence(taught, fresh) < confidence(plain, fresh) - 0.15
    assert confidence(taught, blobs(2, 256)[0]) > 0.8


@pytest.mark.slow
def test_an_exposed_victim_is_right_at_home_and_unsure_abroad():
    images, labels, outliers = bright_halves()
    targets, recipe = np.eye(2, dtype=np.float32)[labels], Recipe(15, batch_size=32, learning_rate=0.3)
    exposed, plain = (
        fit(KEY, Linear(2), images, targets, recipe, loss=OutlierExposure(weight), unlabelled=outliers)
        for weight in (0.5, 0.0)
    )
    assert (linear_posteriors(exposed, images).argmax(1) == labels).all()
    confidence = float(linear_posteriors(plain, outliers).max(1).mean())
    assert linear_posteriors(exposed, outliers).max(1).mean() < min(0.6, confidence)


def test_the_loss_of_an_exposed_victim_is_the_sum_of_both_terms():
    images, labels = blobs(1, 8)
    outliers, params = 1 - blobs(3, 8)[0], linear_params(KEY, 36, 4)
    inside = soft_cross_entropy(Linear(4).train(params, images)[0], jnp.asarray(labels))
    outside = np.mean([outlier_exposure(linear_logits(params, x)) for x in outliers])
    value, _ = OutlierExposure(0.3)(Linear(4), params, images, jnp.asarray(labels), outliers, KEY)
    np.testing.assert_allclose(value, inside + 0.3 * outside, rtol=1e-5)
    black = OutlierExposure(0.0, lambda key, image: 0 * image)
    value, _ = black(Linear(4), params, images, jnp.asarray(labels), outliers, KEY)
    np.testing.assert_allclose(value, np.log(4), rtol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="weight must be at least 0 and finite, not -1"):
        OutlierExposure(-1.0)
    images, labels = blobs(1, 8)
    with pytest.raises(ValueError, match="unlabelled must be given to OutlierExposure, not None"):
        fit(KEY, Linear(4), images, labels, Recipe(epochs=1), loss=OutlierExposure())
