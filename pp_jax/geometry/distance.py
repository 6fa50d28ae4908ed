"""Distances between posteriors: each is a ball around the clean posterior and the way to its boundary in one object.

L1   ‖y − ỹ‖₁ ∈ [0, 2]          L2   ‖y − ỹ‖₂ ∈ [0, √2]          KL   Σ y log(y/ỹ) ∈ [0, ∞), in nats
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.special import rel_entr
from optax import projections

# A divergence of float32 terms is measured too low by up to this many units in the last place: the line search stops
# short by as much, so that the budget holds.
_MEASURED_LOW = 4

# Alternating projections stop once the ball is met to within this (the released code's rule), or after that many
# rounds.
_PROJECTION_SLACK = 1e-4
_PROJECTION_ROUNDS = 1000

Norm = Literal["l1", "l2"]
_ONTO_BALL: dict[Norm | None, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "l1": projections.projection_l1_ball,
    "l2": projections.projection_l2_ball,
}


class Distance(Protocol):
    """A convex distance to the clean posterior, zero there."""

    @property
    def largest(self) -> float:
        """The largest value on the simplex: budgets beyond it are refused."""

    @property
    def norm(self) -> Norm | None:
        """Which norm of ỹ − y it is, or None: a ball of a norm has projections and exact solvers."""

    def __call__(self, probs: jax.Array, answer: jax.Array) -> jax.Array:
        """dist(y, ỹ) for (K,) and (K,)."""

    def line_search(self, probs: jax.Array, target: jax.Array, epsilon: jax.Array) -> jax.Array:
        """The largest α ∈ [0, 1] with dist(y, y + α(target − y)) ≤ ε."""

    def line_search_vertices(self, probs: jax.Array, epsilon: jax.Array) -> jax.Array:
        """The same α towards each of the K vertices, (K,)."""


@dataclasses.dataclass(frozen=True)
class L1:
    """‖y − ỹ‖₁, twice the total variation; in [0, 2]."""

    largest = 2.0
    norm: ClassVar[Norm] = "l1"

    def __call__(self, probs: jax.Array, answer: jax.Array) -> jax.Array:
        """‖y − ỹ‖₁."""
        return jnp.sum(jnp.abs(probs - answer), axis=-1)

    def line_search(self, probs: jax.Array, target: jax.Array, epsilon: jax.Array) -> jax.Array:
        """α = min(1, ε/‖target − y‖₁)."""
        return _ratio(epsilon, self(probs, target))

    def line_search_vertices(self, probs: jax.Array, epsilon: jax.Array) -> jax.Array:
        """α_k = min(1, ε/(2(1 − y_k)))."""
        return _ratio(epsilon, 2 * (1 - probs))

    def project(self, probs: jax.Array, target: jax.Array, epsilon: jax.Array) -> jax.Array:
        """`target` moved into the ball and the simplex by alternating Euclidean projections."""
        return project(probs, target, epsilon, distance=self)


@dataclasses.dataclass(frozen=True)
class L2:
    """‖y − ỹ‖₂, in [0, √2]."""

    largest = math.sqrt(2)
    norm: ClassVar[Norm] = "l2"

    def __call__(self, probs: jax.Array, answer: jax.Array) -> jax.Array:
        """‖y − ỹ‖₂."""
        return jnp.sqrt(jnp.sum((probs - answer) ** 2, axis=-1))

    def line_search(self, probs: jax.Array, target: jax.Array, epsilon: jax.Array) -> jax.Array:
        """α = min(1, ε/‖target − y‖₂)."""
        return _ratio(epsilon, self(probs, target))

    def line_search_vertices(self, probs: jax.Array, epsilon: jax.Array) -> jax.Array:
        """α_k = min(1, ε/√(‖y‖² − y_k² + (1 − y_k)²))."""
        return _ratio(epsilon, jnp.sqrt((1 - probs) ** 2 + jnp.maximum(probs @ probs - probs**2, 0)))

    def project(self, probs: jax.Array, target: jax.Array, epsilon: jax.Array) -> jax.Array:
        """`target` moved into the ball and the simplex by alternating Euclidean projections."""
        return project(probs, target, epsilon, distance=self)


@dataclasses.dataclass(frozen=True)
class KL:
    """KL(y‖ỹ) = Σ y log(y/ỹ) in nats, with 0 log 0 = 0; infinite where ỹ = 0 < y."""

    largest = math.inf
    norm: ClassVar[None] = None

    def __call__(self, probs: jax.Array, answer: jax.Array) -> jax.Array:
        """KL(y‖ỹ)."""
        return jnp.maximum(jnp.sum(rel_entr(probs, answer), axis=-1), 0)

    def line_search(self, probs: jax.Array, target: jax.Array, epsilon: jax.Array) -> jax.Array:
        """α by bisection; the divergence grows with α. It ends within a few units in the last place below ε."""

        def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bounds
            middle = (low + high) / 2
            inside = self(probs, between(probs, target, middle)) <= limit
            return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

        limit = epsilon * (1 - _MEASURED_LOW * jnp.finfo(probs.dtype).eps)
        whole = self(probs, target) <= limit
        bounds = (jnp.zeros((), probs.dtype), jnp.ones((), probs.dtype))
        low, _ = jax.lax.fori_loop(0, jnp.finfo(probs.dtype).nmant + 2, halve, bounds)
        return jnp.where(whole, 1, low)

    def line_search_vertices(self, probs: jax.Array, epsilon: jax.Array) -> jax.Array:
        """α towards each vertex, each by its own bisection."""
        vertices = jnp.eye(probs.shape[-1], dtype=probs.dtype)
        return jax.vmap(self.line_search, (None, 0, None))(probs, vertices, epsilon)


def between(probs: jax.Array, target: jax.Array, step: jax.Array) -> jax.Array:
    """(1 − α)y + α·target, (K,): both ends exactly, and what is left of y to the last bit where α is almost one."""
    return (1 - step) * probs + step * target


def check_budget(epsilon: jax.Array | float, distance: Distance) -> None:
    """Refuse a budget outside [0, largest]; one that `jit` or `vmap` is tracing cannot be seen and passes.

    Raises:
        ValueError: naming the value and the range.
    """
    if epsilon is None or isinstance(epsilon, str | bytes):
        raise ValueError(f"epsilon must be a number of at least 0, not {epsilon!r}")
    try:
        low, high = float(jnp.min(epsilon)), float(jnp.max(epsilon))
    except (jax.errors.ConcretizationTypeError, TypeError):
        return
    if not (low >= 0 and high <= distance.largest):
        value = low if not low >= 0 else high
        limit = "" if math.isinf(distance.largest) else f" and at most {distance.largest:.4g}"
        raise ValueError(f"epsilon must be at least 0{limit} in {type(distance).__name__}, not {value:.6g}")


def check_norm(solver: object, distance: Distance) -> None:
    """Refuse a distance that is not a norm (KL), for a solver that needs one.

    Raises:
        ValueError: naming the solver and the distance.
    """
    if distance.norm is None:
        raise ValueError(f"{type(solver).__name__} needs the distance L1 or L2, not {type(distance).__name__}")


def project(probs: jax.Array, target: jax.Array, epsilon: jax.Array, *, distance: Distance) -> jax.Array:
    """`target` moved into the ball of a norm around y and into the simplex, by Euclidean projections in turn.

    Args:
        probs: the centre y, (K,).
        target: what is moved, (K,).
        epsilon: the ball's radius; an empty ball is y itself.
        distance: one that has a `norm`.

    Returns:
        The point, (K,), on the simplex and within 1e-4 of the ball (the published stopping rule), or after 1000 rounds.
    """
    onto_ball = _ONTO_BALL[distance.norm]
    # The projections divide by the radius.
    radius = jnp.where(epsilon > 0, epsilon, 1)

    def outside(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        point, rounds = carry
        return (distance(probs, point) > radius + _PROJECTION_SLACK) & (rounds < _PROJECTION_ROUNDS)

    def once(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        point, rounds = carry
        point = projections.projection_simplex(probs + onto_ball(point - probs, radius))
        return point, rounds + 1

    point, _ = jax.lax.while_loop(outside, once, (target, jnp.zeros((), jnp.int32)))
    return jnp.where(epsilon > 0, point, probs)


def _ratio(epsilon: jax.Array, length: jax.Array) -> jax.Array:
    """min(1, ε/length), 1 where the length is within ε (also 0/0)."""
    within = length <= epsilon
    return jnp.where(within, 1, epsilon / jnp.where(within, 1, length))
