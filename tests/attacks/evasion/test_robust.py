"""Adversarial training: whoever trains on the examples that evade is evaded less."""

import jax
import numpy as np
import pytest

import smallworld as small
from pp_jax import metrics, training
from pp_jax.attacks.evasion import FGSM, PGD, AdversarialCrossEntropy, craft

KEY = jax.random.key(0)


def _after(params, attack):
    test = small.test_images()
    changed = craft(KEY, attack, small.network(), params, test.images, test.labels)
    return metrics.accuracy(metrics.predict(small.network(), params, changed), test.labels)


@pytest.mark.slow
def test_a_network_that_is_trained_against_it_withstands_pgd_better():
    images, labels = small.stripes(0, 400)
    recipe, attack = training.Recipe(60, 32, 0.05), PGD(0.15, steps=4)
    plain, robust = (
        training.fit(KEY, small.network(), images, labels, recipe, loss=loss)
        for loss in (training.losses.SUPERVISED, AdversarialCrossEntropy(attack, 0.5))
    )
    assert _after(robust, PGD(0.15, steps=10)) > _after(plain, PGD(0.15, steps=10)) + 0.03


@pytest.mark.slow
def test_the_loss_is_the_cross_entropy_at_the_examples():
    images, labels = small.stripes(0, 16)
    params, network = small.victim().params, small.network()
    attack = FGSM(0.1)
    changed = craft(KEY, attack, network, params, images, labels)
    at_examples, at_images = (
        -np.log(metrics.predict(network, params, x)[np.arange(16), labels]).mean() for x in (changed, images)
    )
    for weight, known in ((1.0, at_examples), (0.25, 0.25 * at_examples + 0.75 * at_images)):
        for targets in (labels, np.eye(small.CLASSES, dtype=np.float32)[labels]):
            value, updated = AdversarialCrossEntropy(attack, weight)(network, params, images, targets, None, KEY)
            assert float(value) == pytest.approx(known, rel=1e-4)
            assert jax.tree.structure(updated) == jax.tree.structure(params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attack": PGD(targeted=True)}, "attack is targeted: must leave the label; write targeted=False"),
        ({"weight": 0.0}, "weight is 0.0: must be above 0 and at most 1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AdversarialCrossEntropy(**options)
