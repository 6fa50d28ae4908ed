"""`exact` and `min_inner` reach the true optima, say so honestly, and never leave the feasible set."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from pp_jax import objective
from pp_jax.geometry.distance import L1
from pp_jax.gram import Dense, LastLayer
from pp_jax.solvers import LineSearch, exact, min_inner

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mad_exact.npz")


def golden(size, last_layer_only=False):
    """The recorded cases with `size` classes, stacked: a function from a key to its values."""
    names = [f"case{i:03d}/" for i in range(int(GOLDEN["count"]))]
    names = [n for n in names if GOLDEN[n + "y"].size == size]
    if last_layer_only:
        names = [n for n in names if str(GOLDEN[n + "mtype"]) == "last"]
    return lambda key: np.stack([GOLDEN[n + key] for n in names])


def deviation(z, y, gram):
    """H in float64 NumPy."""
    inner = np.einsum("ni,nij,nj->n", y, gram, z)
    square = np.einsum("ni,nij,nj->n", y, gram, y) * np.einsum("ni,nij,nj->n", z, gram, z)
    return 2 - 2 * inner / np.sqrt(square)


def assert_feasible(z, y, epsilon, keep_argmax, order=1, tolerance=1e-6):
    """The promises every answer keeps."""
    assert np.isfinite(z).all()
    assert z.min() >= 0
    np.testing.assert_allclose(z.sum(axis=-1), 1, atol=tolerance)
    assert (np.linalg.norm(z - y, ord=order, axis=-1) <= epsilon + tolerance).all()
    if keep_argmax:
        np.testing.assert_array_equal(z.argmax(axis=-1), y.argmax(axis=-1))


def solver(keep_argmax, **options):
    """`exact` over a batch, compiled."""
    return jax.jit(jax.vmap(lambda y, m, e: exact(y, m, epsilon=e, keep_argmax=keep_argmax, **options)))


@pytest.mark.parametrize(
    ("size", "rule", "form"),
    [
        (5, "free", "dense"),
        (7, "free", "last"),
        pytest.param(7, "free", "dense", marks=pytest.mark.slow),
        pytest.param(5, "top1", "dense", marks=pytest.mark.exhaustive),
        pytest.param(3, "free", "dense", marks=pytest.mark.slow),
        pytest.param(3, "top1", "dense", marks=pytest.mark.slow),
        pytest.param(7, "top1", "dense", marks=pytest.mark.slow),
        pytest.param(7, "top1", "last", marks=pytest.mark.slow),
        pytest.param(5, "free", "last", marks=pytest.mark.exhaustive),
        pytest.param(5, "top1", "last", marks=pytest.mark.slow),
    ],
)
def test_reaches_the_brute_force_optimum_and_certifies_it(size, rule, form):
    case = golden(size, last_layer_only=form == "last")
    y, gram, epsilon, optimum = case("y"), case("gram"), case("eps"), case(f"{rule}/opt")
    with jax.enable_x64(True):
        operator = Dense(jnp.asarray(gram)) if form == "dense" else LastLayer(jnp.asarray(case("p")), jnp.ones(len(y)))
        result = solver(rule == "top1")(y, operator, epsilon)
    answer, value, bound = (np.asarray(x) for x in (result.answer, result.value, result.bound))
    assert_feasible(answer, y, epsilon, rule == "top1", tolerance=1e-9)
    reached = deviation(answer, y, gram)
    np.testing.assert_allclose(reached, optimum, atol=1e-7)
    assert (reached <= optimum + 1e-8).all()
    np.testing.assert_allclose(value, reached, atol=1e-8)
    assert (bound >= optimum - 1e-9).all()
    convex = case(f"{rule}/kind") == "convex"
    np.testing.assert_array_equal(np.asarray(result.convex), convex)
    np.testing.assert_allclose(bound[convex], optimum[convex], atol=1e-7)


def convex_optimum(p, y, epsilon):
    """H* by non-negative least squares over the extreme points; the sets are small enough to list them all."""
    size = y.size
    points = []
    for receiver in range(size):
        others = [j for j in range(size) if j != receiver]
        mass = min(1 - y[receiver], epsilon / 2)
        for mask in range(2 ** len(others)):
            chosen = [others[i] for i in range(len(others)) if mask >> i & 1]
            for partial_giver in set(others) - set(chosen):
                left = mass - y[chosen].sum()
                if 0 <= left <= y[partial_giver]:
                    z = y.copy()
                    z[chosen], z[receiver] = 0, y[receiver] + mass
                    z[partial_giver] -= left
                    points.append(z)
    a = (y - p) / np.linalg.norm(y - p)
    directions = (np.array(points) - p).T
    _, residual = nnls(directions / np.linalg.norm(directions, axis=0), -a)
    cosines = a @ (directions / np.linalg.norm(directions, axis=0))
    return 2 + 2 * np.sqrt(max(1 - residual**2, 0)) if cosines.min() < 0 else 2 - 2 * cosines.min()


@pytest.mark.slow
def test_agrees_with_listed_extreme_points_in_both_precisions():
    rng = np.random.default_rng(5)
    size, count = 7, 40
    y = np.concatenate([rng.dirichlet(np.full(size, a), count // 4) for a in (0.2, 0.7, 1.0, 3.0)])
    p = rng.dirichlet(np.full(size, 20.0), count)
    epsilon = np.resize([0.1, 0.5, 0.99, 1.4], count)
    gram = np.stack([np.asarray((np.eye(size) - q) @ (np.eye(size) - q).T) for q in p])
    optimum = np.array([convex_optimum(*row) for row in zip(p, y, epsilon, strict=True)])
    for dtype, tolerance in ((np.float64, 1e-7), (np.float32, 2e-4)):
        with jax.enable_x64(dtype == np.float64):
            operator = LastLayer(jnp.asarray(p.astype(dtype)), jnp.ones(count, dtype))
            answer = solver(False)(y.astype(dtype), operator, epsilon.astype(dtype)).answer
        np.testing.assert_allclose(deviation(np.asarray(answer, np.float64), y, gram), optimum, atol=tolerance)


def hostile(size):
    """Posteriors that break careless arithmetic, as pairs (y, p)."""
    uniform = np.full(size, 1 / size, np.float32)
    tie = np.zeros(size, np.float32)
    tie[[1, 3]] = 0.5
    denormal = np.full(size, 1e-40, np.float32)
    denormal[2] = 1
    one_hot = np.eye(size, dtype=np.float32)
    peaked = np.full(size, 1e-6, np.float32)
    peaked[4] = 1 - 1e-6 * (size - 1)
    skewed = np.linspace(1, 2, size, dtype=np.float32) / np.linspace(1, 2, size).sum(dtype=np.float32)
    return [
        (y, p)
        for y in (uniform, tie, denormal, one_hot[0], one_hot[-1], peaked, skewed)
        for p in (uniform, skewed, one_hot[0], y)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keep_argmax", "norm"),
    [
        (False, "l1"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(True, "l1"), (False, "l2"), (True, "l2")]),
    ],
)
def test_answers_are_feasible_for_any_posterior_and_budget(keep_argmax, norm):
    pairs = hostile(6)
    epsilons = np.float32([0, 1e-6, 0.1, 0.99, 1.4, 2])
    y = np.repeat(np.stack([y for y, _ in pairs]), len(epsilons), axis=0)
    p = np.repeat(np.stack([p for _, p in pairs]), len(epsilons), axis=0)
    epsilon = np.tile(epsilons, len(pairs))
    operator = LastLayer(jnp.asarray(p), jnp.ones(len(p)))
    linear = jax.vmap(lambda y, m, e: min_inner(y, m, epsilon=e, keep_argmax=keep_argmax, norm=norm))
    order = 1 if norm == "l1" else 2
    assert_feasible(np.asarray(jax.jit(linear)(y, operator, epsilon)), y, epsilon, keep_argmax, order)
    result = solver(keep_argmax, norm=norm)(y, operator, epsilon)
    assert_feasible(np.asarray(result.answer), y, epsilon, keep_argmax, order)
    value, bound = np.asarray(result.value), np.asarray(result.bound)
    assert ((value >= 0) & (value <= bound) & (bound <= 4 + 1e-6)).all()


def test_a_posterior_equal_to_the_surrogates_has_value_zero():
    p = jnp.array([0.25, 0.25, 0.5])
    result = jax.jit(partial(exact, epsilon=0.5))(p, LastLayer(p))
    assert result.value == 0
    assert result.bound == 0
    np.testing.assert_allclose(jnp.abs(result.answer - p).sum(), 0.5, atol=1e-6)


def test_where_the_ball_holds_p_the_gradient_is_reversed():
    p, y = jnp.array([0.3, 0.3, 0.4]), jnp.array([0.4, 0.3, 0.3])
    for gram in (LastLayer(p), LastLayer(p).matrix()):
        result = jax.jit(partial(exact, epsilon=0.5))(y, gram)
        np.testing.assert_allclose(result.value, 4, atol=1e-5)
    answer = np.asarray(result.answer)
    assert answer[0] < p[0] < y[0]


@pytest.mark.slow
def test_the_l2_optimum_is_not_beaten_by_feasible_samples():
    rng = np.random.default_rng(3)
    y, p = rng.dirichlet(np.ones(4), 10), rng.dirichlet(np.full(4, 10.0), 10)
    gram = np.stack([np.asarray((np.eye(4) - q) @ (np.eye(4) - q).T) for q in p])
    samples = rng.dirichlet(np.ones(4), 4000)
    best = np.full(10, -np.inf)
    for i in range(10):
        step = samples - y[i]
        z = y[i] + step * np.minimum(1, 0.5 / np.linalg.norm(step, axis=1))[:, None]
        best[i] = deviation(z, np.repeat(y[i : i + 1], len(z), 0), np.repeat(gram[i : i + 1], len(z), 0)).max()
    with jax.enable_x64(True):
        for operator in (LastLayer(jnp.asarray(p), jnp.ones(10)), Dense(jnp.asarray(gram))):
            value = np.asarray(solver(False, norm="l2")(y, operator, np.full(10, 0.5)).value)
            assert (value >= best - 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["last", "dense"])
@pytest.mark.parametrize("classes", [20, 100])
def test_many_classes_are_answered_feasibly_and_no_worse_than_by_the_heuristic(classes, form):
    rng = np.random.default_rng(5)
    y = rng.dirichlet(np.ones(classes), 8).astype(np.float32)
    p = rng.dirichlet(np.full(classes, 5.0), 8).astype(np.float32)
    epsilon = np.tile(np.float32([0.1, 0.5, 0.99, 1.5]), 2)
    gram = LastLayer(jnp.asarray(p), jnp.ones(8))
    gram = gram if form == "last" else Dense(gram.matrix())
    result = solver(False)(y, gram, epsilon)
    assert_feasible(np.asarray(result.answer), y, epsilon, False, 1)
    heuristic = LineSearch(interpolate_first=True)
    answers = jax.vmap(lambda y, m, e: heuristic(y, m, epsilon=e, distance=L1(), key=None))(y, gram, epsilon)
    assert (np.asarray(result.value) >= np.asarray(jax.vmap(objective.value)(y, answers, gram)) - 1e-4).all()


def _min_inner(y, gram, epsilon, *, keep_argmax):
    """`min_inner` with its budget in place."""
    return min_inner(y, gram, epsilon=epsilon, keep_argmax=keep_argmax)


def test_min_inner_is_the_smallest_inner_product_of_the_recorded_cases():
    case = golden(5)
    with jax.enable_x64(True):
        for rule in ("free", "top1"):
            run = jax.vmap(partial(_min_inner, keep_argmax=rule == "top1"))
            z = np.asarray(jax.jit(run)(case("y"), Dense(jnp.asarray(case("gram"))), case("eps")))
            inner = np.einsum("ni,nij,nj->n", case("y"), case("gram"), z)
            np.testing.assert_allclose(inner, case(f"{rule}/min_linear"), atol=1e-9)


def test_bfloat16_posteriors_are_answered_in_float32():
    y = jnp.array([0.5, 0.25, 0.25], jnp.bfloat16)
    answer = min_inner(y, LastLayer(jnp.array([0.3, 0.3, 0.4], jnp.bfloat16)), epsilon=0.5)
    assert answer.dtype == jnp.float32
    np.testing.assert_allclose(jnp.sum(answer), 1, atol=1e-6)


def test_a_new_budget_does_not_retrace():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(y, epsilon):
        return min_inner(y, LastLayer(jnp.array([0.3, 0.3, 0.4])), epsilon=epsilon)

    for epsilon in (0.1, 0.5, 1.0):
        run(jnp.array([0.5, 0.25, 0.25]), epsilon)


@pytest.mark.parametrize("solve", [exact, min_inner])
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((jnp.ones(3) / 3, jnp.eye(3)), {"norm": "kl"}, "norm must be 'l1' or 'l2', not 'kl'"),
        ((jnp.ones(3) / 3, jnp.eye(4)), {}, "for 4 classes, but the posterior has 3"),
        ((jnp.ones((2, 3)) / 3, jnp.eye(3)), {}, "one posterior"),
        ((jnp.ones(3) / 3, jnp.ones((3, 2))), {}, "square"),
    ],
)
def test_refuses_what_it_cannot_solve(solve, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        solve(*arguments, epsilon=0.5, **options)
