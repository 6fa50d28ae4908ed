"""The objectives: range, symmetry and limits."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from pp_jax import objective
from pp_jax.gram import Dense, LastLayer
from support import hard_posteriors

SEEDS = st.integers(0, 2**32 - 1)


def test_h_is_between_zero_and_four_for_every_posterior():
    rng = np.random.default_rng(0)
    y, z, p = (hard_posteriors(rng, 5000, 6)[rng.permutation(5000)] for _ in range(3))
    h = np.asarray(jax.jit(jax.vmap(lambda y, z, p: objective.value(y, z, LastLayer(p))))(y, z, p))
    assert ((h >= 0) & (h <= 4)).all()
    angle = np.asarray(jax.jit(jax.vmap(lambda y, z, p: objective.deviation(y, z, LastLayer(p))))(y, z, p))
    assert ((angle >= 0) & (angle <= 180)).all()


@given(SEEDS)
def test_h_is_the_squared_distance_of_normalised_gradients(seed):
    rng = np.random.default_rng(seed)
    jacobian = rng.normal(size=(4, 9))
    y, z = rng.dirichlet(np.ones(4), 2)
    u, v = jacobian.T @ y, jacobian.T @ z
    expected = ((u / np.linalg.norm(u) - v / np.linalg.norm(v)) ** 2).sum()
    gram = Dense(jnp.asarray(jacobian @ jacobian.T, jnp.float32))
    found = objective.value(jnp.asarray(y, jnp.float32), jnp.asarray(z, jnp.float32), gram)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    norms = ((v - u) ** 2).sum()
    np.testing.assert_allclose(objective.inner(u @ v, v @ v, u @ u), norms, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_h_does_not_depend_on_the_scale_of_the_gram_matrix(scale):
    y, z, p = (jnp.array(v) for v in ([0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]))
    one, scaled = (objective.value(y, z, LastLayer(p, s)) for s in (1.0, scale))
    np.testing.assert_allclose(scaled, one, rtol=1e-5)


@pytest.mark.parametrize("args", [(0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)])
def test_a_zero_gradient_has_no_deviation(args):
    assert objective.angular(*map(jnp.float32, args)) == 0


def test_opposite_gradients_deviate_by_180_degrees():
    p = jnp.array([0.5, 0.5])
    np.testing.assert_allclose(objective.deviation(jnp.array([0.9, 0.1]), jnp.array([0.2, 0.8]), LastLayer(p)), 180)
