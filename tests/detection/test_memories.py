"""Griefing: whether one account's queries can make another account's answers worse."""

import functools

import jax
import numpy as np
import pytest

import smallworld as small
from pp_jax import BlackBox, chain, detection
from pp_jax.defenses import ModelGuardS
from pp_jax.detection import Blocked, Policy

KEY = jax.random.key(5)


@functools.cache
def remembering():
    """Every defense with a memory."""
    victim = small.victim()
    watcher = detection.LabelMMD(np.full(4, 0.25, np.float32), window=16)
    policy = Policy(watcher, (0.3,), (chain(), Blocked()), victim.network.features, victim.params)
    return {"policy": policy, "ModelGuard-S": ModelGuardS(0.5, 4, capacity=32, candidates=50)}


def hostile():
    """Queries of one class alone."""
    victim, pool = small.victim(), small.pool().images
    seen = detection.observe(victim.network, victim.params, pool)
    rows = np.flatnonzero(np.argmax(seen.probs, axis=1) == 1)
    return pool[np.resize(rows, 64)]


@pytest.mark.parametrize("name", ["policy", "ModelGuard-S"])
def test_accounts_of_their_own_answer_whatever_others_ask(name):
    victim, honest = small.victim(), small.test_images().images[:48]
    box = BlackBox(victim.network, victim.params, remembering()[name], KEY)
    alone = np.asarray(box.session()(honest)[0])
    attacker, account = box.session(), box.session()
    attacker(hostile())
    np.testing.assert_array_equal(account(honest)[0], alone)


def test_a_shared_memory_lets_one_user_ruin_the_answers_of_all():
    victim, test = small.victim(), small.test_images()
    box = BlackBox(victim.network, victim.params, remembering()["policy"], KEY)
    alone = np.asarray(box.session()(test.images)[0])
    shared = box.session()
    shared(hostile())
    ruined = np.asarray(shared(test.images)[0])
    assert np.mean(alone.argmax(axis=1) == test.labels) > 0.8
    np.testing.assert_allclose(ruined, 0.25, atol=1e-6)


def test_a_shared_memory_of_modelguard_changes_answers_within_its_budget_and_no_label():
    victim, test = small.victim(), small.test_images().images[:48]
    box = BlackBox(victim.network, victim.params, remembering()["ModelGuard-S"], KEY)
    alone = np.asarray(box.session()(test)[0])
    shared = box.session()
    shared(hostile())
    after = np.asarray(shared(test)[0])
    moved = np.abs(after - alone).sum(axis=1)
    assert 0 < moved.max() <= 2 * 0.5 + 1e-5
    np.testing.assert_array_equal(after.argmax(axis=1), alone.argmax(axis=1))
