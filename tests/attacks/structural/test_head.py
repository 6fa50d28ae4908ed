"""The head on a public encoder is had by ordinary queries, until responses are perturbed."""

import functools

import jax
import numpy as np
import pytest

import smallworld
from pp_jax import MAD, BlackBox, Rounding, Top1, chain, gram, metrics, oracle, solvers
from pp_jax.attacks import QueriesFailed
from pp_jax.attacks.structural import steal_head

KEY = jax.random.key(0)
POOL = smallworld.stripes(5, 200)[0]


@functools.cache
def encoder():
    """The victim's network but for its last layer."""
    victim = smallworld.victim()
    encode = jax.jit(jax.vmap(victim.network.features, (None, 0)))
    return lambda images: np.asarray(encode(victim.params, images))


@functools.cache
def clean():
    """The victim's posteriors of other images."""
    victim = smallworld.victim()
    return metrics.predict(victim.network, victim.params, smallworld.test_images().images)


@functools.cache
def stolen(defense=None, **options):
    """What the attack gets from the victim behind a defense."""
    victim = smallworld.victim()
    box = BlackBox(victim.network, victim.params, chain() if defense is None else defense, jax.random.key(1))
    return steal_head(KEY, box.api(), encoder(), POOL, **{"minimum_norm": True, **options})


def off(found):
    """The largest difference of posteriors, and the share of labels that agree."""
    posteriors = found.model.posteriors(encoder()(smallworld.test_images().images))
    return np.abs(posteriors - clean()).max(), metrics.agreement(posteriors, clean())


def test_twice_the_features_in_ordinary_queries_give_the_head():
    found = stolen()
    assert found.queries == 2 * encoder()(POOL[:1]).shape[1]
    error, agreement = off(found)
    assert error < 1e-3
    assert agreement == 1


def test_the_least_number_of_queries_is_one_more_than_features():
    width = encoder()(POOL[:1]).shape[1]
    found = stolen(budget=width + 1)
    assert found.queries == width + 1
    assert off(found)[0] < 0.01


@pytest.mark.slow
def test_rounding_and_a_small_ball_break_it():
    """Why one perturbs: least squares on logarithms has no defense against noise, a fit has some."""
    victim = smallworld.victim()
    towards = solvers.LineSearch(oracle.random_vertex)
    ball = MAD(victim.network, victim.params, 0.5, solver=towards, gram=gram.identity)
    plain = off(stolen())[0]
    assert off(stolen(Rounding(1)))[0] > 100 * plain
    assert off(stolen.__wrapped__(ball))[0] > 100 * plain
    assert off(stolen(Rounding(1), fit_steps=200))[1] >= off(stolen(Rounding(1)))[1]


def test_what_cannot_be_solved_is_refused_before_anything_is_asked():
    def api(images):
        raise AssertionError("asked")

    with pytest.raises(ValueError, match=r"must hold an image a query, 500, not 200; write budget=200"):
        steal_head(KEY, api, encoder(), POOL, budget=500)
    with pytest.raises(ValueError, match=r"3 queries do not determine 17 parameters"):
        steal_head(KEY, api, encoder(), POOL, budget=3)
    with pytest.raises(ValueError, match=r"features of 32 queries have rank 1, of 5.*minimum_norm=True"):
        steal_head(KEY, api, lambda images: np.ones((len(images), 4)), POOL, budget=32)


def test_labels_end_the_attack_after_one_query():
    with pytest.raises(QueriesFailed, match=r"class indices, but this attack needs posteriors.*1 of 32 queries"):
        steal_head(KEY, lambda images: np.zeros(len(images), int), encoder(), POOL, minimum_norm=True)
    assert off(stolen(Top1(), fit_steps=200))[1] > 0.3
