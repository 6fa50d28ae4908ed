"""DP-SGD: clipping and noise are what the formula says, and the accountant's ε is the published one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import comb, logsumexp

from pp_jax import models
from pp_jax.training import Privacy, Recipe, fit, make_step
from support import Linear, blobs

IMAGES, LABELS = blobs(0, 64)


def test_without_noise_and_beyond_every_norm_private_training_is_ordinary_training():
    options = {"epochs": 2, "batch_size": 32, "learning_rate": 0.1}
    plain = fit(jax.random.key(0), Linear(4), IMAGES, LABELS, Recipe(**options))
    private = fit(
        jax.random.key(0), Linear(4), IMAGES, LABELS, Recipe(**options, privacy=Privacy(clip=1e6, noise_multiplier=0))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, private)


def _change(privacy, count):
    """How far one step of SGD 1.0 moves the kernel of a linear model, (36, 4)."""
    network = Linear(4)
    params = network.init(jax.random.key(1), (6, 6, 1))
    optimizer = Recipe(epochs=1, learning_rate=1.0, momentum=0.0, privacy=privacy).optimizer(1)
    step = make_step(network, optimizer, per_example=True)
    (after, _), _ = jax.jit(step)(
        (params, optimizer.init(params["params"])), jnp.asarray(IMAGES[:count]), LABELS[:count]
    )
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), after["params"], params["params"])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 8])
def test_no_example_moves_the_parameters_further_than_the_clipping_norm(count):
    change = _change(Privacy(clip=1e-3, noise_multiplier=0), count)
    length = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(change)))
    assert length <= 1e-3 * (1 + 1e-5)
    if count == 1:
        np.testing.assert_allclose(length, 1e-3, rtol=1e-4)


def test_noise_has_the_deviation_of_multiplier_times_clip_over_batch():
    quiet, loud = (_change(Privacy(clip=0.01, noise_multiplier=sigma, seed=3), 8) for sigma in (0, 50))
    noise = np.concatenate([(a - b).ravel() for a, b in zip(*map(jax.tree.leaves, (loud, quiet)), strict=True)])
    assert noise.size == 148
    np.testing.assert_allclose(noise.std(), 50 * 0.01 / 8, rtol=0.15)


def test_networks_that_normalise_over_the_batch_are_refused():
    network = models.resnet18(2)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), (8, 8, 3)))
    step = make_step(network, Recipe(epochs=1).optimizer(1), per_example=True)
    with pytest.raises(ValueError, match="without batch statistics, not one with batch_stats, params"):
        jax.eval_shape(step, (variables, ()), jnp.zeros((2, 8, 8, 3)), jnp.zeros((2,), int))


def _renyi(order, rate, sigma):
    """Rényi divergence of one step of the sampled Gaussian mechanism, integer order (Mironov et al. 2019, eq. 6)."""
    k = np.arange(order + 1)
    terms = np.log(comb(order, k)) + (order - k) * np.log1p(-rate) + k * np.log(rate) + (k * k - k) / (2 * sigma**2)
    return logsumexp(terms) / (order - 1)


def test_epsilon_is_that_of_the_sampled_gaussian_mechanism_and_falls_with_noise():
    # The setting of TF Privacy's tutorial; its 1.18 is the older conversion below, ours the tighter one.
    orders, rate, steps = np.arange(2, 64), 250 / 60_000, 15 * 240
    renyi = steps * np.array([_renyi(order, rate, 1.3) for order in orders])
    np.testing.assert_allclose(np.min(renyi + np.log(1e5) / (orders - 1)), 1.18, atol=0.01)
    tight = np.min(renyi + np.log1p(-1 / orders) + (np.log(1e5) - np.log(orders)) / (orders - 1))
    epsilon = Privacy(noise_multiplier=1.3).epsilon(examples=60_000, batch_size=250, epochs=15)
    np.testing.assert_allclose(epsilon, tight, rtol=0.01)
    assert Privacy(noise_multiplier=2.6).epsilon(examples=60_000, batch_size=250, epochs=15) < epsilon
    assert Privacy(noise_multiplier=0).epsilon(examples=10, batch_size=2, epochs=1) == float("inf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0}, "clip must be above 0 and finite, not 0"),
        ({"noise_multiplier": -1}, "noise_multiplier must be at least 0 and finite, not -1"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Privacy(**options)
    with pytest.raises(ValueError, match="delta must be above 0 and below 1, not 2"):
        Privacy().epsilon(examples=10, batch_size=2, epochs=1, delta=2)
