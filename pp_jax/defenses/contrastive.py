"""A plane in which a victim's features of one class lie together: a small network, supervised contrastive loss."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pp_jax.pytree import pytree

HIDDEN = 64
"""Units of the network's only hidden layer."""
_BATCH = 256
_TEMPERATURE = 0.1
_RATE = 1e-3


@pytree
@dataclasses.dataclass(frozen=True)
class Plane:
    """Features in a plane, and where each class lies in it.

    u = V relu(U (h − m)/s + a)

    Attributes:
        weights: U, (F, hidden), a, (hidden,), and V, (hidden, 2).
        mean: m, (F,).
        deviation: s, a scalar.
        centres: μ, mean place of each class, (K, 2).
        scales: mean distance of each class's images from its centre, (K,).
    """

    weights: tuple[jax.Array, jax.Array, jax.Array]
    mean: jax.Array
    deviation: jax.Array
    centres: jax.Array
    scales: jax.Array

    def __call__(self, features: jax.Array) -> jax.Array:
        """The place of features, (F,), in the plane, (2,)."""
        return _placed(self.weights, (features - self.mean) / self.deviation)

    def distance(self, place: jax.Array, label: jax.Array) -> jax.Array:
        """How far a place is from a class's centre, in that class's mean distances."""
        return jnp.linalg.norm(place - self.centres[label]) / self.scales[label]


def plane_of(key: jax.Array, features: Any, labels: Any, *, classes: int, steps: int = 300) -> Plane:
    """Train the plane, and measure the classes in it.

    Args:
        key: of the initialisation and the batches.
        features: (N, F).
        labels: (N,).
        classes: K; one without features lies at the origin.
        steps: of Adam.
    """
    mean = np.mean(features, axis=0)
    rows = np.asarray(features, np.float32) - mean
    deviation = max(float(rows.std()), 1e-6)
    rows /= deviation
    first, second, order_key = jax.random.split(key, 3)
    size = rows.shape[1]
    weights = (
        jax.random.normal(first, (size, HIDDEN)) * np.sqrt(2 / size),
        jnp.zeros(HIDDEN),
        jax.random.normal(second, (HIDDEN, 2)) / np.sqrt(HIDDEN),
    )
    optimizer = optax.adam(_RATE)

    @jax.jit
    def step(carry: Any, batch: jax.Array, known: jax.Array) -> Any:
        weights, state = carry
        slope = jax.grad(lambda w: contrastive_loss(jax.vmap(_placed, (None, 0))(w, batch), known))(weights)
        updates, state = optimizer.update(slope, state)
        return optax.apply_updates(weights, updates), state

    carry, labels = (weights, optimizer.init(weights)), np.asarray(labels)
    draws = np.asarray(jax.random.randint(order_key, (max(steps, 1), min(_BATCH, len(rows))), 0, len(rows)))
    for batch in draws[:steps]:
        carry = step(carry, rows[batch], labels[batch])
    places = np.asarray(jax.vmap(_placed, (None, 0))(carry[0], jnp.asarray(rows)))
    groups = [places[labels == label] for label in range(classes)]
    centres = np.stack([group.mean(axis=0) if len(group) else np.zeros(2, np.float32) for group in groups])
    apart = [np.linalg.norm(group - centre, axis=1) for group, centre in zip(groups, centres, strict=True)]
    scales = np.asarray([max(float(own.mean()) if len(own) else 1.0, 1e-6) for own in apart], np.float32)
    return Plane(
        carry[0], jnp.asarray(mean, jnp.float32), jnp.float32(deviation), jnp.asarray(centres), jnp.asarray(scales)
    )


def contrastive_loss(places: jax.Array, labels: jax.Array) -> jax.Array:
    """The supervised contrastive loss of a batch, with unit vectors v = u/‖u‖ and temperature 0.1.

    L = −mean_i mean_{j ≠ i, same class} log [exp(v_i·v_j/t) / Σ_{l ≠ i} exp(v_i·v_l/t)]

    Args:
        places: (B, 2).
        labels: (B,).

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020.
    """
    unit = places / jnp.sqrt(jnp.sum(places**2, axis=1, keepdims=True) + 1e-12)
    own = jnp.eye(len(places), dtype=bool)
    logs = jax.nn.log_softmax(jnp.where(own, -jnp.inf, unit @ unit.T / _TEMPERATURE), axis=1)
    same = (labels[:, None] == labels[None]) & ~own
    each = jnp.sum(jnp.where(same, logs, 0), axis=1) / jnp.maximum(jnp.sum(same, axis=1), 1)
    return -jnp.mean(each)


def _placed(weights: Any, rows: jax.Array) -> jax.Array:
    """The place of standardised features."""
    inner, shift, outer = weights
    return jax.nn.relu(rows @ inner + shift) @ outer
