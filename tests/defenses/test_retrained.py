"""Victims that were trained to be hard to steal: their losses, and what their responses look like."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import models, perturb
from pp_jax.defenses import Defender, Distillation, NastyTeacher, Retrained
from pp_jax.defenses.distillation import TemperedLoss
from pp_jax.defenses.nasty import NastyLoss
from pp_jax.training import Recipe, fit
from pp_jax.training.predicting import predict
from support import Linear, blobs, linear_params

KEY = jax.random.key(0)
IMAGES, LABELS = blobs(1, 512)
FRESH, TRUTH = blobs(2, 200)
RECIPE = Recipe(10, batch_size=32, learning_rate=0.1)
NETWORK = models.mlp(4, hidden=(16,))


@pytest.fixture(scope="module")
def defender():
    params = fit(KEY, NETWORK, IMAGES, LABELS, RECIPE)
    return Defender(NETWORK, params, IMAGES, LABELS, RECIPE, 4, (6, 6, 1), NETWORK, KEY)


def _responses(defense):
    return np.asarray(perturb(defense, np.full((200, 4), 0.25, np.float32), FRESH))


def test_the_nasty_loss_is_that_by_hand():
    params = linear_params(KEY, 36, 4)
    images = IMAGES[:5]
    usual = np.random.default_rng(0).dirichlet(np.ones(4), 5).astype(np.float32)
    targets = np.concatenate([np.eye(4, dtype=np.float32)[LABELS[:5]], usual], axis=1)
    found, _ = NastyLoss(0.1, 3.0)(Linear(4), params, images, jnp.asarray(targets), None, None)
    logits = np.asarray(Linear(4).train(params, images)[0], np.float64)

    def logs(z):
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    right = -logs(logits)[np.arange(5), LABELS[:5]].mean()
    a, f = logs(np.log(usual) / 3), logs(logits / 3)
    np.testing.assert_allclose(found, right - 0.1 * 9 * (np.exp(a) * (a - f)).sum(1).mean(), rtol=1e-4)


def test_the_tempered_loss_is_that_by_hand_for_labels_and_soft_targets():
    params = linear_params(KEY, 36, 4)
    logits = np.asarray(Linear(4).train(params, IMAGES[:5])[0], np.float64) / 2
    expected = -2 * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(5), LABELS[:5]].mean()
    for targets in (LABELS[:5], np.eye(4, dtype=np.float32)[LABELS[:5]]):
        found, _ = TemperedLoss(2.0)(Linear(4), params, IMAGES[:5], jnp.asarray(targets), None, None)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_a_nasty_teacher_is_right_and_its_other_probabilities_are_not_the_victims(defender):
    made = NastyTeacher.fitted(defender, weight=0.1, epochs=10)
    found, usual = _responses(made), predict(NETWORK, defender.params, FRESH)
    assert (found.argmax(1) == TRUTH).mean() > 0.9
    plain = NastyTeacher.fitted(defender, weight=0.0, epochs=10)

    def apart(responses):
        a, b = np.log(usual), np.log(responses)
        return np.abs((a - a.max(1, keepdims=True)) - (b - b.max(1, keepdims=True))).mean()

    assert apart(found) > 1.5 * apart(_responses(plain))


@pytest.mark.slow
def test_a_distilled_victim_is_right_and_surer_than_one_of_temperature_one(defender):
    sure, usual = (_responses(Distillation.fitted(defender, temperature=t, epochs=10)) for t in (20.0, 1.0))
    assert (sure.argmax(1) == TRUTH).mean() > 0.9
    assert np.median(1 - sure.max(1)) < 0.1 * np.median(1 - usual.max(1))


@pytest.mark.slow
def test_the_victims_posterior_is_not_looked_at_and_nothing_can_be_presumed(defender):
    made = Retrained(NETWORK, defender.params)
    np.testing.assert_allclose(_responses(made), predict(NETWORK, defender.params, FRESH), atol=1e-6)
    assert made.presumed(KEY, NETWORK, (6, 6, 1)) is None


def test_what_does_not_fit_is_refused():
    params = linear_params(KEY, 36, 4)
    defender = Defender(Linear(4), params, IMAGES, LABELS, RECIPE, 4, (6, 6, 1), Linear(4), KEY)
    with pytest.raises(ValueError, match="network knows 4 classes, the victim's posterior has 3"):
        perturb(Retrained(Linear(4), params), np.full((1, 3), 1 / 3, np.float32), FRESH[:1])
    with pytest.raises(ValueError, match="weight must be at least 0 and at most 1e"):
        NastyLoss(-1.0)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        TemperedLoss(0.0)
    with pytest.raises(ValueError, match="epochs must be a whole number of at least 1, not 0"):
        NastyTeacher.fitted(defender, epochs=0)
