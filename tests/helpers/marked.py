"""A victim of stripes that is stolen behind DAWN, and models that never saw a response of it."""

import functools

import jax
import numpy as np

import smallworld
from pp_jax import BlackBox, models, training
from pp_jax.defenses import DAWN
from pp_jax.ownership import Ledger, Model
from pp_jax.training.predicting import predict

KEY = jax.random.key(7)
DEFENSE = DAWN(0.1)
RECIPE = training.Recipe(100, batch_size=32, learning_rate=0.1, momentum=0.9)


@functools.cache
def network():
    """Wide enough to learn single images by heart."""
    return models.mlp(smallworld.CLASSES, hidden=(256,))


@functools.cache
def responses():
    """The client's queries, the responses, and the clean posteriors behind them."""
    victim, images = smallworld.victim(), smallworld.pool().images
    answers, audit = BlackBox(victim.network, victim.params, DEFENSE, KEY)(images)
    return images, np.asarray(answers), np.asarray(audit.probs)


@functools.cache
def stolen():
    """A copy of the victim, trained on the responses."""
    images, answers, _ = responses()
    return Model(network(), training.fit(jax.random.key(1), network(), images, answers, RECIPE))


@functools.cache
def independent(seed):
    """A model of the same task, trained on labels of other images."""
    return Model(network(), training.fit(jax.random.key(seed), network(), *smallworld.stripes(seed, 256), RECIPE))


@functools.cache
def ledger():
    """Of the client."""
    images, _, probs = responses()
    return Ledger.of(DEFENSE, KEY, images, probs)


def saying(labels, classes):
    """A suspect that answers given labels in turn, whatever it is asked."""
    rows = iter(np.eye(classes, dtype=np.float32)[np.asarray(labels)])
    return lambda images: np.stack([next(rows) for _ in images])


def clean(images):
    """The victim itself, without any defense."""
    victim = smallworld.victim()
    return predict(victim.network, victim.params, images)
