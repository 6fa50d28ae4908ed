"""Looking answers up among pairs (y, ỹ), of which only a part exists at a time."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pp_jax.geometry import simplex


class Matches(NamedTuple):
    """What the pairs seen so far tell about some responses.

    Attributes:
        hits: pairs within the radius, (N,).
        total: the sum of their posteriors, (N, K).
        least: the smallest distance met, (N,).
        nearest: the posterior there, (N, K); the response itself before any.
    """

    hits: jax.Array
    total: jax.Array
    least: jax.Array
    nearest: jax.Array


def empty(answers: jax.Array) -> Matches:
    """Nothing found yet for (N, K)."""
    hits = jnp.zeros(answers.shape[0], answers.dtype)
    return Matches(hits, jnp.zeros_like(answers), jnp.full_like(hits, jnp.inf), answers)


def matched(
    found: Matches, answers: jax.Array, probs: jax.Array, seen: jax.Array, valid: jax.Array, radius: float
) -> Matches:
    """Compare (N, K) answers with the valid ones of (S, K) pairs."""
    # Class by class: one (responses, pairs) matrix is all that is ever stored.
    distance = sum(jnp.abs(answers[:, k, None] - seen[None, :, k]) for k in range(answers.shape[1]))
    distance = jnp.where(valid[None, :], distance, jnp.inf)
    inside = (distance <= radius).astype(answers.dtype)
    first = jnp.argmin(distance, axis=1)
    least = jnp.min(distance, axis=1)
    return Matches(
        found.hits + jnp.sum(inside, axis=1),
        found.total + jnp.matmul(inside, probs, precision="highest"),
        jnp.minimum(least, found.least),
        jnp.where((least < found.least)[:, None], probs[first], found.nearest),
    )


def estimates(found: Matches) -> jax.Array:
    """The mean within the radius, (N, K), or the nearest where there is none."""
    mean = found.total / jnp.maximum(found.hits, 1)[:, None]
    return simplex.working(jnp.where(found.hits[:, None] > 0, mean, found.nearest))


match = functools.partial(jax.jit, donate_argnums=0)(matched)


@jax.jit
def own_estimates(answers: jax.Array, probs: jax.Array, seen: jax.Array, radius: float) -> jax.Array:
    """Estimates (Q, K) of responses that have a table each, (Q, m, K); pairs of any top class where none agrees."""

    def one(answer: jax.Array, probs: jax.Array, seen: jax.Array) -> jax.Array:
        agrees = jnp.argmax(seen, axis=1) == jnp.argmax(answer)
        agrees = agrees | ~agrees.any()
        return estimates(matched(empty(answer[None]), answer[None], probs, seen, agrees, radius))[0]

    return jax.vmap(one)(answers, probs, seen)
