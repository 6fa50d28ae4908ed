"""Oracles against brute force, and the symmetries they promise."""

import functools
import itertools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from pp_jax import MAD, distance, objective, oracle
from pp_jax.gram import Dense, LastLayer
from pp_jax.solvers import LineSearch, MaxAngle, MinInner, Projection
from support import hard_posteriors

CLASSES = st.sampled_from([2, 3, 5, 8])
SEEDS = st.integers(0, 2**32 - 1)
OBJECTIVES = {"angular": objective.angular, "inner": objective.inner}
ORACLES = {"extreme": oracle.extreme, "argmax_preserving": oracle.argmax_preserving}


def _case(seed, classes):
    """A posterior without ties and a surrogate's, float64."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes)), rng.dirichlet(np.full(classes, 0.5))


def _numpy_objective(name, y, z, p):
    """H or ‖Gᵀ(z − y)‖² of candidates (..., K), by NumPy, for the last layer."""
    u, v = y - y.sum() * p, z - z.sum(-1, keepdims=True) * p
    if name == "inner":
        return ((v - u) ** 2).sum(-1)
    return 2 - 2 * (v @ u) / np.linalg.norm(v, axis=-1) / np.linalg.norm(u)


def _sets(y, size=None):
    """The candidates of the argmax-preserving oracle, (·, K): every set with the top class, or those of a size."""
    top, classes = int(np.argmax(y)), len(y)
    others = [k for k in range(classes) if k != top]
    sizes = range(classes) if size is None else [size]
    chosen = [c for n in sizes for c in itertools.combinations(others, n)]
    rows = np.zeros((len(chosen), classes))
    for row, members in zip(rows, chosen, strict=True):
        row[[top, *members]] = 1
    rows[:, top] += oracle.TOP_MARGIN
    return rows / rows.sum(1, keepdims=True)


_COMPILED = {
    (o, kind): jax.jit(lambda y, p, f=f, obj=obj: f(y, LastLayer(p), objective=obj))
    for o, f in ORACLES.items()
    for kind, obj in OBJECTIVES.items()
}


def _choose(name, kind, y, p):
    """An oracle's choice in float64, as NumPy."""
    with jax.enable_x64(True):
        return np.asarray(_COMPILED[name, kind](y, p))


@pytest.mark.parametrize("kind", OBJECTIVES)
@given(seed=SEEDS, classes=CLASSES)
def test_enumeration_equals_brute_force_over_all_subsets(kind, seed, classes):
    y, p = _case(seed, classes)
    found = _numpy_objective(kind, y, _choose("argmax_preserving", kind, y, p), p)
    np.testing.assert_allclose(found, _numpy_objective(kind, y, _sets(y), p).max(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", OBJECTIVES)
@given(seed=SEEDS, classes=CLASSES)
def test_extreme_is_the_best_vertex(kind, seed, classes):
    y, p = _case(seed, classes)
    found = _numpy_objective(kind, y, _choose("extreme", kind, y, p), p)
    np.testing.assert_allclose(found, _numpy_objective(kind, y, np.eye(classes), p).max(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", OBJECTIVES)
@given(seed=SEEDS, classes=st.sampled_from([17, 40]))
@settings(max_examples=20)
def test_greedy_is_never_below_the_top_class_and_one_other(kind, seed, classes):
    y, p = _case(seed, classes)
    found = _choose("argmax_preserving", kind, y, p)
    assert found.argmax() == y.argmax()
    best = _numpy_objective(kind, y, _sets(y, 1), p).max()
    assert _numpy_objective(kind, y, found, p) >= best - 1e-9 * abs(best)


@pytest.mark.parametrize("name", ORACLES)
@given(seed=SEEDS, classes=st.sampled_from([3, 8, 17]))
@settings(max_examples=30)
def test_permuting_the_classes_permutes_the_choice(name, seed, classes):
    y, p = _case(seed, classes)
    order = np.random.default_rng(seed).permutation(classes)
    np.testing.assert_allclose(
        _choose(name, "angular", y[order], p[order]), _choose(name, "angular", y, p)[order], atol=1e-12
    )


@given(seed=SEEDS, classes=CLASSES, ball=st.sampled_from([distance.L1(), distance.L2()]))
def test_interpolate_first_never_gives_a_smaller_objective_than_vertex_first(seed, classes, ball):
    y, p = _case(seed, classes)
    eps = np.random.default_rng(seed).uniform(0.01, ball.largest)
    first, after = (_solve(y, p, eps, ball=ball, interpolate_first=flag) for flag in (True, False))
    assert _numpy_objective("angular", y, first, p) >= _numpy_objective("angular", y, after, p) - 1e-7


def _solve(y, p, eps, *, ball, interpolate_first):
    """The heuristic's answer in float64."""
    with jax.enable_x64(True):
        return np.asarray(_line_search(y, p, eps, ball, interpolate_first))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _line_search(y, p, eps, ball, interpolate_first):
    """The same, compiled."""
    solver = LineSearch(interpolate_first=interpolate_first)
    return solver(y, LastLayer(p), epsilon=eps, distance=ball, key=None)


@pytest.mark.parametrize("ball", [distance.L1(), distance.L2(), distance.KL()], ids=lambda b: type(b).__name__)
def test_a_larger_budget_never_spends_less(ball):
    rng = np.random.default_rng(0)
    probs = hard_posteriors(rng, 500, 6)
    p = rng.dirichlet(np.ones(6), 500).astype(np.float32)
    eps = np.linspace(0, min(2, ball.largest), 9, dtype=np.float32)

    def spent(y, p, e):
        return ball(y, LineSearch()(y, LastLayer(p), epsilon=e, distance=ball, key=None))

    grid = jax.jit(jax.vmap(jax.vmap(spent, (0, 0, None)), (None, None, 0)))(probs, p, eps)
    assert (np.diff(np.asarray(grid), axis=0) >= -1e-6).all()


def test_random_vertex_is_a_vertex_and_needs_a_key():
    y, gram = jnp.full(5, 0.2), LastLayer(jnp.full(5, 0.2))
    drawn = jax.vmap(lambda k: oracle.random_vertex(y, gram, key=k))(jax.random.split(jax.random.key(0), 500))
    assert (np.sort(drawn, axis=1) == [0, 0, 0, 0, 1]).all()
    # Each class is expected 100 times, with a standard deviation of 9.
    assert (np.abs(np.asarray(drawn).sum(0) - 100) < 45).all()
    with pytest.raises(ValueError, match="random_vertex draws a class: it needs a key, not None"):
        oracle.random_vertex(y, gram)


def test_least_likely_takes_the_first_of_ties():
    gram = LastLayer(jnp.full(4, 0.25))
    assert oracle.least_likely(jnp.array([0.4, 0.1, 0.4, 0.1]), gram).tolist() == [0, 1, 0, 0]


def test_ties_between_vertices_go_to_the_lowest_class():
    y = jnp.array([1.0, 0, 0, 0])
    assert oracle.extreme(y, Dense(jnp.eye(4))).tolist() == [0, 1, 0, 0]


def test_interpolate_first_is_refused_with_another_oracle():
    with pytest.raises(ValueError, match="an oracle that takes `step`, such as `extreme`, not `least_likely`"):
        LineSearch(oracle.least_likely, interpolate_first=True)


@pytest.mark.parametrize("solver", [Projection(), MinInner(), MaxAngle()], ids=lambda s: type(s).__name__)
def test_a_solver_that_needs_a_norm_refuses_kl(solver):
    with pytest.raises(ValueError, match=f"{type(solver).__name__} needs the distance L1 or L2, not KL"):
        MAD(None, None, 0.5, solver=solver, distance=distance.KL())
    for ball in (distance.L1(), distance.L2()):
        MAD(None, None, 0.5, solver=solver, distance=ball)
