"""EMMA: one matrix for all queries, and that what is learned misleads a student."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import perturb
from pp_jax.defenses import EMMA, emma
from support import blobs, broken_promises, hard_posteriors, linear_logits, linear_params, linear_posteriors

KEY = jax.random.key(0)
MATRIX = np.float32([[0.7, 0.2, 0.1], [0.05, 0.6, 0.35], [0.3, 0.3, 0.4]])


def test_a_response_is_the_product_with_the_matrix():
    probs = hard_posteriors(np.random.default_rng(0), 300, 3)
    found = np.asarray(perturb(EMMA(MATRIX), probs, np.zeros((300, 2, 2, 1), np.float32)))
    np.testing.assert_allclose(found, probs.astype(np.float64) @ MATRIX, atol=1e-6)
    counts = broken_promises(probs, found, np.full(300, 2, np.float32), distance="L1", keep_argmax=False)
    assert not any(counts.values()), counts
    for weight, expected in ((0.0, probs), (0.5, probs @ (np.eye(3) + MATRIX) / 2)):
        found = perturb(EMMA(MATRIX, weight), probs, np.zeros((300, 2, 2, 1), np.float32))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def _surrogate():
    """A linear surrogate that knows the blobs, their images, and posteriors of a victim."""
    images, labels = blobs(1, 256)
    params = linear_params(KEY, 36, 4, scale=0.01)

    def loss(params):
        return -jnp.mean(jnp.log(linear_posteriors(params, images)[jnp.arange(256), labels]))

    step = jax.jit(lambda p: jax.tree.map(lambda w, g: w - 2 * g, p, jax.grad(loss)(p)))
    for _ in range(60):
        params = step(params)
    return params, images, np.asarray(linear_posteriors(params, images)), labels


@pytest.fixture(scope="module")
def learned():
    params, images, probs, labels = _surrogate()
    matrix = emma.learn(KEY, linear_logits, params, images, probs, keep=0.9, step=1.0, passes=20, tolerance=0.0)
    return params, images, probs, labels, np.asarray(matrix)


@pytest.mark.slow
def test_what_is_learned_is_a_row_stochastic_matrix_that_keeps_the_top_class(learned):
    _, _, probs, _, matrix = learned
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)
    assert (matrix >= 0).all()
    assert np.trace(matrix) < 3.9  # it has moved from the identity
    assert ((probs @ matrix).argmax(1) == probs.argmax(1)).mean() > 0.9


@pytest.mark.slow
def test_a_student_that_takes_a_step_on_the_responses_is_less_sure_of_the_victims_class(learned):
    params, images, probs, _, matrix = learned

    def objective(matrix):
        return float(emma.objective(matrix, params, images, probs, 0.0, 1.0, network=linear_logits))

    assert objective(jnp.asarray(matrix)) < objective(jnp.eye(4)) - 0.01


def test_the_objective_is_that_by_hand():
    params, images, probs, _ = _surrogate()
    matrix = np.full((4, 4), 0.1, np.float32) + 0.6 * np.eye(4, dtype=np.float32)
    pixels, weights = images.reshape(256, -1).astype(np.float64), np.asarray(params["params"]["kernel"], np.float64)
    bias = np.asarray(params["params"]["bias"], np.float64)

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    rest = (softmax(pixels @ weights + bias) - probs @ matrix) / 256
    after = softmax(pixels @ (weights - 0.5 * pixels.T @ rest) + bias - 0.5 * rest.sum(0))
    top = probs.argmax(1)
    harm = -np.log(1.000001 - after[np.arange(256), top]).mean()
    kept = -np.log((probs @ matrix)[np.arange(256), top]).mean()
    found = emma.objective(jnp.asarray(matrix), params, images, probs, 0.3, 0.5, network=linear_logits)
    np.testing.assert_allclose(found, 0.3 * kept + 0.7 * harm, rtol=1e-3)


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="weight must be at least 0 and at most 1, not 2"):
        EMMA(MATRIX, 2.0)
    for bad in (MATRIX[:2], 2 * MATRIX, -MATRIX):
        with pytest.raises(ValueError, match=r"transitions must be .* with rows on the simplex"):
            EMMA(bad)
    with pytest.raises(ValueError, match="transitions are of 3 classes, the posterior has 4"):
        perturb(EMMA(MATRIX), np.full((1, 4), 0.25, np.float32), np.zeros((1, 2, 2, 1), np.float32))
    images, probs = np.zeros((2, 6, 6, 1), np.float32), np.full((3, 4), 0.25, np.float32)
    with pytest.raises(ValueError, match="as many, at least 1: 2 and 3"):
        emma.learn(KEY, linear_logits, None, images, probs)
    with pytest.raises(ValueError, match="keep must be at least 0 and at most 1, not 2"):
        emma.learn(KEY, linear_logits, None, images, probs[:2], keep=2.0)
    with pytest.raises(ValueError, match="passes must be a whole number of at least 1, not 0"):
        emma.learn(KEY, linear_logits, None, images, probs[:2], passes=0)
