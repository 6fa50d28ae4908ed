"""Linear programs over simplex ∩ L1 ball, solved by sorting.

A point z of the simplex with ‖z − y‖₁ ≤ ε is y with a mass of at most ε/2 moved between classes. A linear objective
moves it from the cheapest classes to the dearest one; where the top class must stay on top, the others are capped at
t = z_top, and the best value is concave in t.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Up to this many classes, K² comparisons cost less than a sort.
_COMPARE_UP_TO = 32


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
    if count <= _COMPARE_UP_TO:
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
    linear, and is maximised by intersecting the tangents at both ends of a bracket, in turn with bisection.
    O(K log K + steps·K).

    Args:
        y: centre of the ball, a posterior with y_top ≥ y_j, (K,).
        c: gain per unit of mass on each class, (K,).
        epsilon: radius of the L1 ball, 0 ≤ ε ≤ 2.
        top: the class to keep on top; by default the first argmax of y.
        steps: evaluations of V (by default enough for the precision of y: 18, or 30 in float64); with fewer the point
            is feasible, but perhaps not the best.

    Returns:
        The maximiser, (K,).

    Source: derived in docs/theory.md.
    """
    top = jnp.argmax(y) if top is None else jnp.asarray(top)
    steps = steps or (30 if y.dtype == jnp.float64 else 18)
    budget = jnp.asarray(epsilon, y.dtype) / 2
    others = jnp.arange(y.shape[-1]) != top
    # In descending order of gain; the top class goes last and holds nothing, so its place needs no true gain.
    ordered, restored = _ordering(jnp.where(others, -c, jnp.inf))
    rest, gain = ordered(jnp.where(others, y, 0)), ordered(jnp.where(others, c, jnp.min(c)))
    present = jnp.arange(y.shape[-1]) < y.shape[-1] - 1
    split = partial(_split_at, rest=rest, gain=gain, present=present, y_top=y[top], c_top=c[top], budget=budget)
    best = _concave_peak(lambda t: split(t)[1], _range_of_top(y, y[top], budget), steps).t
    z = restored(split(best)[0])
    return jnp.where(others, z, jnp.maximum(1 - jnp.sum(z), jnp.max(z)))


def _ordering(key: jax.Array) -> tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]:
    """Two functions that put classes in (stable) ascending order of `key`, and back."""
    size = key.shape[-1]
    if size > _COMPARE_UP_TO:
        order = jnp.argsort(key)
        return lambda x: x[order], lambda x: jnp.zeros_like(x).at[order].set(x)
    index = jnp.arange(size)
    earlier = (key[None, :] < key[:, None]) | ((key[None, :] == key[:, None]) & (index[None, :] < index[:, None]))
    held_by = index[:, None] == jnp.sum(earlier, axis=1)[None, :]
    return (
        lambda x: jnp.sum(jnp.where(held_by, x[None, :], 0), axis=1),
        lambda x: jnp.sum(jnp.where(held_by, x[:, None], 0), axis=0),
    )


def _cumsum(x: jax.Array, *, reverse: bool = False) -> jax.Array:
    """Cumulative sum; of a short vector by a triangular product, since a scan compiles and runs slowly."""
    size = x.shape[-1]
    if size > _COMPARE_UP_TO:
        return jax.lax.cumsum(x, reverse=reverse)
    ones = jnp.tril(jnp.ones((size, size), x.dtype))
    return jnp.matmul(x, ones if reverse else ones.T, precision="highest")


def _range_of_top(y: jax.Array, y_top: jax.Array, budget: jax.Array) -> jax.Array:
    """Bound z_top: from the level to which `budget` can be skimmed off the largest classes, to y_top + budget."""
    sizes = jnp.arange(1, y.shape[-1] + 1, dtype=y.dtype)
    skimmed = (_cumsum(jnp.sort(y, descending=True)) - budget) / sizes
    low = jnp.maximum(jnp.max(skimmed), 1 / sizes[-1])
    # The middle entry is a kink of the value at which the optimum often lies.
    return jnp.stack([jnp.minimum(low, y_top), y_top, jnp.minimum(y_top + budget, 1)])


class _Split(NamedTuple):
    """The program for one fixed value of z_top = t: its value, and the slope of the value in t."""

    t: jax.Array
    value: jax.Array
    slope: jax.Array


def _concave_peak(split: Callable[[jax.Array], _Split], levels: jax.Array, steps: int) -> _Split:
    """Return the split of the largest value between the first and the last of three levels."""

    def select(condition, a, b):
        return jax.tree.map(lambda x, z: jnp.where(condition, x, z), a, b)

    def narrow(here, low, high):
        return select(here.slope > 0, here, low), select(here.slope > 0, high, here)

    def step(i, carry):
        low, high, best = carry
        gap, bend = high.t - low.t, low.slope - high.slope
        # Where the tangents at both ends meet, measured from the lower end.
        meet = ((high.value - low.value) - high.slope * gap) / jnp.where(bend > 0, bend, 1)
        tangent = jnp.where((bend > 0) & (meet > 0) & (meet < gap), meet, gap / 2)
        here = split(low.t + jnp.where(i % 3 == 2, gap / 2, tangent))
        return *narrow(here, low, high), select(here.value > best.value, here, best)

    first = jax.vmap(split)(levels)
    low, middle, high = (jax.tree.map(lambda x, i=i: x[i], first) for i in range(3))
    best = jax.tree.map(lambda x: x[jnp.argmax(first.value)], first)
    return jax.lax.fori_loop(0, steps, step, (*narrow(middle, low, high), best))[2]


def _split_at(t, *, rest, gain, present, y_top, c_top, budget) -> tuple[jax.Array, _Split]:
    """Solve the boxed program with z_top = t, the other classes in descending order of `gain`."""
    kept = jnp.minimum(rest, t)
    room = jnp.where(present, jnp.maximum(t - rest, 0), 0)
    # Mass that the caps set free (or, where negative, that the top class asks for).
    free = 1 - t - jnp.sum(kept)
    room_sum, kept_sum = _cumsum(room), _cumsum(kept, reverse=True)
    # Gains fill from the left, losses from the right, until they meet at one class or the budget ends.
    meeting = jnp.minimum(room_sum, free + kept_sum)
    most, limit = jnp.max(meeting), jnp.maximum(budget - jnp.maximum(t - y_top, 0), 0)
    gained = jnp.maximum(jnp.minimum(most, limit), jnp.maximum(free, 0))
    lost = gained - free
    z = kept + jnp.clip(gained - (room_sum - room), 0, room) - jnp.clip(lost - (kept_sum - kept), 0, kept)
    # The prices of one more unit of gain, and of loss: those of the classes that are partly full.
    up = jnp.max(jnp.where(room_sum >= gained, gain, gain[-1]))
    down = jnp.min(jnp.where(kept_sum >= lost, gain, gain[0]))
    shared = jnp.where(jnp.any((meeting >= most) & (room_sum <= free + kept_sum)), down, up)
    bound = most > limit
    up, down = jnp.where(bound, jnp.maximum(up, down), shared), jnp.where(bound, down, shared)
    capped = jnp.where(present, jnp.maximum(gain - jnp.where(t > rest, up, down), 0), 0)
    slope = c_top - jnp.where(t > y_top, up, down) + jnp.sum(capped)
    return z, _Split(t, c_top * t + jnp.sum(gain * z), slope)
