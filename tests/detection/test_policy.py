"""Policies: bands, what answers in each, one account at a time, and their place in an evaluation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smallworld
from pp_jax import BlackBox, Entry, Top1, chain, detection, perturb
from pp_jax.defenses import Defender
from pp_jax.defenses.resampled import Resampled
from pp_jax.detection import Blocked, Policy, ProofOfWork, Throttled, makers
from pp_jax.types import Query

KEY = jax.random.key(5)


@functools.cache
def policy(**options):
    """A detector of repeated labels: passes, then the top class alone, then nothing."""
    victim = smallworld.victim()
    watcher = detection.LabelMMD(jnp.full(4, 0.25), window=8)
    actions = (chain(), Top1(), Blocked())
    return Policy(watcher, (0.2, 0.7), actions, victim.network.features, victim.params, **options)


@functools.cache
def images(label):
    """Test images of one predicted class."""
    victim = smallworld.victim()
    pictures = smallworld.test_images().images
    seen = detection.observe(victim.network, victim.params, pictures)
    return pictures[np.argmax(seen.probs, axis=1) == label][:20]


def asked(made, pictures):
    victim = smallworld.victim()
    session = BlackBox(victim.network, victim.params, made, KEY).session()
    return session, *session(pictures)


def test_an_account_climbs_the_bands_and_stays_there():
    mixed = smallworld.test_images().images[:24]
    session, answers, audit = asked(policy(), np.concatenate([images(1), mixed]))
    answers, clean = np.asarray(answers), np.asarray(audit.probs)
    np.testing.assert_allclose(answers[:7], clean[:7], atol=1e-6)  # the window fills
    np.testing.assert_allclose(answers[7:], 0.25, atol=1e-6)  # all of one class: above both thresholds, from there on
    assert session.state.answered.tolist() == [7, 0, 37]


def test_bands_that_do_not_stick_are_left_again():
    mixed = smallworld.test_images().images[:60]
    _, answers, audit = asked(policy(sticky=False), np.concatenate([images(1), mixed]))
    np.testing.assert_allclose(answers[-1], audit.probs[-1], atol=1e-6)


def test_an_audit_answers_truly_and_keeps_count():
    session, answers, audit = asked(policy(audit_only=True), images(1))
    np.testing.assert_allclose(answers, audit.probs, atol=1e-6)
    assert session.state.answered.tolist() == [7, 0, len(images(1)) - 7]
    # Whatever the mildest action is.
    strict = dataclasses.replace(policy(audit_only=True), actions=(Blocked(), Blocked(), Blocked()))
    _, answers, audit = asked(strict, images(1))
    np.testing.assert_allclose(answers, audit.probs, atol=1e-6)


def test_one_account_cannot_change_what_another_gets():
    mixed = smallworld.test_images().images[:24]
    victim = smallworld.victim()
    box = BlackBox(victim.network, victim.params, policy(), KEY)
    honest, hostile = box.session(), box.session()
    hostile(images(1))
    first = np.asarray(honest(mixed)[0])
    np.testing.assert_array_equal(first, np.asarray(box.session()(mixed)[0]))


def test_thresholds_and_actions_that_do_not_fit_are_refused():
    made = policy()
    parts = (made.features_fn, made.params)
    with pytest.raises(ValueError, match="thresholds must be one fewer than the 2 actions"):
        Policy(made.detector, (0.1, 0.2), (chain(), Top1()), *parts)
    with pytest.raises(ValueError, match="must not fall"):
        Policy(made.detector, (0.2, 0.1), made.actions, *parts)
    with pytest.raises(ValueError, match="Policy has a memory"):
        Policy(made.detector, (0.1,), (chain(), made), *parts)


@pytest.mark.parametrize("action", [Throttled(2.0), ProofOfWork(12)])
def test_delays_and_puzzles_leave_the_answer(action):
    probs = jax.nn.softmax(jax.random.normal(KEY, (5, 4)))
    found = perturb(action, probs, jnp.zeros((5, 2, 2, 1)))
    np.testing.assert_allclose(found, probs, atol=1e-6)


def test_a_resampled_response_is_a_real_posterior_of_any_class_whatever_the_query_s_own():
    probs = jax.nn.softmax(4 * jax.random.normal(KEY, (200, 4)))
    made = Resampled.of(probs, each=8)
    found = np.asarray(perturb(made, probs, jax.random.uniform(KEY, (200, 3, 3, 1)), key=KEY))
    others = np.asarray(perturb(made, probs[:, ::-1], jax.random.uniform(KEY, (200, 3, 3, 1)), key=KEY))
    np.testing.assert_array_equal(found, others)  # image and key decide, the posterior does not
    stored = {row.tobytes() for row in np.asarray(made.stored).reshape(-1, 4)}
    assert {row.tobytes() for row in found} <= stored
    shares = np.bincount(found[np.argmax(probs, axis=1) == 0].argmax(axis=1), minlength=4)
    assert (shares > 0).all()


def test_a_class_that_is_never_predicted_cannot_be_stored():
    with pytest.raises(ValueError, match=r"but \[2\] are not"):
        Resampled.of(np.eye(3)[:2])


@functools.cache
def defender(**changes):
    victim = smallworld.victim()
    return Defender(
        victim.network, victim.params, victim.images, victim.labels, victim.recipe, 4, (8, 8, 1), victim.network,
        jax.random.key(0), **changes,
    )  # fmt: skip


@pytest.mark.slow
def test_a_policy_fitted_to_a_victim_spares_benign_accounts_and_stops_strangers():
    maker = functools.partial(makers.p_values, window=32)
    options = {"detector": maker, "rates": (0.05,), "queries": 64, "accounts": 100}
    made = Entry(Policy, actions=(chain(), Blocked()), **options).make(defender())
    session, _, _ = asked(made, smallworld.test_images().images)
    assert session.state.answered[0] >= 100
    noise = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), np.uint8)
    session, _, _ = asked(made, noise)
    assert session.state.answered[1] >= 30


def test_a_policy_is_rehearsed_without_fitting():
    made = Entry(Policy).make(defender(rehearsal=True))
    response, state = made(jnp.full(4, 0.25), Query(jnp.zeros((8, 8, 1)), KEY), made.init())
    assert response.shape == (4,)
    assert state.answered.sum() == 1


@pytest.mark.parametrize("maker", makers.MAKERS)
def test_every_maker_makes_a_detector(maker):
    victim = smallworld.victim()
    pictures, labels = smallworld.stripes(7, 600)
    seen = detection.observe(victim.network, victim.params, pictures)
    made = maker(KEY, victim.network, victim.params, seen, labels)
    _, score = made.update(made.init(), jnp.asarray(pictures[0]), seen.probs[0], seen.features[0])
    assert score.shape == ()
