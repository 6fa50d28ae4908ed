"""Distillation at a temperature: its value and gradient against NumPy, its limits, and what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from pp_jax.training import Recipe, SoftCrossEntropy, Tempered, fit
from pp_jax.training.contracts import LabelledLoss
from support import Linear, blobs, linear_logits

NETWORK = Linear(4)
IMAGES = np.random.default_rng(0).random((6, 3, 3, 1)).astype(np.float32)
TARGETS = np.random.default_rng(1).dirichlet(np.ones(4), 6).astype(np.float32)
PARAMS = jax.tree.map(lambda leaf: leaf + 0.1, NETWORK.init(jax.random.key(0), (3, 3, 1)))


def gradient(loss, targets=TARGETS):
    return jax.grad(lambda params: loss(NETWORK, params, IMAGES, targets, None, None)[0])(PARAMS)["params"]["kernel"]


def logits():
    return np.asarray(jax.vmap(linear_logits, (None, 0))(PARAMS, IMAGES), np.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 100.0])
def test_the_value_is_that_of_numpy(temperature):
    wanted = log_softmax(np.log(TARGETS.astype(float)) / temperature, axis=1)
    found = log_softmax(logits() / temperature, axis=1)
    value = temperature**2 * (np.exp(wanted) * (wanted - found)).sum(axis=1).mean()
    got, _ = Tempered(temperature)(NETWORK, PARAMS, IMAGES, TARGETS, None, None)
    np.testing.assert_allclose(got, value, rtol=0.02)


def test_at_temperature_one_it_is_soft_cross_entropy():
    np.testing.assert_allclose(gradient(Tempered(1.0)), gradient(SoftCrossEntropy()), atol=1e-5)


def test_at_a_high_temperature_it_is_a_regression_of_centred_logits():
    wanted = np.log(TARGETS.astype(float))
    apart = logits() - wanted
    apart -= apart.mean(axis=1, keepdims=True)
    regression = np.einsum("bp,bk->pk", IMAGES.reshape(6, -1), apart) / (6 * 4)
    np.testing.assert_allclose(gradient(Tempered(100.0)), regression, atol=0.02)


def test_zeros_and_labels_have_a_floor():
    labels = gradient(Tempered(100.0), np.array([0, 1, 2, 3, 0, 1]))
    np.testing.assert_allclose(labels, gradient(Tempered(100.0), np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]))
    assert np.isfinite(labels).all()


def test_improbable_classes_are_learnt_as_well():
    images, _ = blobs(3, 160)
    teacher = {"params": {"kernel": 4 * jax.random.normal(jax.random.key(5), (36, 4)), "bias": jnp.zeros(4)}}
    wanted = np.asarray(jax.vmap(linear_logits, (None, 0))(teacher, images))
    targets = np.asarray(softmax(wanted, axis=1))
    recipe, off = Recipe(6, 32, 0.05), {}
    for loss in (SoftCrossEntropy(), Tempered()):
        params = fit(jax.random.key(0), NETWORK, images, targets, recipe, loss=loss)
        apart = np.asarray(jax.vmap(linear_logits, (None, 0))(params, images)) - np.log(np.maximum(targets, 1e-6))
        off[type(loss)] = np.abs(apart - apart.mean(axis=1, keepdims=True)).mean()
    assert off[Tempered] < 0.8 * off[SoftCrossEntropy]


def test_it_says_that_it_reads_no_unlabelled_images():
    assert isinstance(Tempered(), LabelledLoss)
    assert not Tempered().reads_unlabelled
    assert not isinstance(SoftCrossEntropy(), LabelledLoss)


@pytest.mark.parametrize("make", [lambda: Tempered(0), lambda: Tempered(float("inf")), lambda: Tempered(floor=0)])
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be above 0"):
        make()
