"""Adaptive misinformation: published numbers, and the loss of its network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax.defenses import AdaptiveMisinformation, misinformation
from pp_jax.defenses.misinformation import MisinformationLoss
from pp_jax.training import Recipe, fit
from pp_jax.types import Query
from support import (
    Linear,
    blobs,
    bright_halves,
    given_logits,
    golden,
    linear_logits,
    linear_params,
    linear_posteriors,
)

GOLDEN = golden("adaptive_misinformation")
KEY = jax.random.key(0)


def _answers(y, wrong, nu):
    """Answers (T, N, K) for every τ, with a network that predicts `wrong`."""
    images = jnp.log(jnp.maximum(wrong, jnp.finfo(wrong.dtype).tiny))[:, :, None, None]

    def one(tau, y, x):
        return AdaptiveMisinformation(given_logits, None, tau, nu)(y, Query(x, KEY))

    taus = jnp.asarray(GOLDEN["taus"], y.dtype)
    return np.asarray(jax.jit(jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None)))(taus, y, images))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("classes", [int(k) for k in GOLDEN["Ks"]])
def test_published_numbers(classes, dtype):
    stored = {key: GOLDEN[f"K{classes}/{key}"] for key in ("y", "fhat", "y_tilde", "y_tilde_modelguard_nu1000")}
    # ν magnifies the rounding of max y.
    sharp = np.abs(stored["y"].max(1) - GOLDEN["taus"][:, None]) < 1e-4
    near = 1e-9 if dtype == "float64" else np.where(sharp, np.inf, 1e-4)[..., None]
    with jax.enable_x64(dtype == "float64"):
        y, wrong = (jnp.asarray(stored[key], dtype) for key in ("y", "fhat"))
        for nu, expected in zip(GOLDEN["nus"], stored["y_tilde"], strict=True):
            found = _answers(y, wrong, float(nu))
            assert (np.abs(found - expected) <= near).all()
            if nu == 1000 and dtype == "float64":
                np.testing.assert_allclose(found, stored["y_tilde_modelguard_nu1000"], rtol=0, atol=1e-7)


def test_the_loss_is_that_of_the_complement_and_does_not_cancel():
    logits, loss = np.float32([3.0, -1.0, 0.5]), jax.jit(misinformation.loss)
    expected = -np.log(1 - np.exp(3.0) / np.exp(np.float64(logits)).sum() + 1e-7)
    np.testing.assert_allclose(loss(logits, 0), expected, rtol=1e-6)
    sure = np.float32([12.0, 0.0])
    np.testing.assert_allclose(loss(sure, 0), -np.log(1 / (1 + np.exp(12.0)) + 1e-7), rtol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(misinformation.loss))(jnp.float32([1e4, 0.0]), 0)).all()


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


def test_training_with_the_loss_makes_a_network_that_misses_every_label():
    images, labels = blobs(1, 256)
    params = _trained(lambda p, x, label: misinformation.loss(linear_logits(p, x), label), images, labels)
    fresh, truth = blobs(2, 256)
    wrong = np.asarray(linear_posteriors(params, fresh)).argmax(1)
    assert np.mean(wrong == truth) < 0.02


@pytest.mark.slow
def test_a_network_fitted_with_the_loss_avoids_the_label():
    images, labels, _ = bright_halves()
    recipe = Recipe(15, batch_size=32, learning_rate=0.3)
    params = fit(KEY, Linear(2), images, labels, recipe, loss=MisinformationLoss())
    probs = np.asarray(linear_posteriors(params, images))
    assert (probs[np.arange(len(labels)), labels] < 0.1).all()


def test_the_loss_of_a_batch_is_the_mean_over_images_of_any_form_of_label_and_augmentation_changes_it():
    images, labels = blobs(1, 8)
    params = linear_params(KEY, 36, 4)
    expected = np.mean([misinformation.loss(linear_logits(params, x), y) for x, y in zip(images, labels, strict=True)])
    for targets in (labels, np.eye(4, dtype=np.float32)[labels]):
        value, _ = MisinformationLoss()(Linear(4), params, images, jnp.asarray(targets), None, None)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    black = MisinformationLoss(lambda key, image: 0 * image)
    value, _ = black(Linear(4), params, images, jnp.asarray(labels), None, KEY)
    np.testing.assert_allclose(value, -np.log(0.75 + 1e-7), rtol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="tau must be at least 0 and at most 1, not 1\\.5"):
        AdaptiveMisinformation(given_logits, None, 1.5)
    with pytest.raises(ValueError, match="nu must be at least 0 and at most 1e\\+15, not -1"):
        AdaptiveMisinformation(given_logits, None, 0.5, -1.0)
    with pytest.raises(ValueError, match="network knows 3 classes, the victim's posterior has 2"):
        AdaptiveMisinformation(given_logits, None, 0.5)(jnp.full(2, 0.5), Query(jnp.zeros((3, 1, 1)), KEY))
