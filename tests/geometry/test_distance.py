"""Distances: values, line searches and the range of a budget."""

import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from pp_jax import distance
from pp_jax.geometry.simplex import feasible
from support import hard_posteriors, numpy_distance, quick

BALLS = {"L1": distance.L1(), "L2": distance.L2(), "KL": distance.KL()}


@pytest.mark.parametrize("name", BALLS)
def test_distance_is_zero_at_the_posterior_and_agrees_with_numpy(name):
    rng = np.random.default_rng(0)
    y, z = hard_posteriors(rng, 1000, 7), rng.dirichlet(np.ones(7), 1000).astype(np.float32)
    np.testing.assert_array_equal(BALLS[name](y, y), 0)
    np.testing.assert_allclose(BALLS[name](y, z), numpy_distance(name, y, z), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "order"), [("L1", 1), ("L2", 2), ("KL", None)])
def test_a_distance_says_which_norm_it_is(name, order):
    assert BALLS[name].norm == (None if order is None else f"l{order}")
    if order:
        y, z = np.random.default_rng(0).dirichlet(np.ones(5), 2).astype(np.float32)
        np.testing.assert_allclose(BALLS[name](y, z), np.linalg.norm(z - y, ord=order), rtol=1e-6)


def test_kl_is_defined_at_zeros():
    kl = jax.jit(distance.KL())
    y, z = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    np.testing.assert_allclose(kl(y, z), math.log(2), rtol=1e-6)
    assert kl(z, y) == math.inf


@pytest.mark.parametrize("name", BALLS)
def test_line_search_ends_on_the_boundary_or_at_the_target(name):
    rng = np.random.default_rng(1)
    y, target = (rng.dirichlet(np.ones(5), 1000).astype(np.float32) for _ in range(2))
    eps = rng.uniform(0.01, 1, 1000).astype(np.float32)
    alpha = np.asarray(jax.jit(jax.vmap(BALLS[name].line_search))(y, target, eps))
    spent = numpy_distance(name, y, distance.between(y, target, alpha[:, None]))
    assert ((alpha >= 0) & (alpha <= 1)).all()
    assert (spent <= eps + 1e-6).all()
    np.testing.assert_allclose(spent[alpha < 1], eps[alpha < 1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("largest", quick([4, 14], 0))
def test_a_kl_budget_holds_where_rounding_adds_up(largest):
    """Classes that are all alike round alike, so that the divergence is off by several units in the last place."""
    rng, rows, classes = np.random.default_rng(7), 40_000, 100
    top = rng.uniform(1 / classes, 1, rows)
    y = np.where(np.arange(classes) == 3, top[:, None], (1 - top[:, None]) / (classes - 1)).astype(np.float32)
    target = jnp.eye(classes)[9]
    eps = rng.uniform(0, largest, rows).astype(np.float32)

    def answer(y, eps):
        proposed = distance.between(y, target, distance.KL().line_search(y, target, eps))
        return feasible(y, proposed, epsilon=eps, distance=distance.KL())

    spent = numpy_distance("KL", y, np.asarray(jax.jit(jax.vmap(answer))(y, eps)))
    # The promise is 1e-6; older versions round logarithms differently, and use up all of it.
    assert (spent <= eps.astype(np.float64) + (7e-7 if jax.__version_info__ >= (0, 10) else 1e-6)).all()


@pytest.mark.parametrize("name", BALLS)
def test_line_search_to_the_vertices_is_k_line_searches(name):
    y, ball = np.random.default_rng(2).dirichlet(np.ones(4)).astype(np.float32), BALLS[name]
    each = jax.jit(jax.vmap(ball.line_search, (None, 0, None)))(y, np.eye(4, dtype=np.float32), 0.3)
    np.testing.assert_allclose(jax.jit(ball.line_search_vertices)(y, 0.3), each, atol=1e-6)


@given(st.sampled_from(list(BALLS)), st.floats(max_value=-1e-6, allow_nan=False))
def test_a_negative_budget_is_refused(name, epsilon):
    with pytest.raises(ValueError, match=rf"epsilon must be at least 0.* in {name}, not {epsilon:g}"[:30]):
        distance.check_budget(epsilon, BALLS[name])


@pytest.mark.parametrize(
    ("name", "epsilon", "message"),
    [
        ("L1", 2.1, "at most 2 in L1, not 2.1"),
        ("L2", 1.5, "at most 1.414 in L2, not 1.5"),
        ("L1", math.nan, "in L1, not nan"),
        ("KL", -1.0, "epsilon must be at least 0 in KL, not -1"),
        ("L1", np.array([0.5, 3.0]), "in L1, not 3"),
    ],
)
def test_a_budget_out_of_range_is_refused(name, epsilon, message):
    with pytest.raises(ValueError, match=message):
        distance.check_budget(epsilon, BALLS[name])


@pytest.mark.parametrize(("name", "epsilon"), [("L1", 0), ("L1", 2.0), ("L2", math.sqrt(2)), ("KL", 50.0)])
def test_the_whole_range_is_accepted(name, epsilon):
    distance.check_budget(epsilon, BALLS[name])
