"""Calibration finds the strength at which a defense costs what it may, and says when there is none."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, RandomNoise, ReverseSigmoid, calibration, perturb
from support import linear_logits, linear_params

RNG = np.random.default_rng(0)
PROBS = jnp.asarray(RNG.dirichlet(np.full(10, 0.1), 400), jnp.float32)
IMAGES = jnp.asarray(RNG.uniform(size=(400, 4, 4, 1)), jnp.float32)
LABELS = np.asarray(PROBS).argmax(1)
PARAMS = linear_params(jax.random.key(0), 16, 10)
KEY = jax.random.key(1)

FAMILIES = {
    "mad": (lambda s: MAD(linear_logits, PARAMS, s), 2.0),
    "mad_argmax": (lambda s: MAD.argmax_preserving(linear_logits, PARAMS, s), 2.0),
    "reverse_sigmoid": (lambda s: ReverseSigmoid(s, 0.2), 1.0),
    "random_noise": (RandomNoise, 200.0),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("target", [0.1, 0.5])
def test_every_family_is_brought_to_the_same_mean_l1(name, target):
    family, high = FAMILIES[name]
    found = calibration.calibrate(family, PROBS, IMAGES, target=target, low=0.0, high=high, key=KEY)
    answers = np.asarray(perturb(found.defense, PROBS, IMAGES, key=KEY))
    spent = np.abs(answers - np.asarray(PROBS)).sum(1).mean()
    assert found.met
    assert found.cost == pytest.approx(spent, abs=1e-6)
    assert target - 0.01 <= spent <= target + 1e-6


def test_epsilon_of_mad_is_its_mean_l1_where_every_posterior_can_spend_it():
    peaked = jnp.asarray(np.eye(10)[LABELS], jnp.float32)
    found = calibration.calibrate(FAMILIES["mad"][0], peaked, IMAGES, target=0.8, low=0.0, high=2.0)
    assert found.strength == pytest.approx(0.8, abs=1e-4)


def test_accuracy_loss_is_a_cost_too():
    cost = calibration.accuracy_loss(LABELS)
    found = calibration.calibrate(FAMILIES["mad"][0], PROBS, IMAGES, target=0.05, low=0.0, high=2.0, cost=cost)
    answers = np.asarray(perturb(found.defense, PROBS, IMAGES))
    assert 0.04 <= 1 - (answers.argmax(1) == LABELS).mean() <= 0.05
    beyond = perturb(MAD(linear_logits, PARAMS, found.strength + 0.02), PROBS, IMAGES)
    assert 1 - (np.asarray(beyond).argmax(1) == LABELS).mean() > 0.05


def test_a_family_that_cannot_cost_so_much_or_so_little_says_so():
    strong = calibration.calibrate(FAMILIES["reverse_sigmoid"][0], PROBS, IMAGES, target=1.99, low=0.0, high=1.0)
    assert (strong.met, strong.strength) == (False, 1.0)
    weak = calibration.calibrate(FAMILIES["mad"][0], PROBS, IMAGES, target=0.1, low=0.5, high=1.0)
    assert (weak.met, weak.strength) == (False, 0.5)
    assert weak.cost > 0.1


def test_the_whole_search_is_one_trace():
    network = chex.assert_max_traces(linear_logits, n=1)
    calibration.calibrate(lambda s: MAD(network, PARAMS, s), PROBS, IMAGES, target=0.3, low=0.0, high=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": -0.1}, "target must be at least 0, not -0.1"),
        ({"target": float("nan")}, "target must be at least 0, not nan"),
        ({"target": 0.1, "low": 1.0, "high": 1.0}, "low must be below high, not 1.0 and 1.0"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        calibration.calibrate(FAMILIES["mad"][0], PROBS, IMAGES, **({"low": 0.0, "high": 2.0} | options))


def test_a_random_family_needs_its_key():
    with pytest.raises(ValueError, match="RandomNoise draws random numbers"):
        calibration.calibrate(RandomNoise, PROBS, IMAGES, target=0.1, low=0.0, high=1.0)
