"""Pairs (y, ỹ) that an attacker makes: posteriors drawn around a guess, pushed through the defense that is presumed."""

from typing import Any

import jax
import jax.numpy as jnp

from pp_jax import _checks
from pp_jax._batching import each
from pp_jax.geometry import simplex
from pp_jax.types import Defense, Query

# A Dirichlet parameter of zero has no density; a class that a guess denies all but stays out at this one.
_FLOOR = 1e-3
# Gamma variates take long to compile: they are drawn in blocks of one size, whoever asks for however many.
_BLOCK = 1 << 13
# So many pairs are pushed through the defense at once.
_BATCH = 1 << 12


def around(key: jax.Array, centres: jax.Array, *, concentration: float) -> jax.Array:
    """One posterior y ~ Dirichlet(concentration · K · centre) near each of (P, K).

    Its mean is the centre c, its variance c (1 − c)/(concentration · K + 1) in every entry.
    """
    parts = []
    for number, first in enumerate(range(0, len(centres), _BLOCK)):
        block = centres[first : first + _BLOCK]
        padded = jnp.pad(block, ((0, _BLOCK - len(block)), (0, 0)), mode="edge")
        parts.append(_dirichlet(jax.random.fold_in(key, number), padded, concentration)[: len(block)])
    return jnp.concatenate(parts)


def pushed(key: jax.Array, defense: Defense, probs: jax.Array, images: Any) -> jax.Array:
    """What the presumed defense answers for each of (P, K), with its image where there are images.

    The defender's key is unknown: each pair draws from a key of its own.
    """
    keys = jax.random.split(key, len(probs))
    rows = (keys, probs) if images is None else (keys, probs, jnp.asarray(images))
    return _pushed(defense, rows)


def check_defense(defense: Any, images: Any) -> None:
    """Refuse what is no defense, one with a memory, and one whose response depends on the image where there are none.

    Raises:
        ValueError: naming the defense.
    """
    _checks.check_defense(defense)
    name = _checks.name_of(defense)
    if _checks.remembers(defense):
        raise ValueError(f"{name} remembers its responses: pairs can only be made with a defense without memory")
    if defense.reads_image and images is None:
        raise ValueError(f"the responses of {name} depend on the image: images must be given, not None")


@jax.jit
def _dirichlet(key: jax.Array, centres: jax.Array, concentration: jax.Array | float) -> jax.Array:
    """One block of `around`."""
    weights = jnp.maximum(concentration * centres.shape[-1] * centres, _FLOOR).astype(centres.dtype)
    return simplex.working(jax.random.dirichlet(key, weights, dtype=centres.dtype))


@jax.jit
def _pushed(defense: Defense, rows: tuple[jax.Array, ...]) -> jax.Array:
    """`pushed`, compiled."""

    def one(key: jax.Array, probs: jax.Array, image: jax.Array | None = None) -> jax.Array:
        # Looked at by none: `check_defense` refuses a defense that reads the image where there is none.
        image = jnp.zeros((1, 1, 1), jnp.float32) if image is None else image
        return defense(probs, Query(image, key)).astype(probs.dtype)

    return each(one, _BATCH, *rows)


@jax.jit
def pushed_each(key: jax.Array, defense: Defense, probs: jax.Array, images: jax.Array) -> jax.Array:
    """What the presumed defense answers for (Q, m, K), m posteriors for each of Q images."""

    def query(key: jax.Array, probs: jax.Array, image: jax.Array) -> jax.Array:
        # The surrogate is asked once an image: only the posteriors are mapped over.
        answer = jax.vmap(lambda k, y: defense(y, Query(image, k)).astype(y.dtype))
        return answer(jax.random.split(key, len(probs)), probs)

    return jax.vmap(query)(jax.random.split(key, len(probs)), probs, images)
