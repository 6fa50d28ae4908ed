"""Simplex ∩ L2 ball, also with the top class kept: linear programs, projections, and the smallest cosine.

All three walk along z(κ) = Π(y + κ d), the projection on the simplex of a ray from the centre of the ball. The
distance ‖z(κ) − y‖ never falls with κ, so bisection finds where the walk leaves the ball; by the optimality conditions
that point is the maximiser of ⟨d, z⟩ (κ unbounded), or the projection of y + d on simplex ∩ ball (κ ≤ 1).
"""

import jax
import jax.numpy as jnp
import optax

from pp_jax.gram import Gram, LastLayer

# Steps of the projected gradient method, used where a Gram matrix is stored.
_DESCENT_STEPS = 100


def project_simplex(v: jax.Array, *, keep: jax.Array | None = None) -> jax.Array:
    """Return the Euclidean projection of v on the simplex, or on the part of it where class `keep` is on top.

    Classes above the kept one are first pooled with it at the level t where Σ_j (v_j − t)⁺ = t − v_keep; clipping at
    zero and the shift to a unit sum then keep the order.

    Args:
        v: any vector, (K,).
        keep: the class to keep on top, or None.

    Returns:
        The projection, (K,).
    """
    if keep is not None:
        others = jnp.arange(v.shape[-1]) != keep
        ranked = jnp.sort(jnp.where(others, v, -jnp.inf), descending=True)[:-1]
        sizes = jnp.arange(2, v.shape[-1] + 1, dtype=v.dtype)
        pools = (v[keep] + jnp.cumsum(ranked)) / sizes
        level = jnp.maximum(v[keep], jnp.max(pools))
        v = jnp.where(others, jnp.minimum(v, level), level)
    return optax.projections.projection_simplex(v - jnp.max(v))


def linear_max_l2(
    y: jax.Array, c: jax.Array, epsilon: jax.Array | float, *, keep: jax.Array | None = None
) -> jax.Array:
    """Return the point of simplex ∩ L2 ball with the largest inner product with `c`.

        argmax_z ⟨z, c⟩   s.t.   z ∈ Δ^K,  ‖z − y‖₂ ≤ ε   (and z_keep ≥ z_j for all j)

    Args:
        y: centre of the ball, a posterior, (K,).
        c: gain per unit of mass on each class, (K,).
        epsilon: radius of the L2 ball, ≥ 0.
        keep: the class to keep on top, or None.

    Returns:
        The maximiser, to the precision of a bisection in float, (K,).
    """
    z, _ = _linear_walk(y, c, jnp.asarray(epsilon, y.dtype), keep)
    return shrink_l2(z, y, jnp.asarray(epsilon, y.dtype))


def linear_bound_l2(
    y: jax.Array, c: jax.Array, epsilon: jax.Array | float, *, keep: jax.Array | None = None
) -> jax.Array:
    """Return an upper bound on the value of `linear_max_l2`, equal to it up to the precision of the bisection.

    By weak duality no ⟨c, z⟩ in the set exceeds ⟨c, z(κ)⟩ + (ε² − ‖z(κ) − y‖²)/(2κ), whatever κ > 0: a bisection that
    ended too early shows as a gap.

    Args:
        y: centre of the ball, (K,).
        c: gain per unit of mass on each class, (K,).
        epsilon: radius of the L2 ball, ≥ 0.
        keep: the class to keep on top, or None.

    Returns:
        The bound, a scalar.
    """
    epsilon = jnp.asarray(epsilon, y.dtype)
    z, length = _linear_walk(y, c, epsilon, keep)
    # z(κ) was found with c centred and scaled to one; the bound is multiplied by what was divided.
    size = jnp.linalg.norm(c - jnp.mean(c))
    unspent = (epsilon - jnp.linalg.norm(z - y)) * (epsilon + jnp.linalg.norm(z - y))
    slack = jnp.where(length > 0, unspent / (2 * jnp.where(length > 0, length, 1)), 0)
    return c @ jnp.where(epsilon > 0, z, y) + size * slack


def _linear_walk(y: jax.Array, c: jax.Array, epsilon: jax.Array, keep: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Follow Π(y + κg), g of norm one along c, to the end of the ball; the point and κ."""
    bits = _bits(y)
    gain = c - jnp.mean(c)
    size = jnp.linalg.norm(gain)
    gain = gain / jnp.where(size > 0, size, 1)

    def walk(x: jax.Array) -> jax.Array:
        return project_simplex(y + epsilon * jnp.exp2(x) * gain, keep=keep)

    def inside(x: jax.Array) -> jax.Array:
        return jnp.linalg.norm(walk(x) - y) <= epsilon

    # κ ≥ ε, since a projection never moves further than its argument.
    end = _last(inside, 0.0, float(bits), bits + 6, y.dtype)
    return walk(end), epsilon * jnp.exp2(end)


def smallest_cosine_l2(y: jax.Array, gram: Gram, epsilon: jax.Array, *, keep: jax.Array | None = None) -> jax.Array:
    """Return z in simplex ∩ L2 ball with the smallest cosine between Gᵀz and Gᵀy, if that is negative.

    For a last layer the optimum lies on the walk from y through p, by bisection; otherwise projected gradient descent.

    Args:
        y: the posterior, (K,).
        gram: the Gram matrix as an operator.
        epsilon: radius of the L2 ball.
        keep: the class to keep on top, or None.

    Returns:
        z, (K,); not meaningful where no feasible cosine is negative.
    """
    if isinstance(gram, LastLayer):
        return _walk_through_posterior(y, gram.p, epsilon, keep)
    return _descend(y, gram, epsilon, keep)


def shrink_l2(z: jax.Array, y: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Pull z towards y into the L2 ball."""
    distance = jnp.linalg.norm(z - y)
    return y + (z - y) * jnp.minimum(1, epsilon / jnp.where(distance > 0, distance, 1))


def _walk_through_posterior(y, p, epsilon, keep) -> jax.Array:
    """Follow Π(y + κ(p − y)) until the ball ends, or until u = z − p is orthogonal to u + (κ − 1)(y − p)."""
    bits = _bits(y)

    def walk(x):
        return project_simplex(y + jnp.exp2(x) * (p - y), keep=keep)

    def useful(x):
        z = walk(x)
        u = z - p
        short = u @ u + (jnp.exp2(x) - 1) * (u @ (y - p)) >= 0
        return (jnp.linalg.norm(z - y) <= epsilon) & (short | (x <= 0))

    return shrink_l2(walk(_last(useful, -10.0, 0.8 * bits, bits + 6, y.dtype)), y, epsilon)


def _descend(y, gram: Gram, epsilon, keep) -> jax.Array:
    """Minimise the cosine by projected gradient steps with momentum that restarts whenever it does not help."""
    target = gram.apply(y) / jnp.sqrt(gram.quadratic(y))
    values = gram.matrix()
    # The largest eigenvalue, bounded by a norm that is never far above it.
    largest = jnp.sqrt(jnp.sum((values @ values) ** 2)) ** 0.5
    tiny = jnp.finfo(y.dtype).tiny

    def cosine(z):
        size = jnp.sqrt(jnp.maximum(gram.quadratic(z), tiny))
        return (target @ z) / size, size

    def step(_, carry):
        z, before, age = carry
        ahead = z + age / (age + 3) * (z - before)
        value, size = cosine(ahead)
        slope = (target - value * gram.apply(ahead) / size) / size
        rate = size**2 / (largest * jnp.maximum(jnp.abs(value), 1e-3))
        new = _project(ahead - rate * slope, y, epsilon, keep)
        worse = cosine(new)[0] > cosine(z)[0]
        return jnp.where(worse, z, new), z, jnp.where(worse, 0, age + 1)

    start = linear_max_l2(y, -target, epsilon, keep=keep)
    return jax.lax.fori_loop(0, _DESCENT_STEPS, step, (start, start, jnp.zeros((), y.dtype)))[0]


def _project(v, y, epsilon, keep) -> jax.Array:
    """The Euclidean projection on simplex ∩ L2 ball."""

    def walk(share):
        return project_simplex(y + share * (v - y), keep=keep)

    def inside(share):
        return jnp.linalg.norm(walk(share) - y) <= epsilon

    return shrink_l2(walk(_last(inside, 0.0, 1.0, _bits(y), y.dtype)), y, epsilon)


def _last(accept, low: float, high: float, steps: int, dtype) -> jax.Array:
    """Return where, on [low, high], the predicate turns from true to false, by bisection from above."""

    def halve(_, bracket):
        lo, hi = bracket
        middle = (lo + hi) / 2
        ok = accept(middle)
        return jnp.where(ok, middle, lo), jnp.where(ok, hi, middle)

    bracket = jnp.asarray(low, dtype), jnp.asarray(high, dtype)
    return jnp.where(accept(bracket[1]), bracket[1], jax.lax.fori_loop(0, steps, halve, bracket)[1])


def _bits(y: jax.Array) -> int:
    """The number of bits of the mantissa."""
    return jnp.finfo(y.dtype).nmant + 1
