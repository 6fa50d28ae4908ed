"""Defenses with a memory behind the prediction API: a session a user."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pp_jax import MAD, BlackBox, attacks, calibration, perturb, stream
from pp_jax.defenses import ModelGuardS
from pp_jax.serving.blackbox import Session
from pp_jax.serving.perturbation import perturb_sequence
from support import linear_logits, linear_params

PARAMS = linear_params(jax.random.key(0), 16, 4)
IMAGES = np.random.default_rng(1).random((12, 4, 4, 1), np.float32)
GUARD = ModelGuardS(0.6, 4, candidates=0)
BOX = BlackBox(linear_logits, PARAMS, GUARD, jax.random.key(2))


def test_a_session_answers_batches_as_one_sequence_and_another_user_begins_anew():
    clean = BlackBox(linear_logits, PARAMS)(IMAGES)[0]
    whole, state = perturb_sequence(GUARD, GUARD.init(), clean, IMAGES, key=BOX.key)
    session = BOX.session()
    parts = [session(IMAGES[i : i + 6]) for i in (0, 6)]
    np.testing.assert_array_equal(np.concatenate([answers for answers, _ in parts]), whole)
    np.testing.assert_allclose(np.concatenate([audit.probs for _, audit in parts]), clean, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, session.state, state)
    # A new user's first question gets a new answer, not an old user's.
    last = IMAGES[-6:]
    alone, _ = perturb_sequence(GUARD, GUARD.init(), clean[-6:], last, key=BOX.key)
    np.testing.assert_array_equal(BOX.session()(last)[0], alone)


def test_the_api_of_a_defense_with_memory_is_a_session():
    session, api = BOX.session(), BOX.api()
    for part in (IMAGES[:6], IMAGES[6:], IMAGES[:6]):
        np.testing.assert_array_equal(api(part), session(part)[0])
    stolen = attacks.collect(jax.random.key(3), attacks.Knockoff(batch_size=6), IMAGES, BOX.api(), budget=12)
    assert stolen.answers.shape == (12, 4)


def test_a_refused_batch_changes_no_memory():
    session = BOX.session()
    session(IMAGES[:6])
    before = jax.tree.map(np.array, session.state)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        session(IMAGES[:6] + 2)
    jax.tree.map(np.testing.assert_array_equal, session.state, before)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match=r"ModelGuardS remembers its answers: ask it in a session\(\)"):
        BOX(IMAGES)
    clean = BlackBox(linear_logits, PARAMS)(IMAGES)[0]
    for answers in (
        lambda: perturb(GUARD, clean, IMAGES, key=BOX.key),
        lambda: next(stream.perturb(GUARD, [(clean, IMAGES)], key=BOX.key)),
        lambda: next(stream.ask(BOX, IMAGES)),
    ):
        with pytest.raises(ValueError, match=r"ModelGuardS remembers its answers: .* or by perturb_sequence"):
            answers()
    plain = BlackBox(linear_logits, PARAMS, MAD(linear_logits, PARAMS, 0.5))
    assert plain.session() is plain
    with pytest.raises(ValueError, match="MAD has no memory: ask the black box itself"):
        Session(plain)
    keyless = dataclasses.replace(BOX, key=None)
    with pytest.raises(ValueError, match="ModelGuardS draws random numbers"):
        keyless.session()(IMAGES[:6])


def test_a_family_with_memory_is_calibrated_on_the_sequence():
    rng = np.random.default_rng(0)
    probs = jnp.asarray(rng.dirichlet(np.full(4, 0.5), 100), jnp.float32)
    images = rng.random((100, 2, 2, 1), np.float32)
    key = jax.random.key(1)
    found = calibration.calibrate(
        lambda s: ModelGuardS(s, 4, candidates=0), probs, images, target=0.2, low=0.0, high=2.0, key=key, tolerance=0.05
    )
    answers, _ = perturb_sequence(found.defense, found.defense.init(), probs, images, key=key)
    assert found.met
    assert float(calibration.mean_l1(probs, answers)) == pytest.approx(found.cost, abs=1e-6)
