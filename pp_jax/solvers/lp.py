"""Linear programs over simplex ∩ L1 ball, solved by sorting.

A point z of the simplex with ‖z − y‖₁ ≤ ε is y with a mass of at most ε/2 moved between classes. A linear objective
moves it from the cheapest classes to the dearest one; where the top class must stay on top, the others are capped at
t = z_top, and the best value is concave in t (`top_kept`).
"""

import jax
import jax.numpy as jnp

from pp_jax.solvers.top_kept import COMPARE_UP_TO, Program


def linear_max_l1(y: jax.Array, c: jax.Array, epsilon: jax.Array | float) -> jax.Array:
    """Return the point of simplex ∩ L1 ball with the largest inner product with `c`.

        argmax_z ⟨z, c⟩   s.t.   z ∈ Δ^K,  ‖z − y‖₁ ≤ ε

    A mass m = min(1 − y_k, ε/2) goes to k = argmax c (the first, on ties), taken from the classes in ascending order of
    c until it is used up. Exact, O(K log K).

    Args:
        y: centre of the ball, a posterior, (K,).
        c: gain per unit of mass on each class, (K,).
        epsilon: radius of the L1 ball, 0 ≤ ε ≤ 2.

    Returns:
        The maximiser, (K,).

    Source: the closed form of gradient redirection (Mazeika et al., 2022); derived in docs/theory.md.
    """
    best = jax.nn.one_hot(jnp.argmax(c), y.shape[-1], dtype=bool)
    mass = jnp.minimum(jnp.sum(jnp.where(best, 0, y)), jnp.asarray(epsilon, y.dtype) / 2)
    givers = jnp.where(best, 0, y)
    # An infinite gain takes the receiver out of the queue of givers.
    taken = jnp.clip(mass - _mass_before(jnp.where(best, jnp.inf, c), givers), 0, givers)
    return jnp.where(best, y + jnp.sum(taken), y - taken)


def _mass_before(c: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum, for each class, the weights of the classes that come before it in (stable) ascending order of `c`."""
    count = c.shape[-1]
    if count <= COMPARE_UP_TO:
        index = jnp.arange(count)
        earlier = (c[None, :] < c[:, None]) | ((c[None, :] == c[:, None]) & (index[None, :] < index[:, None]))
        return jnp.sum(jnp.where(earlier, weights[None, :], 0), axis=1)
    order = jnp.argsort(c)
    ordered = weights[order]
    before = jnp.concatenate([jnp.zeros_like(ordered[:1]), jnp.cumsum(ordered)[:-1]])
    return jnp.zeros_like(weights).at[order].set(before)


def linear_max_l1_top(
    y: jax.Array,
    c: jax.Array,
    epsilon: jax.Array | float,
    *,
    top: jax.Array | int | None = None,
    steps: int | None = None,
) -> jax.Array:
    """Return the point of simplex ∩ L1 ball that keeps class `top` on top and has the largest inner product with `c`.

        argmax_z ⟨z, c⟩   s.t.   z ∈ Δ^K,  ‖z − y‖₁ ≤ ε,  z_top ≥ z_j for all j

    For a fixed t = z_top the rest is a boxed program, solved by sorting; its value V(t) is concave and piecewise
    linear, and is maximised by intersecting the tangents at both ends of a bracket, in turn with bisection, until the
    best value seen is what the tangents leave possible. O(K log K + steps·K).

    Args:
        y: centre of the ball, a posterior with y_top ≥ y_j, (K,).
        c: gain per unit of mass on each class, (K,).
        epsilon: radius of the L1 ball, 0 ≤ ε ≤ 2.
        top: the class to keep on top; by default the first argmax of y.
        steps: most evaluations of V after the first three (by default more than it takes); with fewer the point is
            feasible, but perhaps not the best.

    Returns:
        The maximiser, (K,).

    Source: derived in docs/theory.md.
    """
    program = Program.of(y, c, epsilon, top)
    return program.answer(program.peak(steps).t)


def linear_bound_l1_top(
    y: jax.Array, c: jax.Array, epsilon: jax.Array | float, *, top: jax.Array | int | None = None
) -> jax.Array:
    """Return an upper bound on the value of `linear_max_l1_top`, equal to it up to rounding where that is the optimum.

    The value of the dual program at the prices that the search ends with. Weak duality makes it a bound whatever the
    prices are: a search that missed the optimum shows as a gap.

    Args:
        y: centre of the ball, (K,).
        c: gain per unit of mass on each class, (K,).
        epsilon: radius of the L1 ball, 0 ≤ ε ≤ 2.
        top: the class to keep on top; by default the first argmax of y.

    Returns:
        The bound, a scalar.

    Source: derived in docs/theory.md.
    """
    program = Program.of(y, c, epsilon, top)
    return program.bound(program.peak())
