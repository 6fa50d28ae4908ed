"""The prediction API: answers and audit, composition, and a budget counted to the single query."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, BlackBox, RandomNoise, models
from pp_jax.serving.blackbox import BudgetExhausted, Metered
from support import linear_logits, linear_params

PARAMS = linear_params(jax.random.key(0), 16, 5)
IMAGES = jax.random.uniform(jax.random.key(1), (6, 4, 4, 1))


def test_without_a_defense_the_answer_is_the_clean_posterior():
    answers, audit = BlackBox(linear_logits, PARAMS)(IMAGES)
    np.testing.assert_array_equal(answers, audit.probs)
    expected = jax.nn.softmax(jax.vmap(linear_logits, (None, 0))(PARAMS, IMAGES))
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_the_attacker_is_only_given_the_answer():
    box = BlackBox(linear_logits, PARAMS, MAD(linear_logits, PARAMS, 0.5))
    answers, audit = box(IMAGES)
    np.testing.assert_array_equal(box.api()(IMAGES), answers)
    assert (jnp.abs(answers - audit.probs).sum(1) > 0.1).all()


def test_another_budget_or_other_weights_do_not_retrace():
    victim = chex.assert_max_traces(linear_logits, n=1)
    for epsilon in (0.1, 0.5, 0.99, 1.5):
        BlackBox(victim, PARAMS, MAD(linear_logits, PARAMS, epsilon))(IMAGES)
    BlackBox(victim, jax.tree.map(jnp.zeros_like, PARAMS), MAD(linear_logits, PARAMS, 0.5))(IMAGES)


def test_the_same_query_gives_the_same_answer_whatever_else_is_in_its_batch():
    # The sense: the same batch shape, hence the same program; bitwise, through a convolutional victim and surrogate.
    network = models.lenet()
    init = jax.jit(network.init, static_argnums=1)
    victim, surrogate = (init(jax.random.key(i), (16, 16, 1)) for i in (0, 1))
    box = BlackBox(network, victim, MAD(network, surrogate, 0.5))
    images = jnp.asarray(np.random.default_rng(2).random((4, 16, 16, 1)), jnp.float32)
    answers = box(images)[0]
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(box(images[order])[0], answers[order])
    np.testing.assert_array_equal(box(images.at[1:].set(0.5))[0][0], answers[0])


def test_a_repeated_image_gets_the_same_noise():
    box = BlackBox(linear_logits, PARAMS, RandomNoise(3.0), key=jax.random.key(3))
    answers = box(jnp.concatenate([IMAGES, IMAGES[:1]]))[0]
    np.testing.assert_array_equal(answers[0], answers[-1])
    other = BlackBox(linear_logits, PARAMS, RandomNoise(3.0), key=jax.random.key(4))(IMAGES)[0]
    assert (other != answers[:-1]).any(axis=1).all()


def test_black_box_works_under_jit_vmap_and_grad_through_the_victim():
    box = BlackBox(linear_logits, PARAMS, MAD(linear_logits, PARAMS, 0.5))
    answers = box(IMAGES)[0]
    np.testing.assert_allclose(jax.jit(lambda b, x: b(x)[0])(box, IMAGES), answers, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: box(x)[0])(IMAGES[None])[0], answers, atol=1e-6)
    gradient = jax.grad(lambda x: box(x)[0][:, 0].sum())(IMAGES)
    assert gradient.shape == IMAGES.shape
    assert np.isfinite(gradient).all()
    assert (gradient != 0).any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.uint8])
def test_images_of_other_dtypes_are_answered_in_float32(dtype):
    images = (IMAGES * 255).astype(dtype) if dtype == jnp.uint8 else IMAGES.astype(dtype)
    answers, _ = BlackBox(linear_logits, PARAMS, MAD(linear_logits, PARAMS, 0.5))(images)
    assert answers.dtype == jnp.float32
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-6)


def test_float64_victims_answer_in_float64():
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda w: jnp.asarray(np.asarray(w), jnp.float64), PARAMS)
        assert BlackBox(linear_logits, wide, MAD(linear_logits, PARAMS, 0.5))(IMAGES)[0].dtype == jnp.float64


def test_batch_size_bounds_memory_and_changes_nothing():
    whole = BlackBox(linear_logits, PARAMS)(IMAGES)[0]
    np.testing.assert_allclose(BlackBox(linear_logits, PARAMS, batch_size=4)(IMAGES)[0], whole, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"shape \(B, H, W, C\) with B ≥ 1, not \(4, 4, 1\)"),
        (IMAGES * 2, r"must be in \[0, 1\]: 6 of 6 are not"),
        (IMAGES.at[0].set(jnp.nan), r"must be in \[0, 1\]: 1 of 6 are not"),
        (IMAGES.astype(jnp.int32), "not int32"),
    ],
)
def test_bad_images_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        BlackBox(linear_logits, PARAMS)(images)


def test_a_random_defense_needs_a_key_and_a_surrogate_the_victims_classes():
    with pytest.raises(ValueError, match="RandomNoise draws random numbers"):
        BlackBox(linear_logits, PARAMS, RandomNoise(1.0))(IMAGES)
    other = linear_params(jax.random.key(0), 16, 3)
    with pytest.raises(ValueError, match="the surrogate knows 3 classes, the victim's posterior has 5"):
        BlackBox(linear_logits, PARAMS, MAD(linear_logits, other, 0.5))(IMAGES)


def test_the_budget_is_counted_to_the_single_query():
    seen = []
    meter = Metered(lambda images: seen.append(len(images)) or images, 5)
    meter(np.zeros((3, 1)))
    assert (meter.spent, meter.left) == (3, 2)
    with pytest.raises(BudgetExhausted, match="3 queries asked, but 2 of the budget of 5 remain"):
        meter(np.zeros((3, 1)))
    assert (meter.spent, seen) == (3, [3])
    meter(np.zeros((2, 1)))
    assert meter.left == 0


def test_a_failing_api_has_still_seen_the_images():
    def broken(images):
        raise ConnectionError("gone")

    meter = Metered(broken, 5)
    with pytest.raises(ConnectionError):
        meter(np.zeros((2, 1)))
    assert meter.spent == 2


@pytest.mark.parametrize("budget", [0, -3, 1.5, "10"])
def test_a_budget_that_is_no_positive_whole_number_is_refused(budget):
    with pytest.raises(ValueError, match=rf"whole number of at least 1, not {budget!r}"):
        Metered(lambda images: images, budget)
