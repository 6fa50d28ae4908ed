"""The formal guarantees of MAD and `simplex.feasible`, judged by NumPy in float64 on posteriors of every bad kind.

Entries ≥ 0; |Σỹ − 1| ≤ 1e-6; dist(y, ỹ) ≤ ε + 1e-6; with a solver that keeps the argmax, argmax ỹ = argmax y; never
NaN.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, distance, objective, oracle, simplex
from pp_jax.gram import LastLayer
from pp_jax.solvers import LineSearch, MaxAngle, MinInner, Projection
from pp_jax.types import Query
from support import broken_promises, budgets, given_logits, hard_posteriors, quick, surrogate_logits

# A new solver is a new row here.
SOLVERS = {
    "extreme": LineSearch(oracle.extreme),
    "extreme, inner": LineSearch(oracle.extreme, objective=objective.inner),
    "extreme, interpolate_first": LineSearch(oracle.extreme, interpolate_first=True),
    "argmax_preserving": LineSearch(oracle.argmax_preserving),
    "argmax_preserving, inner": LineSearch(oracle.argmax_preserving, objective=objective.inner),
    "random_vertex": LineSearch(oracle.random_vertex),
    "least_likely": LineSearch(oracle.least_likely),
    "projection": Projection(oracle.extreme),
    "min_inner": MinInner(),
    "min_inner, keep_argmax": MinInner(keep_argmax=True),
}
# Too long to compile for the fast run.
SLOW_SOLVERS = {"max_angle": MaxAngle(), "max_angle, keep_argmax": MaxAngle(keep_argmax=True)}
DISTANCES = {"L1": distance.L1(), "L2": distance.L2(), "KL": distance.KL()}
PROMISES = ("never NaN", "entries ≥ 0", "|Σỹ − 1| ≤ 1e-6", "dist(y, ỹ) ≤ ε + 1e-6", "argmax ỹ = argmax y")
# Rows per number of classes; the exhaustive run multiplies them to a million and takes every distance at every K.
ROWS = {2: 4000, 3: 4000, 10: 8000, 17: 2000, 100: 1600, 1000: 400}
# Milliseconds a posterior where the top class is kept.
LARGEST_ANGLE_ROWS = {3: 4000, 10: 6000, 100: 200}
SLOW_ROWS = {2: 285_000, 3: 285_000, 5: 285_000, 10: 210_000, 16: 6_000, 17: 20_000, 100: 18_000, 1000: 2_000}


def _cases(name, rows):
    """(K, rows) for one solver, and the distances it knows; alternating projections are slow for many classes."""
    solver = (SOLVERS | SLOW_SOLVERS)[name]
    if isinstance(solver, Projection):
        rows = {classes: count for classes, count in rows.items() if classes <= 10}
    return rows, list(DISTANCES) if isinstance(solver, LineSearch) else ["L1", "L2"]


@functools.partial(jax.jit, static_argnames=("solver", "ball"))
def _answers(probs, logits, epsilon, key, *, solver, ball):
    """MAD's answers, one budget and one surrogate posterior a row."""

    def one(y, z, eps, k):
        return MAD(given_logits, None, eps, solver=solver, distance=ball)(y, Query(z, k))

    return jax.vmap(one)(probs, logits, epsilon, jax.random.split(key, len(probs)))


def _chunks(rows, classes):
    """Row ranges of one size that bound the memory of the enumerating oracle."""
    size = min(rows, max(200, 4_000_000 // (2**classes if classes <= 16 else 20 * classes)))
    return [slice(i, i + size) for i in range(0, rows - size + 1, size)]


def _count(solver, ball, classes, rows, *, seed=0, dtype=np.float32):
    """The number of rows tried, and of those that break each promise."""
    rng = np.random.default_rng([seed, classes])
    probs = hard_posteriors(rng, rows, classes)[rng.permutation(rows)]
    logits, epsilon = surrogate_logits(rng, probs), budgets(rng, rows, DISTANCES[ball].largest)
    totals, tried = dict.fromkeys(PROMISES, 0), 0
    for part in _chunks(rows, classes):
        given = jnp.asarray(probs[part], dtype)
        answers = np.asarray(
            _answers(
                given, logits[part], epsilon[part], jax.random.key(part.start), solver=solver, ball=DISTANCES[ball]
            )
        )
        # A half-precision posterior is off the simplex: the promise is about its normalised form.
        clean = np.asarray(simplex.working(given)) if dtype == jnp.bfloat16 else np.asarray(given)
        counts = broken_promises(clean, answers, epsilon[part], distance=ball, keep_argmax=solver.keeps_argmax)
        totals = {name: totals[name] + counts[name] for name in totals}
        tried += len(answers)
    return tried, totals


@functools.cache
def _survey(name):
    """20 000 posteriors for one solver, the distances taken in turn over the numbers of classes."""
    cases, balls = _cases(name, ROWS)
    totals, tried = dict.fromkeys(PROMISES, 0), 0
    for index, (classes, rows) in enumerate(cases.items(), start=list(SOLVERS).index(name)):
        more, counts = _count(SOLVERS[name], balls[index % len(balls)], classes, rows)
        tried, totals = tried + more, {p: totals[p] + counts[p] for p in PROMISES}
    return tried, totals


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("name", quick(SOLVERS, 0, 3, 8))
def test_guarantee(name, promise):
    tried, totals = _survey(name)
    assert tried >= 15_000
    assert totals[promise] == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SOLVERS)
def test_guarantees_for_a_million_posteriors(name):
    assert _hold(name, SLOW_ROWS) >= 1_000_000


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SLOW_SOLVERS)
def test_guarantees_of_the_largest_angle(name):
    assert _hold(name, LARGEST_ANGLE_ROWS) >= 10_000


def _hold(name, rows):
    """The number of posteriors tried, after a check that every promise held for each."""
    (cases, balls), tried = _cases(name, rows), 0
    for classes, count in cases.items():
        for seed, ball in enumerate(balls, start=1):
            more, counts = _count((SOLVERS | SLOW_SOLVERS)[name], ball, classes, -(-count // len(balls)), seed=seed)
            tried += more
            assert counts == dict.fromkeys(PROMISES, 0), (classes, ball)
    return tried


@pytest.mark.parametrize("ball", ["L1", "KL"])
@pytest.mark.parametrize("name", ["extreme", "argmax_preserving"])
def test_guarantees_with_bfloat16_posteriors(name, ball):
    assert _count(SOLVERS[name], ball, 10, 4000, dtype=jnp.bfloat16)[1] == dict.fromkeys(PROMISES, 0)


@pytest.mark.parametrize("ball", ["L1", "KL"])
@pytest.mark.parametrize("name", ["extreme", "argmax_preserving"])
def test_guarantees_with_float64_posteriors(name, ball):
    with jax.enable_x64(True):
        assert _count(SOLVERS[name], ball, 10, 4000, dtype=np.float64)[1] == dict.fromkeys(PROMISES, 0)


@pytest.mark.parametrize("name", SOLVERS)
def test_epsilon_zero_returns_y(name):
    rng = np.random.default_rng(3)
    probs = hard_posteriors(rng, 2000, 10)
    logits = surrogate_logits(rng, probs)
    zero = np.zeros(len(probs), np.float32)
    answers = _answers(probs, logits, zero, jax.random.key(0), solver=SOLVERS[name], ball=distance.L1())
    np.testing.assert_allclose(answers, probs, rtol=3e-7, atol=2e-38)


def test_one_hot_at_epsilon_one_ties_at_one_half_and_the_lower_class_wins():
    probs = np.eye(4, dtype=np.float32)
    logits = np.tile(np.float32([0.0, 1.0, 2.0, 3.0]), (4, 1))
    one = np.ones(4, np.float32)
    answers = np.asarray(
        _answers(probs, logits, one, jax.random.key(0), solver=SOLVERS["least_likely"], ball=distance.L1())
    )
    assert ((answers == 0.5).sum(1) == 2).all()
    assert answers.argmax(1).tolist() == [0, 0, 0, 0]
    kept = np.asarray(
        _answers(probs, logits, one, jax.random.key(0), solver=SOLVERS["argmax_preserving"], ball=distance.L1())
    )
    assert kept.argmax(1).tolist() == [0, 1, 2, 3]


def test_surrogate_equal_to_the_posterior_takes_the_direction_of_largest_deviation():
    # Dyadic numbers, so that Gᵀy is exactly zero.
    y = jnp.float32([0.5, 0.375, 0.125])
    assert oracle.extreme(y, LastLayer(y)).tolist() == [0, 0, 1]
    # Of the sets that hold the top class: ‖e_0 − y‖² = .41, ‖(e_0 + e_2)/2 − y‖² = .28, the others less.
    np.testing.assert_allclose(oracle.argmax_preserving(y, LastLayer(y)), [1, 0, 0], atol=1e-5)


def test_keep_top_makes_the_top_class_the_first_maximum():
    rng = np.random.default_rng(0)
    answers = hard_posteriors(rng, 2000, 10)
    top = answers.argmax(1)
    nudged = np.where(rng.random(answers.shape) < 0.3, answers.max(1, keepdims=True), answers).astype(np.float32)
    nudged /= nudged.sum(1, keepdims=True)
    kept = np.asarray(jax.jit(jax.vmap(simplex.keep_top))(nudged, top))
    assert (kept.argmax(1) == top).all()
    np.testing.assert_allclose(kept.sum(1), nudged.sum(1), atol=1e-6)
