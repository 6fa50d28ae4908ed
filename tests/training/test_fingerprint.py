"""The fingerprint of a training: another one differs where it differs, and the same one told otherwise is the same."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pp_jax import models
from pp_jax.training import MixMatch, Recipe, start
from pp_jax.training.augmentation import random_crop, random_flip
from pp_jax.training.fingerprint import differences, owner_of

NETWORK = models.mlp(3, hidden=(4,))
IMAGES = np.random.default_rng(0).random((8, 4, 4, 1)).astype(np.float32)
LABELS = np.arange(8) % 3
RECIPE = Recipe(3)


def owner(key=0, network=NETWORK, images=IMAGES, targets=LABELS, recipe=RECIPE, **options):
    options = {"loss": None, "unlabelled": None, "params": None} | options
    key = jax.random.key(key)
    like = jax.eval_shape(lambda: start(key, network, images.shape[1:], recipe.optimizer(1))[:2])
    return owner_of({}, key, network, images, targets, recipe, **options, like=like)


@pytest.mark.parametrize(
    "same",
    [
        {"recipe": Recipe(9)},
        {"targets": LABELS.astype(np.int32)},
        {"targets": jnp.asarray(LABELS)},
        {"images": IMAGES.astype(np.float64)},
        {"images": jnp.asarray(IMAGES)},
        {"network": models.mlp(3, hidden=(4,))},
    ],
)
def test_the_same_training_told_otherwise_is_the_same(same):
    assert owner(**same) == owner()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": 1}, ["another key"]),
        ({"network": models.mlp(3, hidden=(4,), mean=(0.5,))}, ["another network"]),
        ({"recipe": Recipe(3, momentum=0.0)}, ["another recipe"]),
        ({"recipe": Recipe(3, rule=optax.adam)}, ["another recipe"]),
        ({"recipe": Recipe(3, rule=functools.partial(optax.adam, b1=0.8))}, ["another recipe"]),
        ({"recipe": Recipe(3, augment=random_crop)}, ["another recipe"]),
        ({"loss": MixMatch(augment=random_flip)}, ["another loss"]),
        ({"loss": MixMatch(augment=random_flip, temperature=0.9)}, ["another loss"]),
        ({"images": IMAGES[::-1]}, ["other images"]),
        ({"targets": LABELS[::-1]}, ["other targets"]),
        ({"unlabelled": IMAGES}, ["other unlabelled images"]),
        ({"params": {"params": {"w": jnp.ones(3)}}}, ["another warm start"]),
    ],
)
def test_another_training_is_another_in_what_differs(changes, words):
    assert differences(owner()["training"], owner(**changes)["training"]) == words


def test_two_of_a_kind_differ_by_their_numbers():
    one, other = (owner(recipe=Recipe(3, rule=functools.partial(optax.adam, b1=b)))["training"] for b in (0.8, 0.9))
    assert differences(one, other) == ["another recipe"]
    one, other = (owner(loss=MixMatch(augment=random_flip, temperature=t))["training"] for t in (0.5, 0.9))
    assert differences(one, other) == ["another loss"]


def test_every_pixel_counts_however_large_the_array(monkeypatch):
    from pp_jax.training import fingerprint

    images = np.zeros((100, 4, 4, 1), np.uint8)
    whole = owner(images=images)
    monkeypatch.setattr(fingerprint, "_CHUNK", 100)
    assert owner(images=images) == whole
    images[-1, -1, -1] = 1
    assert differences(owner(images=images)["training"], whole["training"]) == ["other images"]
