"""`sketched` is an unbiased estimate of the Gram matrix, with the error that its formula says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import gram, models
from support import linear_logits, linear_params

PARAMS = linear_params(jax.random.key(0), 9, 4)
IMAGE = jax.random.uniform(jax.random.key(1), (3, 3, 1))
EXACT = jax.jit(gram.jacobian, static_argnums=0)


def estimates(directions, count):
    """Independent estimates (count, K, K) and what they estimate."""
    one = functools.partial(gram.sketched, linear_logits, PARAMS, IMAGE, directions=directions)
    keys = jax.random.split(jax.random.key(2), count)
    found = jax.jit(jax.vmap(lambda key: one(key=key)))(keys)
    return np.asarray(found), np.asarray(EXACT(linear_logits, PARAMS, IMAGE))


@pytest.mark.slow
@pytest.mark.parametrize("directions", [1, 4, 64])
def test_error_is_what_the_formula_says(directions):
    """E‖M̂ − M‖_F² = (‖M‖_F² + (tr M)²)/m, so the relative error falls as 1/√m."""
    found, exact = estimates(directions, 4000)
    expected = (np.sum(exact**2) + np.trace(exact) ** 2) / directions
    measured = np.mean(np.sum((found - exact) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(measured, expected, rtol=0.15)


def test_mean_is_the_gram_matrix():
    """The mean of n estimates is off by no more than n of them may be: four standard errors."""
    found, exact = estimates(16, 4000)
    error = np.linalg.norm(found.mean(0) - exact)
    assert error < 4 * np.sqrt((np.sum(exact**2) + np.trace(exact) ** 2) / (16 * 4000))


@pytest.mark.slow
def test_directions_are_common_to_all_images_and_repeatable():
    function = functools.partial(gram.sketched, seed=3, directions=5, at_once=2)
    images = jax.random.uniform(jax.random.key(4), (3, 3, 3, 1))
    batch = jax.vmap(functools.partial(function, linear_logits, PARAMS))(images)
    for image, matrix in zip(images, batch, strict=True):
        np.testing.assert_allclose(function(linear_logits, PARAMS, image), matrix, rtol=1e-5, atol=1e-5)
    same = gram.sketched(linear_logits, PARAMS, images[0], key=jax.random.key(3), directions=5)
    np.testing.assert_allclose(same, batch[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_rank_and_subset():
    """At most m directions, all within the parameters picked."""
    network = models.lenet(6)
    params = network.init(jax.random.key(0), (16, 16, 1))
    where = lambda path: "fc2" in path  # noqa: E731
    image = jax.random.uniform(jax.random.key(1), (16, 16, 1))
    matrix = gram.sketched(network, params, image, seed=0, directions=2, where=where)
    assert np.linalg.matrix_rank(matrix, tol=1e-4 * np.abs(matrix).max()) == 2
    many = gram.sketched(network, params, image, seed=0, directions=4000, where=where, at_once=1000)
    exact = gram.jacobian(network, params, image, where=where)
    bound = 4 * np.sqrt((np.sum(exact**2) + np.trace(exact) ** 2) / 4000)
    assert np.linalg.norm(many - exact) < bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"directions": 0, "seed": 0}, "directions=0 and at_once=8 must be at least 1"),
        ({"directions": 3, "seed": 0, "at_once": 0}, "directions=3 and at_once=0 must be at least 1"),
        ({"directions": 3}, "exactly one of key=None and seed=None must be given"),
        ({"directions": 3, "seed": 0, "where": lambda path: False}, "`where` must pick at least one of the parameters"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        gram.sketched(linear_logits, PARAMS, IMAGE, **options)


def test_float64():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), PARAMS)
        image = jnp.asarray(IMAGE, jnp.float64)
        assert gram.sketched(linear_logits, params, image, seed=0, directions=2).dtype == jnp.float64
