"""The linear programs over simplex ∩ ball agree with independent solvers and never leave the set."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from pp_jax.solvers import linear_max_l1, linear_max_l1_top, linear_max_l2
from pp_jax.solvers.l2 import project_simplex

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "grad2.npz")
solve_free = jax.jit(jax.vmap(linear_max_l1))
solve_top = jax.jit(jax.vmap(linear_max_l1_top))


def posteriors(rng, count, size):
    """Peaked, diffuse, tied and one-hot posteriors in turn."""
    makers = [
        lambda: rng.dirichlet(np.full(size, 0.1)),
        lambda: rng.dirichlet(np.ones(size)),
        lambda: rng.dirichlet(np.full(size, 30.0)),
        lambda: np.eye(size)[rng.integers(size)],
        lambda: np.ones(size) / size,
        lambda: np.round(rng.dirichlet(np.ones(size)), 1) + 0.01,
    ]
    rows = np.stack([makers[i % len(makers)]() for i in range(count)])
    return rows / rows.sum(axis=1, keepdims=True)


def highs(y, c, epsilon, top=None):
    """The optimal value by HiGHS, with one excess variable a class."""
    size = y.size
    rows = np.vstack([np.hstack([np.eye(size), -np.eye(size)]), np.hstack([np.zeros(size), np.ones(size)])[None]])
    limits = np.append(y, epsilon / 2 + 1e-13)
    if top is not None:
        order = np.delete(np.eye(size) - np.eye(size)[top], top, axis=0)
        rows = np.vstack([rows, np.hstack([order, np.zeros((size - 1, size))])])
        limits = np.append(limits, np.zeros(size - 1))
    precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    equal = np.append(np.ones(size), np.zeros(size))[None]
    result = linprog(np.append(-c, np.zeros(size)), rows, limits, equal, [1.0], method="highs", options=precise)
    assert result.status == 0
    return -result.fun


def assert_feasible(z, y, epsilon, tolerance, top=None):
    """Simplex, ball, and the kept class."""
    assert z.min() >= 0
    np.testing.assert_allclose(z.sum(axis=-1), 1, atol=tolerance)
    assert (np.abs(z - y).sum(axis=-1) <= epsilon + tolerance).all()
    if top is not None:
        assert (np.take_along_axis(z, top[:, None], 1)[:, 0] >= z.max(axis=-1)).all()


@pytest.mark.parametrize("size", [int(k) for k in GOLDEN["Ks"] if k <= 10])
def test_values_reach_the_published_optima(size):
    y, epsilon = GOLDEN[f"K{size}/y"], GOLDEN["eps"]
    y, top = y / y.sum(axis=1, keepdims=True), y.argmax(axis=1)
    with jax.enable_x64(True):
        for direction in ("random", "ones"):
            c = GOLDEN[f"K{size}/{direction}/c"]
            for i, radius in enumerate(epsilon):
                radii = np.full(len(y), radius)
                scale = np.ptp(c, axis=1)
                free, kept = np.asarray(solve_free(y, c, radii)), np.asarray(solve_top(y, c, radii))
                assert_feasible(free, y, radius, 1e-12)
                assert_feasible(kept, y, radius, 1e-12, top)
                best = GOLDEN[f"K{size}/{direction}/lp_opt"][i], GOLDEN[f"K{size}/{direction}/lp_opt_top1"][i]
                assert (np.abs((free * c).sum(1) - best[0]) <= 1e-9 * scale).all()
                assert (np.abs((kept * c).sum(1) - best[1]) <= 1e-8 * scale).all()


@pytest.mark.parametrize(
    ("size", "dtype", "tolerance"), [(2, np.float64, 1e-8), (6, np.float32, 1e-5), (40, np.float64, 1e-8)]
)
def test_the_kept_class_costs_no_more_than_it_must(size, dtype, tolerance):
    rng = np.random.default_rng(size)
    y = posteriors(rng, 24, size)
    c = rng.normal(size=y.shape) * np.where(np.arange(24) % 2, 1, 3)[:, None]
    c = np.where((np.arange(24) % 3 == 0)[:, None], np.round(c), c)
    epsilon = np.resize([0.01, 0.3, 0.99, 1.5, 2.0], 24)
    with jax.enable_x64(dtype == np.float64):
        z = np.asarray(solve_top(y.astype(dtype), c.astype(dtype), epsilon.astype(dtype)), np.float64)
    assert_feasible(z, y, epsilon, 1e-6, y.astype(dtype).argmax(axis=1))
    best = [highs(*row, top) for *row, top in zip(y, c, epsilon, y.argmax(axis=1), strict=True)]
    np.testing.assert_allclose((z * c).sum(axis=1), best, atol=tolerance)


def test_a_budget_of_zero_changes_nothing_and_one_of_two_reaches_every_vertex():
    y = jnp.array([[0.1, 0.6, 0.3]])
    c = jnp.array([[1.0, 0.0, 3.0]])
    np.testing.assert_allclose(solve_free(y, c, jnp.zeros(1)), y, atol=1e-7)
    np.testing.assert_allclose(solve_top(y, c, jnp.zeros(1)), y, atol=1e-7)
    np.testing.assert_allclose(solve_free(y, c, jnp.full(1, 2.0)), [[0, 0, 1]], atol=1e-7)
    np.testing.assert_allclose(solve_top(y, c, jnp.full(1, 2.0)), [[0, 0.5, 0.5]], atol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_l2_optimum_satisfies_the_optimality_conditions(keep):
    # z is optimal when it is the projection of z + s(y − z)·ν + c for some s: check by small feasible moves instead.
    rng = np.random.default_rng(0)
    y = posteriors(rng, 12, 5)
    c = rng.normal(size=y.shape)
    with jax.enable_x64(True):
        run = jax.vmap(lambda y, c: linear_max_l2(y, c, 0.4, keep=jnp.argmax(y) if keep else None))
        z = np.asarray(jax.jit(run)(y, c))
        project = jax.jit(jax.vmap(lambda v, y: project_simplex(v, keep=jnp.argmax(y) if keep else None)))
        assert (np.linalg.norm(z - y, axis=1) <= 0.4 + 1e-9).all()
        value = (z * c).sum(axis=1)
        for _ in range(200):
            other = np.asarray(project(z + 0.1 * rng.normal(size=z.shape), y))
            distance = np.linalg.norm(other - y, axis=1, keepdims=True)
            other = y + (other - y) * np.minimum(1, 0.4 / np.maximum(distance, 1e-300))
            assert ((other * c).sum(axis=1) <= value + 1e-8).all()


def test_projection_keeps_the_class_and_is_no_further_than_any_sample():
    rng = np.random.default_rng(1)
    v = rng.normal(size=(30, 4))
    z = np.asarray(jax.vmap(lambda v: project_simplex(v, keep=2))(v.astype(np.float32)))
    assert (z[:, 2] >= z.max(axis=1) - 1e-6).all()
    np.testing.assert_allclose(z.sum(axis=1), 1, atol=1e-6)
    samples = rng.dirichlet(np.ones(4), 3000)
    samples = samples[samples[:, 2] >= samples.max(axis=1)]
    nearest = np.linalg.norm(v[:, None] - samples[None], axis=-1).min(axis=1)
    assert (np.linalg.norm(v - z, axis=1) <= nearest + 1e-6).all()
