"""ModelGuard-W's linear program, without an LP solver: the response of least expected log-posterior.

A class's cost log(y_k + c) grows with y_k, so that one sort of y puts the classes in the order of cost. For a fixed
t = z_top the rest is a boxed program: a class may hold up to t − δ, the classes of least y are filled first and those
of largest y emptied first. Prefix sums of y turn each such program into element-wise work, and its value is convex and
piecewise linear in t.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pp_jax.geometry import simplex
from pp_jax.pytree import pytree

# What a chunk of the batch takes should stay in a CPU's cache.
_CACHE_BYTES = 2**18
# A value is the least when it is so many units in the last place from what the tangents leave possible.
_ROUNDING = 4
# Should the tangents not have met at the optimum after so many steps, the bracket is also halved now and then.
_TANGENTS = 16


def least_log_posterior(
    y: jax.Array, epsilon: jax.Array | float, *, margin: float = 1e-4, offset: float = 1e-6, steps: int = 48
) -> jax.Array:
    """Return the point of simplex ∩ L1 ball with the least expected log-posterior that keeps the top class by a margin.

        argmin_z Σ_k z_k log(y_k + c)   s.t.   z ∈ Δ^K,  ‖z − y‖₁ ≤ ε,  z_top ≥ z_j + δ for all j ≠ top

    The value is minimised over t = z_top by intersecting the tangents at both ends of a bracket, until they meet at a
    value already seen: on a piecewise linear function a kink, the exact optimum. O(K log K) and, a step, O(K). Classes
    of equal y get equal responses. Where the ball is too small for the margin (ε < 2(K − 1)δ is
    necessary), z keeps the margin and leaves the ball by less than that.

    Args:
        y: centre of the ball, a posterior, (K,).
        epsilon: radius of the L1 ball, 0 ≤ ε ≤ 2.
        margin: δ, by which the first top class of y stays above the others.
        offset: c, which keeps the logarithm finite.
        steps: most evaluations of the value; some ten are enough, at K = 1000 some seventeen.

    Returns:
        The minimiser, (K,).

    Source: the objective is ModelGuard-W's (Tang et al., 2024); the solution is that of docs/theory.md, "Top class
    kept", with t − δ in place of t.
    """
    budget = jnp.asarray(epsilon, y.dtype) / 2
    return _answer(y, _solver(margin, offset, steps)(y, budget), margin)


class _Split(NamedTuple):
    """The program for one fixed t = z_top: how much is gained and lost by the others, and where filling ends."""

    t: jax.Array
    value: jax.Array
    slope: jax.Array
    gained: jax.Array
    lost: jax.Array
    last_filled: jax.Array
    last_emptied: jax.Array


def _solver(margin: float, offset: float, steps: int) -> Callable[[jax.Array, jax.Array], _Split]:
    """The best split of the program around y, (K,), with the budget ε/2: a function of these two."""

    def at_once(y: jax.Array, budget: jax.Array) -> _Split:
        # Classes first: what is done to each of them is then done to a vector of the batch.
        best = _convex_valley(_Program.of(y.T, budget[None], margin, offset), steps)
        return jax.tree.map(lambda x: x[0], best)

    @jax.custom_batching.custom_vmap
    def solver(y: jax.Array, budget: jax.Array) -> _Split:
        return jax.tree.map(lambda x: x[0], at_once(y[None], budget[None]))

    def in_chunks(y: jax.Array, budget: jax.Array) -> _Split:
        return jax.lax.map(lambda row: solver(*row), (y, budget), batch_size=_rows_in_cache(y))

    @solver.def_vmap
    def _rule(size: int, batched: list[bool], y: jax.Array, budget: jax.Array) -> tuple[_Split, _Split]:
        y = y if batched[0] else jnp.broadcast_to(y, (size, *y.shape))
        budget = jnp.broadcast_to(budget, size)
        cpu = in_chunks if size > _rows_in_cache(y) else at_once
        best = jax.lax.platform_dependent(y, budget, cpu=cpu, default=at_once)
        return best, jax.tree.map(lambda _: True, best)

    return solver


def _rows_in_cache(y: jax.Array) -> int:
    """How many rows of (B, K) make a chunk, a power of two."""
    return 1 << max(_CACHE_BYTES // (y.shape[-1] * y.dtype.itemsize), 1).bit_length() - 1


@pytree
@dataclasses.dataclass(frozen=True)
class _Program:
    """The classes but the top one in ascending order of y, with prefix sums; what every fixed t shares.

    Arrays are (K − 1, B), numbers (1, B), and sums over the j least classes, for all j, (K, B).
    """

    top: jax.Array
    rest: jax.Array
    top_cost: jax.Array
    costs: jax.Array
    mass: jax.Array
    cost: jax.Array
    spent: jax.Array
    budget: jax.Array
    margin: float

    @classmethod
    def of(cls, y: jax.Array, budget: jax.Array, margin: float, offset: float) -> "_Program":
        """The programs around the columns of `y`, (K, B)."""
        ordered = _ascending(y)
        top, rest = ordered[-1:], ordered[:-1]
        # From the least cost on, as Σ z = 1: smaller sums, less rounding.
        least_cost = jnp.log(rest[:1] + offset)
        costs = jnp.log(rest + offset) - least_cost
        mass, cost, spent = (_prefix_sums(x) for x in (rest, costs, rest * costs))
        return cls(top, rest, jnp.log(top + offset) - least_cost, costs, mass, cost, spent, budget, margin)

    def levels(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The least, the clean and the largest z_top."""
        size = self.rest.shape[0]
        count = jnp.arange(size, 0, -1, dtype=self.top.dtype)[:, None]
        # What must be skimmed off the largest classes, with and without the top one, so that they leave it the margin.
        skim = self.mass[-1:] - self.mass[:-1] + count * self.margin - self.budget
        low = jnp.max(jnp.maximum(skim / count, (skim + self.top) / (count + 1)), axis=0, keepdims=True)
        low = jnp.maximum(low, self.top - self.budget)
        low = jnp.maximum(low, (1 + size * self.margin) / (size + 1))
        high = jnp.minimum(self.top + self.budget, 1)
        low = jnp.minimum(low, high)
        return low, jnp.maximum(self.top, low), high

    def split(self, t: jax.Array) -> _Split:
        """Solve the boxed program with z_top = t."""
        size = self.rest.shape[0]
        least = jnp.arange(size + 1, dtype=jnp.int32)[:, None]
        cap = jnp.maximum(t - self.margin, jnp.finfo(t.dtype).tiny)
        under = _count(self.rest <= cap)
        mass_under, cost_under = _at(self.mass, under), _at(self.cost, under)
        # What the j least classes hold under the cap, for all j.
        kept = jnp.where(least <= under, self.mass, mass_under + (least - under) * cap)
        whole = mass_under + (size - under) * cap
        # Mass that the cap sets free (or, where negative, that the top class asks for).
        free = self.top - t + self.mass[-1:] - whole
        # Without a budget the least classes are filled and the largest emptied until they meet at one.
        meeting = jnp.clip((whole + free) / cap, 0, size - 1).astype(jnp.int32)
        left = jnp.maximum(whole + free - meeting * cap - _at(self.rest, meeting), 0)
        met = jnp.minimum(meeting, under)
        most = met * cap - _at(self.mass, met) + jnp.where(meeting < under, left, 0)
        limit = jnp.maximum(self.budget - jnp.maximum(t - self.top, 0), 0)
        bound = most > limit
        gained = jnp.maximum(jnp.where(bound, limit, most), jnp.maximum(free, 0))
        lost = gained - free
        full = _count((least <= under) & (least * cap - self.mass < gained)) - 1
        rest = _count(whole - kept >= lost) - 1
        filled = jnp.where(bound, jnp.clip(full, 0, size - 1), meeting)
        emptied = jnp.where(bound, jnp.clip(rest, 0, size - 1), meeting)
        # The prices of one more unit of gain, and of loss.
        up, down = _at(self.costs, jnp.minimum(filled, emptied)), _at(self.costs, emptied)
        gaining, losing = jnp.minimum(filled, under), jnp.maximum(emptied, under)
        cost_gaining, cost_losing = _at(self.cost, gaining), _at(self.cost, losing)
        slope = self.top_cost - jnp.where(t > self.top, up, down) - (gaining * up - cost_gaining)
        slope = slope - ((losing - under) * down - (cost_losing - cost_under))
        held = jnp.minimum(emptied, under)
        value = (
            self.top_cost * t
            + cap * cost_gaining
            + (gained - gaining * cap + _at(self.mass, gaining)) * _at(self.costs, filled)
        )
        value = value + _at(self.spent, held) + cap * (cost_losing - cost_under) - _at(self.spent, gaining)
        value = value + down * (whole - lost - _at(self.mass, held) - (losing - under) * cap)
        return _Split(t, value, slope, gained, lost, _at(self.rest, filled), _at(self.rest, emptied))


def _answer(y: jax.Array, split: _Split, margin: float) -> jax.Array:
    """The solution in the order of `y`, (K,), shared evenly by classes of equal y."""
    others = jnp.arange(y.shape[-1]) != simplex.first_top(y)
    cap = jnp.maximum(split.t - margin, 0)
    kept, room = jnp.minimum(y, cap), jnp.maximum(cap - y, 0)

    def moved(amount: jax.Array, size: jax.Array, whole: jax.Array, partly: jax.Array) -> jax.Array:
        """`amount` out of `size`: all of the classes that take part wholly, the rest in equal parts of the others."""
        left = amount - jnp.sum(jnp.where(whole, size, 0))
        share = jnp.maximum(left, 0) / jnp.maximum(jnp.sum(partly), 1)
        return jnp.where(whole, size, jnp.where(partly, jnp.minimum(share, size), 0))

    filled = moved(split.gained, room, others & (y < split.last_filled), others & (y == split.last_filled))
    emptied = moved(split.lost, kept, others & (y > split.last_emptied), others & (y == split.last_emptied))
    z = jnp.where(others, jnp.maximum(kept + filled - emptied, 0), 0)
    return jnp.where(others, z, 1 - jnp.sum(z))


def _at(x: jax.Array, index: jax.Array) -> jax.Array:
    """The entry `index`, (1, B), of each column, (1, B)."""
    return jnp.take_along_axis(x, index, axis=0, mode="clip")


def _count(holds: jax.Array) -> jax.Array:
    """For how many classes it holds, (1, B)."""
    return jnp.sum(holds, axis=0, keepdims=True, dtype=jnp.int32)


def _prefix_sums(x: jax.Array) -> jax.Array:
    """Sums of the first 0, 1, …, n entries of each column."""
    # Not `cumsum`, which takes XLA's CPU back end ten times as long; sums by pairs lose less to rounding, too.
    return jnp.concatenate([jnp.zeros_like(x[:1]), jax.lax.associative_scan(jnp.add, x)])


def _ascending(y: jax.Array) -> jax.Array:
    """Each column of `y`, (K, B), in ascending order."""
    # A bitonic network, in which vectors of the batch are compared: for 100 classes a seventh of the time of XLA's
    # sort, which on CPUs takes one posterior after the other.
    size, batch = y.shape
    levels = (size - 1).bit_length()
    y = jnp.pad(y, [(0, 2**levels - size), (0, 0)], constant_values=jnp.inf)
    for level in range(levels):
        for step in range(level, -1, -1):
            pairs = y.reshape(-1, 2, 2**step, batch)
            low, high = pairs[:, 0], pairs[:, 1]
            # Of two ascending runs the second is reversed first.
            high = high[:, ::-1] if step == level else high
            y = jnp.concatenate([jnp.minimum(low, high), jnp.maximum(low, high)], axis=1).reshape(-1, batch)
    return y[:size]


class _Bracket(NamedTuple):
    """Two splits around the least value, the best one seen, and how many were looked at."""

    low: _Split
    high: _Split
    best: _Split
    seen: jax.Array

    def meeting(self) -> jax.Array:
        """How far above the lower end the tangents at both ends meet, or at which end the value is least."""
        low, high = self.low, self.high
        gap, bend = high.t - low.t, high.slope - low.slope
        inside = (high.slope * gap - (high.value - low.value)) / jnp.where(bend > 0, bend, 1)
        return jnp.select([low.slope >= 0, high.slope <= 0], [jnp.zeros_like(gap), gap], jnp.clip(inside, 0, gap))

    def is_open(self) -> jax.Array:
        """Whether some best value is still above what the tangents leave possible, rounding aside."""
        low, high, best, meet = self.low, self.high, self.best.value, self.meeting()
        bound = jnp.maximum(low.value + low.slope * meet, high.value - high.slope * (high.t - low.t - meet))
        return jnp.any(best - bound > _ROUNDING * jnp.finfo(best.dtype).eps * jnp.maximum(jnp.abs(best), 1))


def _convex_valley(program: _Program, most: int) -> _Split:
    """Return the split of the least value between the first and the last level, seeing at most so many."""
    first, clean, last = program.levels()

    def select(condition: jax.Array, a: _Split, b: _Split) -> _Split:
        return jax.tree.map(lambda x, z: jnp.where(condition, x, z), a, b)

    def narrowed(bracket: _Bracket) -> _Bracket:
        low, high, best, i = bracket
        gap = high.t - low.t
        inside = low.t + jnp.where((i > _TANGENTS) & (i % 3 == 0), gap / 2, bracket.meeting())
        # Both ends of the bracket and the clean level come first.
        here = program.split(jnp.select([i == 0, i == 1, i == 2], [first, last, clean], inside))
        falls = (i == 0) | (i > 1) & (here.slope < 0)
        return _Bracket(
            select(falls, here, low), select(falls, high, here), select(here.value < best.value, here, best), i + 1
        )

    def unfinished(bracket: _Bracket) -> jax.Array:
        return (bracket.seen < 3) | (bracket.seen < most) & bracket.is_open()

    nothing = _Split(*[jnp.zeros_like(first)] * 7)._replace(value=jnp.full_like(first, jnp.inf))
    start = _Bracket(nothing, nothing, nothing, jnp.int32(0))
    return jax.lax.while_loop(unfinished, narrowed, start).best
