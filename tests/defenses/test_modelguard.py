"""ModelGuard: W's optimum against published numbers and an LP solver; S's memory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from pp_jax.defenses import ModelGuardS, ModelGuardW
from pp_jax.defenses.modelguard_lp import least_log_posterior
from pp_jax.serving.perturbation import perturb_sequence
from pp_jax.types import Query
from support import golden, hard_posteriors, quick

GOLDEN = golden("modelguard_w")
KEY = jax.random.key(3)
MARGIN = float(GOLDEN["delta"])


@jax.jit
def _answers(defense, probs):
    """ModelGuard-W's answers to a batch."""
    return jax.vmap(lambda y: defense(y, Query(jnp.zeros((1, 1, 1)), KEY)))(probs)


def _optimum(y, epsilon):
    """The least value of the linear program by HiGHS, or None where the ball does not hold the margin."""
    classes, top = len(y), int(y.argmax())
    eye, none = np.eye(classes), np.zeros((classes, classes))
    above = np.delete(eye, top, 0) - eye[top]
    rows = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, classes)), np.ones((1, classes))], [above, none[1:]]])
    limits = np.concatenate([y, -y, [epsilon], np.full(classes - 1, -MARGIN)])
    cost = np.concatenate([np.log(y + 1e-6), np.zeros(classes)])
    total = np.concatenate([np.ones(classes), np.zeros(classes)])[None]
    found = linprog(cost, rows, limits, total, [1.0], method="highs")
    return found.fun if found.status == 0 else None


@pytest.mark.parametrize("classes", [int(k) for k in GOLDEN["Ks"]])
def test_published_optimum_and_feasibility(classes):
    y, epsilons = GOLDEN[f"K{classes}/y"], GOLDEN["eps"]
    with jax.enable_x64(True):
        z = np.asarray(jax.vmap(lambda e: _answers(ModelGuardW(e), jnp.asarray(y)))(jnp.asarray(epsilons)))
    value = (z * np.log(y + float(GOLDEN["log_offset"]))).sum(-1)
    np.testing.assert_allclose(value, GOLDEN[f"K{classes}/lp_opt"], rtol=0, atol=1e-7)
    assert z.min() >= 0
    np.testing.assert_allclose(z.sum(-1), 1, atol=1e-9)
    assert (np.abs(z - y).sum(-1) <= epsilons[:, None] + 1e-9).all()
    top = np.arange(classes) == y.argmax(1)[:, None]
    assert ((z * top).sum(-1) - np.where(top, -1, z).max(-1) >= MARGIN - 1e-9).all()


@pytest.mark.parametrize("classes", quick([2, 5, 40], 1))
@given(seed=st.integers(0, 2**32 - 1), epsilon=st.sampled_from([5e-5, 1e-3, 0.05, 0.4, 1.0, 1.7, 2.0]))
def test_optimum_is_that_of_an_lp_solver(classes, seed, epsilon):
    rng = np.random.default_rng(seed)
    y = hard_posteriors(rng, 10, classes)[int(rng.integers(10))].astype(np.float64)
    y /= y.sum()
    with jax.enable_x64(True):
        z = np.asarray(jax.jit(least_log_posterior)(jnp.asarray(y), epsilon))
    expected = _optimum(y, epsilon)
    if expected is not None:
        np.testing.assert_allclose(z @ np.log(y + 1e-6), expected, rtol=0, atol=1e-6)
    else:
        # Only a posterior whose top two are closer than the margin can be beyond a small ball.
        assert np.diff(np.sort(y))[-1] < MARGIN
        z = np.asarray(_answers(ModelGuardW(epsilon), np.float32(y[None])))[0]
        assert z.argmax() == y.argmax()
    assert np.abs(z - y).sum() <= epsilon + (1e-9 if expected is not None else 1e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("classes", [2, 4, 10, 100])
def test_optimum_is_that_of_an_lp_solver_for_many_posteriors(classes):
    rng = np.random.default_rng(classes)
    y = hard_posteriors(rng, 400, classes).astype(np.float64)
    y /= y.sum(1, keepdims=True)
    for epsilon in (0.1, 0.9, 1.6):
        with jax.enable_x64(True):
            z = np.asarray(jax.jit(jax.vmap(least_log_posterior, (0, None)))(jnp.asarray(y), epsilon))
        expected = [_optimum(row, epsilon) for row in y]
        np.testing.assert_allclose((z * np.log(y + 1e-6)).sum(1), expected, rtol=0, atol=1e-6)


def test_optimum_is_met_where_the_value_has_many_kinks():
    # The whole budget and small classes of very different sizes: a fixed ten steps ended 5e-4 above the optimum.
    y = np.random.default_rng(0).dirichlet(np.full(100, 0.1), 16)
    z = np.asarray(_answers(ModelGuardW(2.0), np.float32(y)), np.float64)
    expected = [_optimum(row, 2.0) for row in y]
    np.testing.assert_allclose((z * np.log(y + 1e-6)).sum(1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("y", "epsilon", "expected"),
    [
        ([1, 0, 0, 0], 0.6, [0.7, 0.1, 0.1, 0.1]),
        ([0.9, 0.1], 0.4, [0.7, 0.3]),
        ([0.9, 0.1], 2.0, [0.50005, 0.49995]),
        ([0.5, 0.5], 1.0, [0.50005, 0.49995]),
        ([0.25, 0.25, 0.25, 0.25], 0.0, [0.25, 0.25, 0.25, 0.25]),
        ([0.6, 0.3, 0.1], 0.0, [0.6, 0.3, 0.1]),
    ],
)
def test_edge_cases(y, epsilon, expected):
    answer = np.asarray(_answers(ModelGuardW(epsilon), np.float32([y]))[0])
    np.testing.assert_allclose(answer, expected, atol=2e-6)
    assert answer.argmax() == np.argmax(y)


def _queries(count, classes, *, seed=0):
    """Posteriors of every hard kind and the images that they are told apart by."""
    rng = np.random.default_rng(seed)
    probs = hard_posteriors(rng, count, classes)[rng.permutation(count)]
    return probs, rng.random((count, 2, 2, 1), np.float32)


def test_memory_answers_are_within_the_budget_of_the_same_class_and_few():
    probs, images = _queries(300, 5)
    for epsilon, most in ((0.0, 300), (0.3, 120), (2.0, 5)):
        defense = ModelGuardS(epsilon, 5, candidates=50)
        answers, state = perturb_sequence(defense, defense.init(), probs, images, key=KEY)
        answers = np.asarray(answers, np.float64)
        assert np.isfinite(answers).all()
        assert (answers >= 0).all()
        assert np.abs(answers.sum(1) - 1).max() <= 1e-6
        assert np.abs(answers - probs).sum(1).max() <= epsilon + 1e-6
        np.testing.assert_array_equal(answers.argmax(1), probs.argmax(1))
        assert len(np.unique(answers, axis=0)) <= most
        assert (state.counts <= 64).all()


@pytest.mark.slow
def test_memory_does_not_depend_on_how_the_sequence_is_cut():
    probs, images = _queries(60, 4)
    defense = ModelGuardS(0.5, 4, candidates=20)
    whole, end = perturb_sequence(defense, defense.init(), probs, images, key=KEY)
    first, state = perturb_sequence(defense, defense.init(), probs[:30], images[:30], key=KEY)
    second, state = perturb_sequence(defense, state, probs[30:], images[30:], key=KEY)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    chex.assert_trees_all_equal(state, end)


@pytest.mark.slow
def test_memory_gives_a_repeated_query_the_same_answer_for_ever():
    probs, images = _queries(80, 4)
    for capacity in (1, 64):
        defense = ModelGuardS(0.2, 4, capacity=capacity, candidates=20)
        first, state = perturb_sequence(defense, defense.init(), probs, images, key=KEY)
        again, _ = perturb_sequence(defense, state, probs[::-1], images[::-1], key=KEY)
        np.testing.assert_array_equal(again[::-1], first)


def test_the_first_centroid_within_the_budget_is_answered_not_the_nearest():
    y = np.float32([[0.8, 0.2], [0.6, 0.4], [0.62, 0.38], [0.7, 0.3]])
    images = np.random.default_rng(0).random((4, 1, 1, 1), np.float32)
    defense = ModelGuardS(0.25, 2, candidates=0)
    answers, state = perturb_sequence(defense, defense.init(), y, images, key=KEY)
    np.testing.assert_allclose(answers, y[[0, 1, 1, 0]], rtol=1e-6)
    assert state.counts.tolist() == [2, 0]


def test_a_full_list_forgets_new_answers_and_keeps_the_old():
    y = np.float32([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1]])
    images = np.random.default_rng(0).random((3, 1, 1, 1), np.float32)
    defense = ModelGuardS(0.1, 2, capacity=1, candidates=0)
    answers, state = perturb_sequence(defense, defense.init(), y, images, key=KEY)
    np.testing.assert_allclose(answers, y, rtol=1e-6)
    np.testing.assert_allclose(state.points[0], y[:1], rtol=1e-6)


@pytest.mark.slow
def test_candidates_use_the_budget():
    y = np.full((1, 10), 0.05, np.float32) + np.float32(0.5) * np.eye(10, dtype=np.float32)[:1]
    image = np.zeros((1, 1, 1, 1), np.float32)
    spent = {}
    for candidates in (0, 1000):
        defense = ModelGuardS(0.3, 10, candidates=candidates)
        answer, _ = perturb_sequence(defense, defense.init(), y, image, key=KEY)
        spent[candidates] = float(np.abs(answer - y).sum())
    assert spent[0] <= 1e-6
    assert 0.27 <= spent[1000] <= 0.3 + 1e-6


@pytest.mark.slow
def test_another_budget_does_not_retrace_and_x64_and_bfloat16_work():
    probs, images = _queries(20, 4)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def answered(defense):
        return jax.lax.scan(lambda s, y: defense(y, Query(images[0], KEY), s)[::-1], defense.init(), probs)[1]

    for epsilon in (0.1, 0.5, 1.0):
        answered(ModelGuardS(jnp.float32(epsilon), 4, candidates=10))
    half = ModelGuardS(0.5, 4, candidates=10)
    answers, _ = perturb_sequence(half, half.init(), jnp.asarray(probs, jnp.bfloat16), images, key=KEY)
    assert answers.dtype == jnp.float32
    with jax.enable_x64(True):
        for dtype in (np.float32, np.float64):
            answers, _ = perturb_sequence(half, half.init(), probs.astype(dtype), images, key=jax.random.key(3))
            assert answers.dtype == dtype


def test_what_does_not_fit_is_refused():
    probs, images = _queries(5, 4)
    defense = ModelGuardS(0.5, 4)
    with pytest.raises(ValueError, match="ModelGuardS draws random numbers: it needs key"):
        perturb_sequence(defense, defense.init(), probs, images)
    with pytest.raises(ValueError, match="posteriors must not be negative: 5 of 5"):
        perturb_sequence(defense, defense.init(), probs - 2, images, key=KEY)
    with pytest.raises(ValueError, match="posteriors and images must be as many: 5 and 4"):
        perturb_sequence(defense, defense.init(), probs, images[:4], key=KEY)
    with pytest.raises(ValueError, match="num_classes is 3, but the posterior has 4 classes"):
        perturb_sequence(ModelGuardS(0.5, 3), ModelGuardS(0.5, 3).init(), probs, images, key=KEY)
    for make, message in [
        (lambda: ModelGuardW(2.5), "epsilon must be at least 0 and at most 2 in L1, not 2.5"),
        (lambda: ModelGuardS(-0.5, 4), "epsilon must be at least 0 and at most 2 in L1, not -0.5"),
        (lambda: ModelGuardS(0.5, 1), "num_classes must be a whole number of at least 2, not 1"),
        (lambda: ModelGuardS(0.5, 4, capacity=0), "capacity must be a whole number of at least 1, not 0"),
        (lambda: ModelGuardS(0.5, 4, candidates=-1), "candidates must be a whole number of at least 0, not -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
