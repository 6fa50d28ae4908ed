"""Benign accounts that a policy accuses."""

import jax
import jax.numpy as jnp
import numpy as np

import smallworld as small
from pp_jax import Top1, chain, detection
from pp_jax.detection import Policy

KEY = jax.random.key(0)


def test_accounts_of_few_classes_are_accused_by_their_labels_and_others_are_not():
    victim, test = small.victim(), small.test_images()
    watcher = detection.LabelMMD(jnp.full(4, 0.25), window=16)
    made = Policy(watcher, (0.35,), (chain(), Top1()), victim.network.features, victim.params, account_queries=32)
    found = detection.accused(KEY, made, victim.network, test.images, np.asarray(test.labels), accounts=20)
    assert set(found) == {"uniform", "skewed", "bursty", "repeated"}
    assert found["uniform"] < 0.3
    assert found["bursty"] > 0.7


def test_a_policy_without_thresholds_accuses_nobody():
    victim, test = small.victim(), small.test_images()
    made = Policy(detection.LabelMMD(jnp.full(4, 0.25)), (), (chain(),), victim.network.features, victim.params)
    found = detection.accused(KEY, made, victim.network, test.images, np.asarray(test.labels))
    assert set(found.values()) == {0.0}
