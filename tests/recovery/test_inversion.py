"""MAD's answers can be undone: exactly with the surrogate's weights, and above ε = 1 without them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pp_jax import MAD, perturb
from pp_jax.defenses import Rounding, chain
from pp_jax.geometry.distance import L2
from pp_jax.recovery import invert_known_mad, invert_mad, preimages
from pp_jax.solvers import LineSearch, MinInner
from pp_jax.solvers.oracle import least_likely, random_vertex
from support import given_logits, linear_logits, linear_params


def _posteriors(seed, rows, classes, concentration=0.3):
    """Clean posteriors, float64."""
    return np.random.default_rng(seed).dirichlet(np.full(classes, concentration), rows)


@functools.partial(jax.jit, static_argnames="slack")
def _preimages(answers, epsilon, slack=0.0):
    """The preimages of each of (B, K)."""
    return jax.vmap(lambda answer: preimages(answer, epsilon=epsilon, slack=slack))(answers)


SEEDS, CLASSES = st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 10])


@given(SEEDS, CLASSES, st.floats(0.0, 2.0))
def test_the_clean_posterior_is_among_the_preimages_wherever_the_step_is_not_whole(seed, classes, epsilon):
    (y,) = _posteriors(seed, 1, classes, 1.0)
    steps = np.minimum(1, epsilon / (2 * (1 - y)))
    answers = y + steps[:, None] * (np.eye(classes) - y)
    with jax.enable_x64(True):
        rows, possible = (np.asarray(a) for a in _preimages(answers, epsilon, slack=1e-14))
    each = np.arange(classes)
    partial = steps < 1 - 1e-6
    assert possible[each, each][partial].all()
    assert np.abs(rows[each, each] - y)[partial].max(initial=0) < 1e-10
    assert rows.min() >= 0
    np.testing.assert_allclose(rows.sum(2), 1, atol=1e-12)


@given(SEEDS, CLASSES, st.floats(0.01, 2.0))
def test_at_most_two_over_epsilon_preimages_are_possible_and_each_gives_the_answer_again(seed, classes, epsilon):
    (answer,) = _posteriors(seed, 1, classes, 0.5)
    with jax.enable_x64(True):
        ((rows,), (possible,)) = (np.asarray(a) for a in _preimages(answer[None], epsilon))
    assert possible.sum() <= 2 / epsilon
    for j in np.flatnonzero(possible):
        again = rows[j] + epsilon / (2 * (1 - rows[j, j])) * (np.eye(classes)[j] - rows[j])
        np.testing.assert_allclose(again, answer, atol=1e-10)


@pytest.mark.parametrize("epsilon", [0.2, 0.99, 1.2])
@pytest.mark.parametrize("oracle", ["extreme", "least_likely"])
def test_with_the_weights_nearly_every_posterior_comes_back(epsilon, oracle):
    solver = LineSearch() if oracle == "extreme" else LineSearch(least_likely)
    with jax.enable_x64(True):
        y = _posteriors(1, 400, 10)
        images = np.random.default_rng(2).uniform(0, 1, (400, 4, 4, 1))
        surrogate = linear_params(jax.random.key(0), 16, 10)
        defense = MAD(linear_logits, surrogate, epsilon, solver=solver)
        answers = perturb(defense, jnp.asarray(y), jnp.asarray(images))
        found = np.asarray(invert_known_mad(answers, images, defense))
        partial = np.asarray(answers).max(1) < 1 - 1e-9
        exact = np.abs(found - y).sum(1) < 1e-9
    # Small steps have several true preimages now and then; a budget near one has next to none.
    assert exact[partial].mean() >= (0.99 if epsilon > 0.9 else 0.95)
    assert partial.mean() > 0.5
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_above_one_the_answer_and_epsilon_are_enough(dtype):
    y = _posteriors(3, 300, 5, 0.5)
    y = jnp.asarray(y[y.max(1) < 0.3 + 0.7 * (np.arange(300) % 2)], jnp.float32)
    images = jnp.asarray(np.random.default_rng(4).normal(size=(len(y), 1, 5, 1)).clip(0, 1), jnp.float32)
    answers = perturb(MAD(given_logits, None, 1.2), y, images)
    partial = np.asarray(answers).max(1) < 0.95
    found = invert_mad(answers.astype(dtype), epsilon=1.2)
    assert found.dtype == jnp.float32
    assert partial.sum() > 50
    assert np.abs(found - y).sum(1)[partial].max() < (1e-4 if dtype == "float32" else 0.3)


def test_a_confident_victim_is_read_without_weights_below_one_too():
    y = np.full((50, 10), 0.001)
    y[np.arange(50), np.arange(50) % 10] = 0.991
    images = np.random.default_rng(5).uniform(0, 1, (50, 4, 4, 1)).astype(np.float32)
    defense = MAD(linear_logits, linear_params(jax.random.key(1), 16, 10), 0.99)
    answers = perturb(defense, jnp.asarray(y, jnp.float32), jnp.asarray(images))
    assert np.abs(answers - y).sum(1).min() > 0.98
    assert np.abs(invert_mad(answers, epsilon=0.99) - y).sum(1).max() < 1e-4


@pytest.mark.parametrize("known", [False, True])
def test_answers_to_three_decimals_are_read_by_who_allows_for_the_rounding(known):
    y = jnp.asarray(_posteriors(8, 200, 4), jnp.float32)
    images = np.random.default_rng(9).uniform(0, 1, (200, 4, 4, 1)).astype(np.float32)
    defense = MAD(linear_logits, linear_params(jax.random.key(1), 16, 4), 1.1)
    answers = np.asarray(perturb(chain(defense, Rounding(3)), y, images))
    partial = answers.max(1) < 0.9
    invert = functools.partial(invert_known_mad, answers, images, defense) if known else None
    invert = invert or functools.partial(invert_mad, answers, epsilon=1.1)
    exact = np.abs(invert(rounding=1e-3) - y).sum(1) < 0.05
    without = np.abs(invert() - y).sum(1) < 0.05
    assert exact[partial].mean() > 0.95
    assert without[partial].mean() < exact[partial].mean()


def test_the_preference_decides_between_possible_posteriors():
    answer = jnp.asarray([[0.5, 0.5]])
    first = invert_mad(answer, epsilon=0.5, prefer=lambda y: y[0])
    second = invert_mad(answer, epsilon=0.5, prefer=lambda y: y[1])
    np.testing.assert_allclose(first, [[0.75, 0.25]], atol=1e-6)
    np.testing.assert_allclose(second, [[0.25, 0.75]], atol=1e-6)


def test_a_vertex_keeps_its_secret():
    answers = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(invert_mad(answers, epsilon=1.5), answers)


def test_epsilon_zero_returns_the_answers():
    y = _posteriors(6, 20, 4).astype(np.float32)
    np.testing.assert_allclose(invert_mad(y, epsilon=0.0), y, atol=1e-6)


def _mad(**options):
    return MAD(given_logits, None, 0.5, **options)


@pytest.mark.parametrize(
    ("defense", "message"),
    [
        (_mad(distance=L2()), "distance must be L1 for the inversion, not L2"),
        (_mad(solver=MinInner()), "solver must be LineSearch for the inversion, not MinInner"),
        (MAD.argmax_preserving(given_logits, None, 0.5), "not argmax_preserving"),
        (_mad(solver=LineSearch(random_vertex)), "without the owner's key for the inversion, not random_vertex"),
    ],
)
def test_what_cannot_be_undone_is_refused(defense, message):
    with pytest.raises(ValueError, match=message):
        invert_known_mad(np.eye(4, dtype=np.float32), np.zeros((4, 2, 2, 1), np.float32), defense)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: invert_mad(np.eye(3), epsilon=2.5), "epsilon must be at least 0 and at most 2 in L1, not 2.5"),
        (lambda: invert_mad(np.eye(3), epsilon=1.0, rounding=1.0), "rounding must be at least 0 and below 1, not 1.0"),
        (lambda: invert_mad(np.ones((2, 3)), epsilon=1.0), "must sum to one: 2 of 2"),
        (lambda: invert_known_mad(np.eye(3), np.zeros((2, 1, 3, 1)), _mad()), "as many: 2 and 3"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
