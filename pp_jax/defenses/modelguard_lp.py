"""ModelGuard-W's linear program, without an LP solver: the answer of least expected log-posterior.

A class's cost log(y_k + c) grows with y_k, so that one sort of y puts the classes in the order of cost. For a fixed
t = z_top the rest is a boxed program: a class may hold up to t − δ, the classes of least y are filled first and those
of largest y emptied first. Prefix sums of y turn each such program into element-wise work, and its value is convex and
piecewise linear in t.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pp_jax.pytree import pytree


def least_log_posterior(
    y: jax.Array, epsilon: jax.Array | float, *, margin: float = 1e-4, offset: float = 1e-6, steps: int | None = None
) -> jax.Array:
    """Return the point of simplex ∩ L1 ball with the least expected log-posterior that keeps the top class by a margin.

        argmin_z Σ_k z_k log(y_k + c)   s.t.   z ∈ Δ^K,  ‖z − y‖₁ ≤ ε,  z_top ≥ z_j + δ for all j ≠ top

    The value is minimised over t = z_top by intersecting the tangents at both ends of a bracket, in turn with
    bisection; on a piecewise linear function this ends at a kink, the exact optimum. O(K log K + steps·K). Classes of
    equal y get equal answers. Where the ball is too small for the margin (ε < 2(K − 1)δ is
    necessary), z keeps the margin and leaves the ball by less than that.

    Args:
        y: centre of the ball, a posterior, (K,).
        epsilon: radius of the L1 ball, 0 ≤ ε ≤ 2.
        margin: δ, by which the first top class of y stays above the others.
        offset: c, which keeps the logarithm finite.
        steps: evaluations of the value (by default enough for the precision of y: 10, or 16 in float64).

    Returns:
        The minimiser, (K,).

    Source: the objective is ModelGuard-W's (Tang et al., 2024); the solution is that of docs/theory.md, "Top class
    kept", with t − δ in place of t.
    """
    steps = steps or (16 if y.dtype == jnp.float64 else 10)
    program = _Program.of(y, jnp.asarray(epsilon, y.dtype) / 2, margin, offset)
    best = _convex_valley(program, steps)
    others = jnp.arange(y.shape[-1]) != jnp.argmax(y)
    z = jnp.where(others, program.answer(y, best), 0)
    return jnp.where(others, z, 1 - jnp.sum(z))


class _Split(NamedTuple):
    """The program for one fixed t = z_top: how much is gained and lost by the others, and where filling ends."""

    t: jax.Array
    value: jax.Array
    slope: jax.Array
    gained: jax.Array
    lost: jax.Array
    last_filled: jax.Array
    last_emptied: jax.Array


@pytree
@dataclasses.dataclass(frozen=True)
class _Program:
    """The classes but the top one in descending order of y, with prefix sums; what every fixed t shares."""

    top: jax.Array
    rest: jax.Array
    costs: jax.Array
    to_left: jax.Array
    budget: jax.Array
    margin: float
    offset: float

    @classmethod
    def of(cls, y: jax.Array, budget: jax.Array, margin: float, offset: float) -> "_Program":
        """The program around `y`."""
        ordered = _descending(y)
        rest = ordered[1:]
        return cls(ordered[0], rest, jnp.log(rest + offset), jnp.cumsum(rest), budget, margin, offset)

    def cost(self, y: jax.Array) -> jax.Array:
        """log(y + c)."""
        return jnp.log(y + self.offset)

    def levels(self) -> jax.Array:
        """The least, the clean and the largest z_top."""
        count = jnp.arange(1, self.rest.shape[-1] + 1, dtype=self.rest.dtype)
        # What must be skimmed off the largest classes, with and without the top one, so that they leave it the margin.
        skim = self.to_left + count * self.margin - self.budget
        low = jnp.max(jnp.maximum(skim / count, (skim + self.top) / (count + 1)))
        low = jnp.maximum(low, self.top - self.budget)
        low = jnp.maximum(low, (1 + count[-1] * self.margin) / (count[-1] + 1))
        high = jnp.minimum(self.top + self.budget, 1)
        low = jnp.minimum(low, high)
        return jnp.stack([low, jnp.maximum(self.top, low), high])

    def split(self, t: jax.Array) -> _Split:
        """Solve the boxed program with z_top = t."""
        cap = jnp.maximum(t - self.margin, 0)
        rest, index = self.rest, jnp.arange(self.rest.shape[-1], dtype=self.rest.dtype)
        above, kept = rest > cap, jnp.minimum(rest, cap)
        over, room = jnp.sum(rest - kept), cap - kept
        # Room of a class and all below it, holdings of a class and all above it: cumulative sums without a scan.
        to_right = self.to_left[-1] - self.to_left + rest
        room_sum = jnp.where(above, jnp.sum(room), (rest.shape[-1] - index) * cap - to_right)
        kept_sum = jnp.where(above, (index + 1) * cap, self.to_left - over)
        # Mass that the cap sets free (or, where negative, that the top class asks for).
        free = self.top - t + over
        meeting = jnp.minimum(room_sum, free + kept_sum)
        most, limit = jnp.max(meeting), jnp.maximum(self.budget - jnp.maximum(t - self.top, 0), 0)
        gained = jnp.maximum(jnp.minimum(most, limit), jnp.maximum(free, 0))
        lost = gained - free
        last_filled = jnp.min(jnp.where(room_sum >= gained, rest, rest[0]))
        last_emptied = jnp.max(jnp.where(kept_sum >= lost, rest, rest[-1]))
        z = kept + jnp.clip(gained - (room_sum - room), 0, room) - jnp.clip(lost - (kept_sum - kept), 0, kept)
        # The prices of one more unit of gain, and of loss; one price where gains and losses meet at a class.
        up, down = self.cost(last_filled), self.cost(last_emptied)
        shared = jnp.where(jnp.any((meeting >= most) & (room_sum <= free + kept_sum)), down, up)
        bound = most > limit
        up, down = jnp.where(bound, jnp.minimum(up, down), shared), jnp.where(bound, down, shared)
        capped = jnp.maximum(jnp.where(above, down, up) - self.costs, 0)
        slope = self.cost(self.top) - jnp.where(t > self.top, up, down) - jnp.sum(capped)
        value = self.cost(self.top) * t + jnp.sum(self.costs * z)
        return _Split(t, value, slope, gained, lost, last_filled, last_emptied)

    def answer(self, y: jax.Array, split: _Split) -> jax.Array:
        """The solution in the order of `y`, shared evenly by classes of equal y; the top class's entry is void."""
        cap = jnp.maximum(split.t - self.margin, 0)
        kept, room = jnp.minimum(y, cap), jnp.maximum(cap - y, 0)

        def shared(amount: jax.Array, whole: jax.Array, partly: jax.Array, size: jax.Array) -> jax.Array:
            """What is left of `amount` after the classes that take part wholly, for each that takes part partly."""
            left = amount - jnp.sum(jnp.where(whole, size, 0))
            return jnp.maximum(left, 0) / jnp.maximum(jnp.sum(partly), 1)

        rest_kept = jnp.minimum(self.rest, cap)
        fill = shared(split.gained, self.rest < split.last_filled, self.rest == split.last_filled, cap - rest_kept)
        drain = shared(split.lost, self.rest > split.last_emptied, self.rest == split.last_emptied, rest_kept)
        filled = jnp.where(y < split.last_filled, room, jnp.where(y == split.last_filled, jnp.minimum(fill, room), 0))
        emptied = jnp.where(y > split.last_emptied, kept, jnp.where(y == split.last_emptied, drain, 0))
        return jnp.maximum(kept + filled - emptied, 0)


def _descending(y: jax.Array) -> jax.Array:
    """`y` ≥ 0 in descending order."""
    # The bits of non-negative numbers are ordered as they are, and XLA's CPU back end sorts whole numbers 8 times as
    # fast as floating-point ones, whose NaNs it has to look after.
    whole = jnp.int64 if y.dtype == jnp.float64 else jnp.int32
    bits = jax.lax.bitcast_convert_type(jnp.abs(y), whole)
    return jax.lax.bitcast_convert_type(jax.lax.sort(bits, is_stable=False), y.dtype)[::-1]


def _convex_valley(program: _Program, steps: int) -> _Split:
    """Return the split of the least value between the first and the last level."""

    def select(condition: jax.Array, a: _Split, b: _Split) -> _Split:
        return jax.tree.map(lambda x, z: jnp.where(condition, x, z), a, b)

    def narrow(here: _Split, low: _Split, high: _Split) -> tuple[_Split, _Split]:
        return select(here.slope < 0, here, low), select(here.slope < 0, high, here)

    def step(i: jax.Array, carry: tuple[_Split, _Split, _Split]) -> tuple[_Split, _Split, _Split]:
        low, high, best = carry
        gap, bend = high.t - low.t, high.slope - low.slope
        # Where the tangents at both ends meet, measured from the lower end.
        meet = (high.slope * gap - (high.value - low.value)) / jnp.where(bend > 0, bend, 1)
        tangent = jnp.where((bend > 0) & (meet > 0) & (meet < gap), meet, gap / 2)
        here = program.split(low.t + jnp.where(i % 3 == 2, gap / 2, tangent))
        return *narrow(here, low, high), select(here.value < best.value, here, best)

    first = jax.vmap(program.split)(program.levels())
    low, middle, high = (jax.tree.map(lambda x, i=i: x[i], first) for i in range(3))
    best = jax.tree.map(lambda x: x[jnp.argmin(first.value)], first)
    return jax.lax.fori_loop(0, steps, step, (*narrow(middle, low, high), best))[2]
