"""How far an image may be moved: each ball is a norm, its steepest direction, its projection and its uniform draw.

LInfBall   max |δ| ≤ r          L2Ball   ‖δ‖₂ ≤ r          L1Ball   ‖δ‖₁ ≤ r,   δ = x − x⁰ in pixel units
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
from optax import projections


class Ball(Protocol):
    """The images within a radius of one image; hashable."""

    def norm(self, change: jax.Array) -> jax.Array:
        """‖δ‖, a scalar."""

    def steepest(self, direction: jax.Array) -> jax.Array:
        """The δ of norm 1 that goes furthest along a direction, argmax ⟨δ, v⟩; zero where v is."""

    def project(self, image: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """The nearest image, in L2, within `radius` of `start`."""

    def draw(self, key: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """An image uniformly at random within `radius` of `start`."""


@dataclasses.dataclass(frozen=True)
class LInfBall:
    """max |δ| ≤ r: no pixel moves further; steps are signs."""

    def norm(self, change: jax.Array) -> jax.Array:
        """The largest |δ|."""
        return jnp.max(jnp.abs(change))

    def steepest(self, direction: jax.Array) -> jax.Array:
        """The sign of every entry."""
        return jnp.sign(direction)

    def project(self, image: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """Every pixel on its own."""
        return jnp.clip(image, start - radius, start + radius)

    def draw(self, key: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """Every pixel on its own."""
        return start + radius * jax.random.uniform(key, start.shape, start.dtype, -1, 1)


@dataclasses.dataclass(frozen=True)
class L2Ball:
    """‖δ‖₂ ≤ r; steps go along the direction itself."""

    def norm(self, change: jax.Array) -> jax.Array:
        """√Σ δ²."""
        return jnp.sqrt(jnp.sum(change**2))

    def steepest(self, direction: jax.Array) -> jax.Array:
        """The direction at length 1."""
        largest = jnp.max(jnp.abs(direction))  # divided by first, so that no square underflows
        scaled = direction / jnp.where(largest > 0, largest, 1)
        length = self.norm(scaled)
        return scaled / jnp.where(length > 0, length, 1)

    def project(self, image: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """δ shortened to the radius."""
        change = image - start
        length = self.norm(change)
        return start + change * jnp.where(length > radius, radius / jnp.where(length > 0, length, 1), 1)

    def draw(self, key: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """A direction at random, and a length ∝ u^(1/n) of n pixels."""
        direction_key, length_key = jax.random.split(key)
        direction = self.steepest(jax.random.normal(direction_key, start.shape, start.dtype))
        return start + radius * jax.random.uniform(length_key, (), start.dtype) ** (1 / start.size) * direction


@dataclasses.dataclass(frozen=True)
class L1Ball:
    """‖δ‖₁ ≤ r; steps change one pixel."""

    def norm(self, change: jax.Array) -> jax.Array:
        """Σ |δ|."""
        return jnp.sum(jnp.abs(change))

    def steepest(self, direction: jax.Array) -> jax.Array:
        """The sign of the largest entry (the first on ties) and zero elsewhere."""
        flat = direction.ravel()
        largest = jnp.argmax(jnp.abs(flat))
        return jnp.zeros_like(flat).at[largest].set(jnp.sign(flat[largest])).reshape(direction.shape)

    def project(self, image: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """Every |δ| shortened by one and the same amount, as far as it goes."""
        flat = (image - start).ravel()
        return start + projections.projection_l1_ball(flat, radius).reshape(image.shape)

    def draw(self, key: jax.Array, start: jax.Array, radius: jax.Array | float) -> jax.Array:
        """Shares of the radius that are uniform on the simplex with one entry more, each with a sign."""
        share_key, sign_key = jax.random.split(key)
        shares = jax.random.exponential(share_key, (start.size + 1,), start.dtype)
        signs = jax.random.rademacher(sign_key, start.shape, start.dtype)
        return start + radius * signs * (shares / jnp.sum(shares))[:-1].reshape(start.shape)
