"""What all of the later defenses promise: feasible answers, one trace, batches, chains, every precision."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import ReverseSigmoid, TopK, chain, perturb, simplex
from pp_jax._checks import check_key
from pp_jax.defenses import BDPL, DCP, EDM, GRAD2, AdaptiveMisinformation, HighConfidence, KeyedSwap, ModelGuardW
from pp_jax.types import Query
from support import broken_promises, budgets, golden, hard_posteriors, quick, surrogate_logits

TRUNCATION = golden("truncation")
KEY = jax.random.key(0)
CLASSES = 6


def _shifted(params, image):
    """A network whose logits are the image, moved by its parameters."""
    return image.ravel() + params


def _grad2(epsilon, classes, *, keep_argmax=False):
    """A surrogate whose posterior is given by the image, and a fixed direction that tells its classes apart."""
    direction = jnp.cos(3 * jnp.arange(classes))
    return GRAD2(_shifted, jnp.zeros(classes), epsilon, direction, keep_argmax=keep_argmax)


# Makes a defense of a budget, for K classes; the second entry says whether it keeps the top class.
WITHIN_A_BUDGET = {
    "GRAD2": (_grad2, False),
    "GRAD2, keep_argmax": (functools.partial(_grad2, keep_argmax=True), True),
    "GRAD2, minimum inner product": (lambda e, k: GRAD2(_shifted, jnp.zeros(k), e), False),
    "ModelGuardW": (lambda e, k: ModelGuardW(e), True),
}
# Makes a defense of K classes from one number in (0, 1], and whether it keeps the top class.
OTHERS = {
    "AdaptiveMisinformation": (lambda x, k: AdaptiveMisinformation(_shifted, jnp.zeros(k), x), False),
    "BDPL": (lambda x, k: BDPL(x, 1.0), False),
    "DCP": (lambda x, k: DCP(x), False),
    "EDM": (lambda x, k: EDM(_shifted, x * jnp.arange(3.0 * k).reshape(3, k)), False),
    "HighConfidence": (lambda x, k: HighConfidence(x), True),
    "KeyedSwap": (lambda x, k: KeyedSwap(None, jnp.arange(k)[::-1], 1.0, x), False),
}
ALL = {name: make for name, (make, _) in (WITHIN_A_BUDGET | OTHERS).items()}
ROWS = {2: 1500, 10: 3000, 40: 400}
SLOW_ROWS = {2: 60_000, 3: 60_000, 10: 60_000, 17: 20_000, 100: 10_000, 1000: 500}


@functools.partial(jax.jit, static_argnames="name")
def _answers(probs, logits, number, keys, *, name):
    """Answers, one budget (or other number) and one network's posterior a row."""

    def one(y, z, x, k):
        return ALL[name](x, y.shape[-1])(y, Query(z[:, None, None], k))

    return jax.vmap(one)(probs, logits, number, keys)


def _count(name, classes, rows, *, dtype=np.float32):
    """The rows that break each promise."""
    rng = np.random.default_rng([classes, rows])
    probs = hard_posteriors(rng, rows, classes)[rng.permutation(rows)]
    number = budgets(rng, rows, 2.0) if name in WITHIN_A_BUDGET else rng.uniform(0.01, 1, rows).astype(np.float32)
    given, keys = jnp.asarray(probs, dtype), jax.random.split(jax.random.key(classes), rows)
    answers = np.asarray(_answers(given, surrogate_logits(rng, probs), number, keys, name=name))
    clean = np.asarray(simplex.working(given)) if dtype == jnp.bfloat16 else np.asarray(given)
    limit = number if name in WITHIN_A_BUDGET else 2 * number if name == "BDPL" else np.full(rows, np.inf)
    kept = (WITHIN_A_BUDGET | OTHERS)[name][1]
    return broken_promises(clean, answers, limit, distance="L1", keep_argmax=kept)


@pytest.mark.parametrize("name", quick(ALL, *(i for i, name in enumerate(ALL) if name != "GRAD2, keep_argmax")))
def test_guarantees(name):
    for classes, rows in ROWS.items():
        counts = _count(name, classes, rows)
        assert counts == dict.fromkeys(counts, 0), classes


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ALL)
def test_guarantees_for_many_posteriors(name):
    for classes, rows in SLOW_ROWS.items():
        counts = _count(name, classes, rows)
        assert counts == dict.fromkeys(counts, 0), classes


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_guarantees_with_bfloat16_posteriors(name):
    counts = _count(name, CLASSES, 1000, dtype=jnp.bfloat16)
    assert counts == dict.fromkeys(counts, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_guarantees_with_float64_posteriors(name):
    with jax.enable_x64(True):
        counts = _count(name, CLASSES, 1000, dtype=np.float64)
    assert counts == dict.fromkeys(counts, 0)


@pytest.mark.parametrize("name", WITHIN_A_BUDGET)
def test_epsilon_zero_returns_y(name):
    rng = np.random.default_rng(3)
    probs = hard_posteriors(rng, 1500, 10)
    keys = jax.random.split(KEY, 1500)
    answers = _answers(probs, surrogate_logits(rng, probs), np.zeros(1500, np.float32), keys, name=name)
    np.testing.assert_allclose(answers, probs, rtol=6e-7, atol=2e-38)


@pytest.mark.parametrize("name", ALL)
def test_another_number_does_not_retrace(name):
    rng = np.random.default_rng(0)
    y = rng.dirichlet(np.ones(CLASSES)).astype(np.float32)
    query = Query(jnp.asarray(surrogate_logits(rng, y[None])[0])[:, None, None], KEY)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def answer(defense):
        return defense(y, query)

    answers = [np.asarray(answer(ALL[name](x, CLASSES))) for x in jnp.float32([0.01, 0.5, 0.9])]
    assert name in ("BDPL", "KeyedSwap") or any((a != answers[0]).any() for a in answers)


def test_all_compose_in_one_chain():
    rng = np.random.default_rng(0)
    probs = hard_posteriors(rng, 400, CLASSES)
    images = rng.random((400, CLASSES, 1, 1), np.float32)
    links = [make(0.4, CLASSES) for make in ALL.values()]
    whole = chain(ReverseSigmoid(0.3), *links, TopK(4))
    assert whole.random
    answers = np.asarray(perturb(whole, probs, images, key=KEY))
    counts = broken_promises(probs, answers, np.float32([np.inf]), distance="L1", keep_argmax=False)
    assert counts == dict.fromkeys(counts, 0)
    np.testing.assert_array_equal(perturb(whole, probs, images, key=KEY), answers)


@pytest.mark.parametrize("name", ALL)
def test_only_the_random_ones_ask_for_a_key(name):
    defense = ALL[name](0.5, CLASSES)
    assert defense.random == (name in ("BDPL", "EDM", "KeyedSwap"))
    if defense.random:
        with pytest.raises(ValueError, match="it needs key"):
            check_key(defense, None)
    else:
        check_key(defense, None)


@pytest.mark.parametrize("key", [k for k in TRUNCATION if "/art_high_confidence/" in k])
def test_the_cut_off_is_exactly_the_published_one(key):
    y = TRUNCATION[f"{key.split('/')[0]}/y"]
    defense = HighConfidence(float(key.split("=")[1]), renormalise=False)
    with jax.enable_x64(True):
        found = jax.vmap(lambda row: defense(row, Query(jnp.zeros((1, 1, 1)), KEY)))(jnp.asarray(y))
        np.testing.assert_array_equal(np.asarray(found), TRUNCATION[key])


def test_deceptive_perturbation_is_a_reverse_sigmoid_below_the_threshold_and_nothing_above():
    query = Query(jnp.zeros((1, 1, 1)), KEY)
    low, high = jnp.float32([0.35, 0.33, 0.32]), jnp.float32([0.8, 0.15, 0.05])
    np.testing.assert_allclose(DCP(0.6)(low, query), ReverseSigmoid(0.6)(low, query), atol=1e-6)
    np.testing.assert_allclose(DCP(0.6)(high, query), high, atol=1e-6)
    # At the threshold, half of it: y − β/2 [σ(γ logit y) − ½], normalised.
    y = np.float64([0.5, 0.3, 0.2])
    half = y - 0.25 * (1 / (1 + (y / (1 - y)) ** -0.2) - 0.5)
    np.testing.assert_allclose(DCP(0.5)(jnp.float32(y), query), half / half.sum(), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DCP(1.5), "beta must be at least 0 and at most 1, not 1.5"),
        (lambda: DCP(0.5, 0.0), "gamma must be above 0 and at most 1, not 0"),
        (lambda: DCP(0.5, nu=-1.0), "nu must be at least 0 and at most 1e\\+15, not -1"),
        (lambda: HighConfidence(-0.1), "cutoff must be at least 0 and at most 1, not -0.1"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()
