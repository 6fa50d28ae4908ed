"""The classifier that tells defenses apart by the traits of their responses: a perceptron of two layers."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

_HIDDEN, _STEPS, _RATE, _DECAY = 64, 400, 3e-3, 1e-2
# Real posteriors are none that were imagined: traits are blurred in training, and cut at so many deviations.
_BLUR, _MOST = 0.3, 4.0
_STRENGTH = 5.0


class Teller(NamedTuple):
    """A trained classifier.

    Attributes:
        mean: of the traits, (F,).
        deviation: of the traits, (F,).
        weights: of both layers.
    """

    mean: jax.Array
    deviation: jax.Array
    weights: Any

    def __call__(self, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Log-probabilities of the candidates and the place of each one's strength in its range, of traits (…, F)."""
        scores, places = _forward(self.weights, _scaled(seen, self.mean, self.deviation))
        return jax.nn.log_softmax(scores), places


@functools.partial(jax.jit, static_argnames="candidates")
def learn(key: jax.Array, seen: jax.Array, labels: jax.Array, places: jax.Array, *, candidates: int) -> Teller:
    """Minimise cross-entropy of the candidate and the squared error of its strength, by Adam over all sets at once.

    Args:
        key: randomness of the weights and of the blur.
        seen: traits, (S, F).
        labels: candidates, (S,).
        places: of the strengths, in [0, 1], (S,).
        candidates: C.
    """
    mean, deviation = jnp.mean(seen, axis=0), jnp.std(seen, axis=0) + 1e-3
    inputs = _scaled(seen, mean, deviation)
    first_key, second_key, blur_key = jax.random.split(key, 3)
    sizes = inputs.shape[1], _HIDDEN, 2 * candidates
    weights = [
        (jax.random.normal(k, (into, out)) * jnp.sqrt(2 / into), jnp.zeros(out))
        for k, into, out in ((first_key, *sizes[:2]), (second_key, *sizes[1:]))
    ]
    optimizer = optax.adamw(optax.cosine_decay_schedule(_RATE, _STEPS), weight_decay=_DECAY)

    def loss(weights: Any, inputs: jax.Array) -> jax.Array:
        scores, found = _forward(weights, inputs)
        own = jnp.take_along_axis(found, labels[:, None], axis=1)[:, 0]
        wrong = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return jnp.mean(wrong + _STRENGTH * (own - places) ** 2)

    def step(carry: Any, number: jax.Array) -> tuple[Any, None]:
        weights, state = carry
        blur = _BLUR * jax.random.normal(jax.random.fold_in(blur_key, number), inputs.shape)
        change, state = optimizer.update(jax.grad(loss)(weights, inputs + blur), state, weights)
        return (optax.apply_updates(weights, change), state), None

    (weights, _), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), jnp.arange(_STEPS))
    return Teller(mean, deviation, weights)


def _scaled(seen: jax.Array, mean: jax.Array, deviation: jax.Array) -> jax.Array:
    """Traits in deviations from the mean, bounded."""
    shape = (1,) * (seen.ndim - 1) + mean.shape
    return jnp.clip((seen - mean.reshape(shape)) / deviation.reshape(shape), -_MOST, _MOST)


def _forward(weights: Any, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scores (…, C) and places (…, C)."""
    (first, shift), (second, offset) = weights
    leading = (1,) * (inputs.ndim - 1)
    hidden = jax.nn.leaky_relu(inputs @ first + shift.reshape(*leading, -1), 0.1)
    scores, places = jnp.split(hidden @ second + offset.reshape(*leading, -1), 2, axis=-1)
    return scores, jax.nn.sigmoid(places)
