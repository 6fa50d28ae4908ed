"""The simplex: what is refused, and Euclidean projections against the published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax import projections

from pp_jax import distance, simplex
from support import golden

FILE = golden("simplex_l1_projection")
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [int(n) for n in FILE["ns"]])
def test_projections_agree_with_the_published_ones(size, dtype):
    v, radius = FILE[f"n{size}/v"], FILE[f"n{size}/s"]
    with jax.enable_x64(dtype == "float64"):
        args = jnp.asarray(v, dtype), jnp.asarray(radius, dtype)
        on_simplex = np.asarray(jax.jit(jax.vmap(projections.projection_simplex))(*args))
        in_ball = np.asarray(jax.jit(jax.vmap(projections.projection_l1_ball))(*args))
    unit = np.maximum(1, np.abs(v).max(1, keepdims=True))
    # The error of the sum grows with n: the published code's own is 2e-11 at n = 1000.
    near = TOLERANCE[dtype] * max(1, size / 50)
    assert (np.abs(on_simplex - FILE[f"n{size}/simplex"]) / unit).max() <= near
    assert (np.abs(in_ball - FILE[f"n{size}/l1ball"]) / unit).max() <= near


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ["l1", "l2"])
@pytest.mark.parametrize("classes", [3, 10])
def test_alternating_projections_agree_with_the_published_ones(classes, name, dtype):
    ball, key = {"l1": distance.L1(), "l2": distance.L2()}[name], f"alternating/K{classes}"
    with jax.enable_x64(dtype == "float64"):
        y, target, eps = (jnp.asarray(FILE[k], dtype) for k in (f"{key}/y", f"{key}/y_star", "alternating/eps"))
        found = jax.jit(jax.vmap(jax.vmap(ball.project, (0, 0, None)), (None, None, 0)))(y, target, eps)
    near = 1e-10 if dtype == "float64" else 2e-4
    np.testing.assert_allclose(found, FILE[f"{key}/{name}/y_tilde"], rtol=0, atol=near)


def test_an_empty_ball_projects_on_the_posterior_itself():
    y, target = jnp.array([0.7, 0.2, 0.1]), jnp.array([0.0, 0.0, 1.0])
    for ball in (distance.L1(), distance.L2()):
        np.testing.assert_array_equal(ball.project(y, target, 0.0), y)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[np.nan, 1.0], [0.5, 0.5]], "must be finite: 1 of 2 rows do not"),
        ([[np.inf, 0.0]], "must be finite: 1 of 1"),
        ([[-0.1, 1.1], [1.1, -0.1]], "must not be negative: 2 of 2 rows"),
        ([[0.5, 0.4]], "must sum to one: 1 of 1 rows"),
        ([0.5, 0.5], r"shape \(B, K\) with K ≥ 2, not \(2,\)"),
        ([[1.0]], r"shape \(B, K\) with K ≥ 2, not \(1, 1\)"),
        ([[1, 0]], "must be floating point, not int32"),
    ],
)
def test_a_posterior_off_the_simplex_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        simplex.check(jnp.asarray(rows))


def test_posteriors_within_rounding_pass():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(1000), 20).astype(np.float32)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        simplex.check(jnp.asarray(probs.astype(dtype)))


def test_working_precision_is_at_least_float32_and_sums_to_one():
    half = jnp.full(10, 0.1, jnp.bfloat16)
    assert simplex.working(half).dtype == jnp.float32
    np.testing.assert_allclose(simplex.working(half).sum(), 1, atol=1e-6)
    with pytest.raises(ValueError, match="floating point, not int32"):
        simplex.working(jnp.array([1, 0]))


def test_feasible_repairs_an_answer_beyond_the_ball():
    y, ball = jnp.array([0.6, 0.3, 0.1]), distance.L1()
    answer = simplex.feasible(y, jnp.array([-1e-6, 0.0, 2.0]), epsilon=jnp.float32(0.5), distance=ball)
    np.testing.assert_allclose(ball(y, answer), 0.5, atol=1e-6)
    np.testing.assert_allclose(answer.sum(), 1, atol=1e-6)
