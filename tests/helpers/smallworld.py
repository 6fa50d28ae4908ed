"""A victim that is trained in a second, and what attackers of it query: stripes of four directions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax import models, training
from pp_jax.evaluation import Images, Setup, Victim
from pp_jax.pytree import pytree

RECIPE = training.Recipe(2, batch_size=32, learning_rate=0.05)
CLASSES = 4


@functools.cache
def stripes(seed, count):
    """Images (count, 8, 8, 1) with stripes across, along and in both diagonals, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    rows, columns = np.mgrid[:8, :8]
    across = np.stack([rows, columns, rows + columns, rows - columns])
    phase = rng.integers(0, 4, (count, 1, 1))
    waves = ((across[labels] + phase) % 4 < 2).astype(float)
    noisy = 255 * np.clip(0.7 * waves + 0.3 * rng.random((count, 8, 8)), 0, 1)
    return noisy.astype(np.uint8)[..., None], labels


@functools.cache
def network():
    """The architecture of everybody."""
    return models.mlp(CLASSES, hidden=(16,))


@functools.cache
def victim():
    """A trained victim with its data."""
    images, labels = stripes(0, 400)
    params = training.fit(jax.random.key(0), network(), images, labels, training.Recipe(8, 32, 0.05))
    return Victim(network(), params, images, labels, RECIPE, "stripes")


@functools.cache
def test_images():
    """What everyone is judged on."""
    return Images(*stripes(1, 128), "stripes")


@functools.cache
def pool():
    """What attackers query."""
    return Images(*stripes(2, 256), "pool")


def setup(**changes):
    """All of it."""
    plain = Setup(victim(), pool(), test_images(), network(), RECIPE, 128)
    return dataclasses.replace(plain, **changes)


@pytree
@dataclasses.dataclass(frozen=True)
class Flatten:
    """A defense of somebody's own: mix the posterior with the uniform one."""

    weight: jax.Array | float

    random = False
    reads_image = False

    def __call__(self, probs, query):
        del query
        return (1 - self.weight) * probs + self.weight / probs.shape[-1]


@pytree
@dataclasses.dataclass(frozen=True)
class Nothing:
    """Says nothing of the image: the uniform posterior."""

    random = False
    reads_image = False

    def __call__(self, probs, query):
        del query
        return jnp.full_like(probs, 1 / probs.shape[-1])
