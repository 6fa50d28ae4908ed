"""The top-kept linear program reaches HiGHS's optimum where classes tie, are empty or full, and its bound says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

from pp_jax.gram import LastLayer
from pp_jax.solvers import exact, linear_max_l1_top, linear_max_l2
from pp_jax.solvers.l2 import linear_bound_l2
from pp_jax.solvers.lp import linear_bound_l1_top

BUDGETS = [0, 1e-6, 0.05, 0.2, 0.5, 1.0, 1.5, 2.0]
EPS32 = float(np.finfo(np.float32).eps)


@jax.jit
@jax.vmap
def solved(y, c, epsilon):
    """The maximiser and the bound on its value."""
    return linear_max_l1_top(y, c, epsilon), linear_bound_l1_top(y, c, epsilon)


def posterior(rng, size, kind):
    """One posterior of a kind, (K,)."""
    y = np.zeros(size)
    count = rng.integers(1, size + 1)
    match kind:
        case "uniform on a subset" | "one ulp apart":
            y[rng.choice(size, count, replace=False)] = 1 / count
            y = np.where((rng.random(size) < 0.5) & (kind == "one ulp apart"), np.nextafter(y, 1), y)
        case "one-hot":
            y[rng.integers(size)] = 1
        case "two on top":
            y = rng.random(size) * 0.5 * (rng.random(size) < 0.7)
            y[rng.choice(size, 2, replace=False)] = 1
        case "many zeros":
            y = rng.dirichlet(np.ones(size)) * (rng.random(size) < 0.4)
            y[rng.integers(size)] += 0.2
        case "smoothed label":
            y = np.full(size, 0.1 / (size - 1))
            y[rng.integers(size)] = 0.9
        case "counts":
            y = rng.multinomial(rng.integers(2, 2 * size + 3), np.full(size, 1 / size)).astype(float)
        case "generic":
            y = rng.dirichlet(np.full(size, rng.choice([0.1, 1.0, 10.0])))
    return y / y.sum()


KINDS = [
    "uniform on a subset",
    "one ulp apart",
    "one-hot",
    "two on top",
    "many zeros",
    "smoothed label",
    "counts",
    "generic",
]


def gains(rng, size):
    """One vector of gains: generic, tied, one unit in the last place apart, far from zero, all but one equal, heavy."""
    one = np.full(size, rng.normal())
    one[rng.integers(size)] += rng.normal()
    return [
        rng.normal(size=size) * 3,
        rng.integers(-3, 4, size).astype(float),
        1 + rng.integers(0, 4, size) * EPS32,
        1000 + rng.normal(size=size),
        one,
        rng.standard_cauchy(size),
    ][rng.integers(6)]


def problems(size, count, dtype, kinds=KINDS):
    """Posteriors, gains and budgets: the kinds of posterior in turn, all else drawn."""
    rng = np.random.default_rng(size)
    y = np.stack([posterior(rng, size, kinds[i % len(kinds)]) for i in range(count)])
    c = np.stack([gains(rng, size) for _ in range(count)])
    return y.astype(dtype), c.astype(dtype), rng.choice(BUDGETS, count).astype(dtype)


def spread_of(c):
    """max c − min c of each row, one where it is zero."""
    spread = np.ptp(c.astype(float), axis=1)
    return np.where(spread > 0, spread, 1)


def relative(c, z):
    """⟨c, z⟩ of each row, the gains shifted and scaled to [−1, 0]."""
    c = c.astype(float)
    return ((c - c.max(axis=1, keepdims=True)) / spread_of(c)[:, None] * np.asarray(z, float)).sum(axis=1)


def highs(y, c, epsilon):
    """The optimum of one row by HiGHS for gains in [−1, 0], NaN where it finds the problem infeasible."""
    size, top = y.size, int(y.argmax())
    eye = sparse.identity(size, format="csr")
    order = eye[np.delete(np.arange(size), top)] - eye[np.full(size - 1, top)]
    rows = sparse.block_array([[eye, -eye], [None, np.ones((1, size))], [order, None]], format="csc")
    limits = np.concatenate([y, [epsilon / 2], np.zeros(size - 1)])
    cost = np.append((c.max() - c) / (np.ptp(c) or 1), np.zeros(size))
    total = np.append(np.ones(size), np.zeros(size))[None]
    precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(cost, rows, limits, total, [y.sum()], method="highs", options=precise)
    return -found.fun if found.status == 0 else np.nan


def assert_optimal(y, c, epsilon, tolerance):
    """In the set, at HiGHS's optimum, and certified by a bound no lower and no higher than it."""
    z, bound = (np.asarray(x, float) for x in solved(y, c, epsilon))
    top = y.argmax(axis=1)[:, None]
    assert (z >= 0).all()
    np.testing.assert_allclose(z.sum(axis=1), 1, atol=1e-6)
    assert (np.abs(z - y).sum(axis=1) <= epsilon + 1e-6).all()
    assert (np.take_along_axis(z, top, 1)[:, 0] >= z.max(axis=1)).all()
    best = np.array([highs(*row) for row in zip(y.astype(float), c.astype(float), epsilon.astype(float), strict=True)])
    known = np.isfinite(best)
    assert known.mean() > 0.99
    np.testing.assert_allclose(relative(c, z)[known], best[known], atol=tolerance)
    # The bound has the offset of the gains, and their rounding.
    offset = np.abs(c).max(axis=1) / spread_of(c) * np.finfo(c.dtype).eps * 8
    gap = (bound - (c.astype(float) * z).sum(axis=1)) / spread_of(c)
    assert (gap >= -offset - tolerance).all()
    assert (gap <= offset + tolerance).all()


@pytest.mark.parametrize(("size", "dtype", "tolerance"), [(5, np.float64, 1e-9), (17, np.float32, 3e-6)])
def test_the_optimum_is_that_of_highs_on_ties_zeros_and_subsets(size, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        assert_optimal(*problems(size, 64, dtype), tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("size", "count"), [(2, 400), (3, 400), (5, 800), (10, 800), (17, 400), (33, 200), (100, 64)])
def test_the_optimum_is_that_of_highs_on_many_ties_zeros_and_subsets(size, count, dtype):
    with jax.enable_x64(dtype == np.float64):
        assert_optimal(*problems(size, count, dtype), 1e-8 if dtype == np.float64 else 3e-6)


def test_small_programs_whose_optimum_is_known():
    # Half the mass on each of two classes, the others empty: prices of gain and loss are intervals at y_top.
    first = [0.5, 0, 0, 0.5], [-3, -1, 2, 3], 1.0, [1 / 3, 0, 1 / 3, 1 / 3]
    cases = [
        first,
        *((first[0], [gain * scale for gain in first[1]], *first[2:]) for scale in (1e-30, 1e38)),
        ([0.5, 0.5, 0, 0], [-2, -3, 3, 1], 2.0, [1 / 3, 0, 1 / 3, 1 / 3]),
        # Gains one unit in the last place apart.
        ([0, 1, 0, 0], [1 + EPS32, 1, 1, 1], 2.0, [0.5, 0.5, 0, 0]),
    ]
    y, c, epsilon, expected = (np.float32([case[i] for case in cases]) for i in range(4))
    np.testing.assert_allclose(solved(y, c, epsilon)[0], expected, atol=1e-6)


def test_a_search_that_ends_too_early_does_not_carry_a_passing_bound():
    y, c, epsilon = problems(17, 64, np.float32)
    c = np.random.default_rng(0).normal(size=c.shape).astype(np.float32)
    early = jax.jit(jax.vmap(lambda y, c, e: linear_max_l1_top(y, c, e, steps=1)))
    (best, bound), z = solved(y, c, epsilon), np.asarray(early(y, c, epsilon))
    missed = relative(c, best) - relative(c, z)
    gap = (np.asarray(bound) - (c * z).sum(axis=1)) / spread_of(c)
    assert missed.max() > 1e-3
    np.testing.assert_allclose(gap, missed, atol=3e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_the_l2_optimum_meets_its_bound_on_ties_zeros_and_subsets(keep):
    y, c, epsilon = problems(7, 64, np.float64)

    def both(y, c, epsilon):
        top = jnp.argmax(y) if keep else None
        return linear_max_l2(y, c, epsilon, keep=top), linear_bound_l2(y, c, epsilon, keep=top)

    with jax.enable_x64(True):
        z, bound = jax.jit(jax.vmap(both))(y, c, epsilon)
    gap = (np.asarray(bound) - (c * np.asarray(z)).sum(axis=1)) / spread_of(c)
    offset = np.abs(c).max(axis=1) / spread_of(c) * 1e-14
    assert (np.abs(gap) <= 1e-9 + offset).all()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_no_feasible_response_exceeds_the_bound_of_exact_on_ties_zeros_and_subsets(norm):
    y, _, epsilon = problems(5, 96, np.float64)
    p = np.random.default_rng(1).dirichlet(np.ones(5), 96)
    samples = problems(5, 96 * 40, np.float64)[1].reshape(96, 40, 5)
    order = 1 if norm == "l1" else 2

    def run(y, p, epsilon, directions):
        result = exact(y, LastLayer(p), epsilon=epsilon, keep_argmax=True, norm=norm)
        if norm == "l1":
            points = jax.vmap(lambda c: linear_max_l1_top(y, c, epsilon))(directions)
        else:
            points = jax.vmap(lambda c: linear_max_l2(y, c, epsilon, keep=jnp.argmax(y)))(directions)
        gram = LastLayer(p)
        u, v = jax.vmap(gram.pull)(points), gram.pull(y)
        cosines = u @ v / (jnp.linalg.norm(u, axis=1) * jnp.linalg.norm(v))
        return result.answer, result.value, result.bound, jnp.max(2 - 2 * cosines)

    with jax.enable_x64(True):
        z, value, bound, best = (np.asarray(x) for x in jax.jit(jax.vmap(run))(y, p, epsilon, samples))
    assert (np.linalg.norm(z - y, ord=order, axis=1) <= epsilon + 1e-9).all()
    assert (z.argmax(axis=1) == y.argmax(axis=1)).all()
    assert (value <= bound + 1e-9).all()
    assert (best <= bound + 1e-7).all()
