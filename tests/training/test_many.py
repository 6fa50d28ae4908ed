"""Many networks as one program: any loss, and the contract of a network (`tests/evaluation/test_sweep.py` has more)."""

import chex
import jax
import numpy as np
import pytest

from pp_jax import models
from pp_jax.defenses.misinformation import MisinformationLoss
from pp_jax.training import MixMatch, Recipe, Sets, Trainable, bytes_each, fit, fit_many
from support import Linear, blobs

IMAGES, LABELS = blobs(0, 60)
ROWS = np.stack([np.arange(40), np.arange(20, 60)])
SETS = Sets(IMAGES, ROWS, LABELS[ROWS])
KEYS = jax.random.split(jax.random.key(0), 2)
RECIPE = Recipe(epochs=3, batch_size=16, decay_every=2)


def test_networks_at_once_minimise_the_loss_that_they_are_given():
    network, loss = Linear(4), MisinformationLoss()
    many = fit_many(KEYS, network, SETS, RECIPE, loss=loss)
    for i, rows in enumerate(ROWS):
        one = fit(KEYS[i], network, IMAGES[rows], LABELS[rows], RECIPE, loss=loss)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], many), one, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="unlabelled must be given to MixMatch"):
        fit_many(KEYS, network, SETS, RECIPE, loss=MixMatch())


class Bare:
    """Half of a trainable network."""

    def init(self, key, image_shape):
        return Linear(4).init(key, image_shape)

    def train(self, params, images):
        return Linear(4).train(params, images)


class Whole(Bare, Trainable):
    """A network whose `vmapped` is the default."""


def test_a_network_states_its_form_for_vmap_or_derives_from_trainable():
    message = "network must have init, train and vmapped, not all of which Bare has: derive its class from pp_jax"
    with pytest.raises(ValueError, match=message):
        fit_many(KEYS, Bare(), SETS, RECIPE)
    with pytest.raises(ValueError, match=message):
        bytes_each(Bare(), IMAGES, 4, RECIPE)
    network = Whole()
    assert network.vmapped is network
    assert hash(network) == hash(network)
    chex.assert_trees_all_equal(fit_many(KEYS, network, SETS, RECIPE), fit_many(KEYS, Linear(4), SETS, RECIPE))
    assert isinstance(models.mlp(4), Trainable)
