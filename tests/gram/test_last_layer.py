"""The closed form of the last layer, and the questions that every Gram operator answers."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from pp_jax import gram
from pp_jax.gram import Dense, LastLayer, as_operator
from support import linear_logits, linear_params


def _posterior(seed, classes):
    return jnp.asarray(np.random.default_rng(seed).dirichlet(np.ones(classes)), jnp.float32)


@jax.jit
def _questions(operator, v):
    """What an operator answers to every question, about one vector."""
    return operator.apply(v), operator.quadratic(v), operator.diagonal(), operator.column(v.size - 1)


_matrix = jax.jit(lambda operator: operator.matrix())


@given(st.integers(0, 2**32), st.sampled_from([2, 3, 10, 40]))
def test_mp_is_zero(seed, classes):
    p = _posterior(seed, classes)
    applied, square, *_ = _questions(LastLayer(p), p)
    np.testing.assert_allclose(applied, 0, atol=1e-6)
    np.testing.assert_allclose(square, 0, atol=1e-12)


@pytest.mark.slow
@given(st.integers(0, 2**32), st.sampled_from([2, 5, 31]), st.floats(0.1, 10))
def test_last_layer_answers_as_its_matrix(seed, classes, scale):
    operator = LastLayer(_posterior(seed, classes), scale)
    dense = Dense(_matrix(operator))
    v = np.random.default_rng(seed).normal(size=classes).astype(np.float32)
    near = {"rtol": 1e-4, "atol": 1e-4 * scale * float(1 + np.abs(v).sum()) ** 2}
    for closed, stored in zip(_questions(operator, v), _questions(dense, v), strict=True):
        np.testing.assert_allclose(closed, stored, **near)
    np.testing.assert_allclose(np.asarray(operator), jnp.asarray(operator), rtol=0)


def test_last_layer_is_the_jacobian_of_the_last_layer():
    params = linear_params(jax.random.key(0), 9, 5)
    image = jax.random.uniform(jax.random.key(1), (3, 3, 1))
    closed = gram.last_layer(linear_logits, params, image, features_fn=lambda params, image: image.ravel(), bias=True)
    reference = jax.jit(gram.jacobian, static_argnums=0)(linear_logits, params, image)
    np.testing.assert_allclose(_matrix(closed), reference, rtol=1e-4, atol=1e-5)
    unscaled = gram.last_layer(linear_logits, params, image)
    assert unscaled.scale == 1
    np.testing.assert_array_equal(unscaled.p, closed.p)


def test_identity_asks_nothing_of_the_surrogate():
    def logits(params, image):
        return jnp.full(4, jnp.nan) * image.sum()

    operator = gram.identity(logits, None, jnp.zeros((2, 2, 1)))
    np.testing.assert_array_equal(operator.matrix(), np.eye(4))


def test_half_precision_surrogates_are_widened():
    params = jax.tree.map(lambda w: w.astype(jnp.bfloat16), linear_params(jax.random.key(0), 4, 3))
    operator = gram.last_layer(linear_logits, params, jnp.ones((2, 2, 1), jnp.bfloat16))
    assert operator.p.dtype == jnp.float32


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 4)), r"square, \(K, K\), not \(3, 4\)"),
        (np.zeros(3), r"square, \(K, K\), not \(3,\)"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "finite"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "symmetric, but M and its transpose differ by 2"),
    ],
)
def test_a_matrix_that_is_no_gram_matrix_is_refused(matrix, message):
    with pytest.raises(ValueError, match=message):
        as_operator(matrix)


def test_an_operator_passes_and_a_matrix_is_wrapped():
    operator = LastLayer(_posterior(0, 3))
    assert as_operator(operator) is operator
    assert isinstance(as_operator(jnp.eye(3)), Dense)


def test_a_stack_of_posteriors_gives_a_stack_of_matrices():
    p = jnp.array([[0.2, 0.3, 0.5], [0.999, 0.0006, 0.0004]])
    one_by_one = [LastLayer(row, scale).matrix() for row, scale in zip(np.asarray(p), (1.0, 2.0), strict=True)]
    np.testing.assert_array_equal(LastLayer(p, jnp.array([1.0, 2.0])).matrix(), one_by_one)
    np.testing.assert_array_equal(np.asarray(LastLayer(p)), LastLayer(p).matrix())


@pytest.mark.parametrize("sharpness", [0, 1, 4, 16])
def test_nothing_cancels_where_the_posterior_is_nearly_one_hot(sharpness):
    scores = np.exp(sharpness * np.random.default_rng(0).normal(size=(200, 10)))
    p = np.float32(scores / scores.sum(1, keepdims=True)).astype(np.float64)
    exact = (np.eye(10) - p[:, None]) @ (np.eye(10) - p[:, None]).swapaxes(1, 2)
    operator = LastLayer(jnp.asarray(p, jnp.float32))
    squares = np.einsum("nkk->nk", exact)
    np.testing.assert_allclose(np.einsum("nkk->nk", _matrix(operator)), squares, rtol=1e-6)
    diagonals = jax.jit(jax.vmap(lambda p: LastLayer(p).diagonal()))(operator.p)
    np.testing.assert_allclose(diagonals, squares, rtol=1e-6)
