"""The compiled edge around a defense: what retraces, what composes, and that an answer belongs to its image alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, RandomNoise, ReverseSigmoid, chain, perturb
from pp_jax.types import Query
from support import linear_logits, linear_params

SIDE, CLASSES = 4, 5
PARAMS = linear_params(jax.random.key(0), SIDE * SIDE, CLASSES)


def _queries(count=6):
    """Posteriors (B, K) and images (B, H, W, C)."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(CLASSES), count).astype(np.float32)
    return jnp.asarray(probs), jnp.asarray(rng.random((count, SIDE, SIDE, 1)), jnp.float32)


def test_four_budgets_and_other_weights_are_one_trace():
    probs, images = _queries()
    # One abstract evaluation of the network is one trace of `perturb`.
    surrogate = chex.assert_max_traces(linear_logits, n=1)
    for epsilon in (0.1, 0.5, 0.99, 1.5):
        perturb(MAD(surrogate, PARAMS, epsilon), probs, images)
    other = jax.tree.map(lambda w: w + 1, PARAMS)
    perturb(MAD(surrogate, other, 0.3), probs, images)


def test_another_beta_does_not_retrace():
    probs, images = _queries()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def answers(defense):
        return perturb(defense, probs, images)

    for beta in (0.1, 0.5, 1.0):
        answers(ReverseSigmoid(beta))


def test_vmap_of_the_budget_axis_over_the_defense_equals_a_loop():
    probs, images = _queries()
    budgets = jnp.array([0.1, 0.5, 0.99, 1.5])
    defense = MAD(linear_logits, PARAMS, budgets)
    axes = MAD(linear_logits, None, 0)
    at_once = jax.vmap(lambda d: perturb(d, probs, images), (axes,))(defense)
    looped = [perturb(MAD(linear_logits, PARAMS, e), probs, images) for e in budgets]
    np.testing.assert_allclose(at_once, jnp.stack(looped), atol=1e-7)


def test_batch_size_bounds_memory_and_changes_nothing():
    probs, images = _queries(7)
    defense = MAD(linear_logits, PARAMS, 0.5)
    whole = perturb(defense, probs, images)
    np.testing.assert_allclose(perturb(defense, probs, images, batch_size=3), whole, atol=1e-7)


def test_the_same_query_gives_the_same_answer_whatever_else_is_in_its_batch():
    # The sense: the same compiled program, so the same batch shape; other contents, other position.
    probs, images = _queries(6)
    defense, key = chain(MAD(linear_logits, PARAMS, 0.5), RandomNoise(2.0)), jax.random.key(7)
    answers = perturb(defense, probs, images, key=key)
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_array_equal(perturb(defense, probs[order], images[order], key=key), answers[order])
    others = images.at[1:].set(0.25), probs.at[1:].set(1 / CLASSES)
    np.testing.assert_array_equal(perturb(defense, others[1], others[0], key=key)[0], answers[0])


def test_averaging_repeated_queries_gains_nothing():
    probs, images = _queries(1)
    repeated = perturb(RandomNoise(3.0), jnp.repeat(probs, 50, 0), jnp.repeat(images, 50, 0), key=jax.random.key(1))
    repeated = np.asarray(repeated)
    assert (repeated == repeated[0]).all()
    assert np.abs(repeated.mean(0) - probs[0]).max() > 1e-3


def test_another_key_or_another_image_gives_other_noise():
    probs, images = _queries(1)
    first = perturb(RandomNoise(3.0), probs, images, key=jax.random.key(1))
    assert (first != perturb(RandomNoise(3.0), probs, images, key=jax.random.key(2))).any()
    nudged = images.at[0, 0, 0, 0].add(1e-4)
    assert (first != perturb(RandomNoise(3.0), probs, nudged, key=jax.random.key(1))).any()


def test_perturb_works_under_jit_vmap_and_grad():
    probs, images = _queries(4)
    defense = MAD(linear_logits, PARAMS, 0.5)
    answers = perturb(defense, probs, images)
    np.testing.assert_allclose(jax.jit(perturb)(defense, probs, images), answers, atol=1e-7)
    stacked = jax.vmap(lambda y, x: perturb(defense, y, x))(probs[None], images[None])
    np.testing.assert_allclose(stacked[0], answers, atol=1e-7)
    gradient = jax.grad(lambda y: perturb(defense, y, images)[:, 0].sum())(probs)
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_half_precision_posteriors_and_images_get_float32_answers(dtype):
    probs, images = _queries()
    answers = perturb(MAD(linear_logits, PARAMS, 0.5), probs.astype(dtype), images.astype(dtype))
    assert answers.dtype == jnp.float32
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)


def test_float64_posteriors_get_float64_answers():
    probs, images = _queries()
    with jax.enable_x64(True):
        wide = jnp.asarray(np.asarray(probs, np.float64))
        assert perturb(MAD(linear_logits, PARAMS, 0.5), wide, images).dtype == jnp.float64


def test_uint8_images_are_accepted():
    probs, images = _queries()
    pixels = (images * 255).astype(jnp.uint8)
    answers = perturb(chain(MAD(linear_logits, PARAMS, 0.5), RandomNoise(1.0)), probs, pixels, key=jax.random.key(0))
    assert np.isfinite(answers).all()


PROBS, IMAGES = _queries(2)


@pytest.mark.parametrize(
    ("probs", "images", "message"),
    [
        (PROBS.at[0, 0].set(jnp.nan), IMAGES, "must be finite: 1 of 2 rows"),
        (PROBS.at[0, 0].set(-0.5), IMAGES, "must not be negative: 1 of 2 rows"),
        (PROBS * 1.1, IMAGES, "must sum to one: 2 of 2 rows"),
        (PROBS[0], IMAGES, r"shape \(B, K\) with K ≥ 2, not \(5,\)"),
        (PROBS[:1], IMAGES, "as many: 1 and 2"),
        (PROBS, IMAGES[0], r"shape \(B, H, W, C\) with B ≥ 1, not \(4, 4, 1\)"),
        (PROBS, IMAGES[:0], r"B ≥ 1, not \(0, 4, 4, 1\)"),
        (PROBS, IMAGES * 255, r"must be in \[0, 1\]: 2 of 2 are not"),
        (PROBS, IMAGES - 1, r"must be in \[0, 1\]: 2 of 2 are not"),
        (PROBS, (IMAGES * 255).astype(jnp.int32), r"uint8 or floating point in \[0, 1\], not int32"),
    ],
)
def test_bad_questions_are_refused_by_name(probs, images, message):
    with pytest.raises(ValueError, match=message):
        perturb(MAD(linear_logits, PARAMS, 0.5), probs, images)


def test_a_surrogate_with_another_number_of_classes_is_refused():
    params = linear_params(jax.random.key(0), SIDE * SIDE, 7)
    with pytest.raises(ValueError, match="the surrogate knows 7 classes, the victim's posterior has 5"):
        perturb(MAD(linear_logits, params, 0.5), PROBS, IMAGES)


def test_a_random_defense_needs_a_key():
    for defense in (RandomNoise(1.0), chain(ReverseSigmoid(0.5), RandomNoise(1.0))):
        with pytest.raises(ValueError, match=r"needs key=jax.random.key\(…\), not None"):
            perturb(defense, PROBS, IMAGES)


def test_a_defense_alone_is_a_pure_function_of_one_posterior():
    defense = MAD(linear_logits, PARAMS, 0.5)
    answer = jax.jit(lambda y, x, k: defense(y, Query(x, k)))(PROBS[0], IMAGES[0], jax.random.key(0))
    np.testing.assert_allclose(answer, perturb(defense, PROBS, IMAGES)[0], atol=1e-6)
