"""The linear program over simplex ∩ L1 ball that keeps a class on top, and the dual that certifies its optimum.

For a fixed t = z_top the other classes may hold up to t each: gains fill from the dearest class down, losses from the
cheapest class up. The best value V(t) is concave and piecewise linear. At a kink, and wherever classes tie, are empty
or are full, the prices of one more unit of gain and of loss are intervals, not numbers: their ends give both one-sided
slopes of V, which say on which side of t the optimum lies, or that t is the optimum where they enclose zero.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Up to this many classes, K² comparisons cost less than a sort.
COMPARE_UP_TO = 32
# Masses, levels and values that differ by so many units in the last place count as equal.
_ROUNDING = 8

# Sums over the classes that come before each one, and these with itself.
_Sums = tuple[jax.Array, jax.Array]


class End(NamedTuple):
    """A level of z_top with the value there and, on one side of it, the slope and the prices that give it.

    The slope is of a concave function that lies nowhere below V and meets it at t: a tangent from above.
    """

    t: jax.Array
    value: jax.Array
    slope: jax.Array
    up: jax.Array  # what the budget must pay for a unit of gain
    down: jax.Array  # what a unit of loss brings


class Peak(NamedTuple):
    """Where the search stands: the optimum lies between `low`, whose slope is to its right, and `high`."""

    t: jax.Array
    value: jax.Array
    low: End
    high: End

    def meeting(self) -> jax.Array:
        """How far above the lower end the tangents meet, or at which end the value is largest."""
        gap, bend = self.high.t - self.low.t, self.low.slope - self.high.slope
        inside = ((self.high.value - self.low.value) - self.high.slope * gap) / jnp.where(bend > 0, bend, 1)
        inside = jnp.select([self.low.slope <= 0, self.high.slope >= 0], [jnp.zeros_like(gap), gap], inside)
        return jnp.clip(inside, 0, gap)

    def is_open(self) -> jax.Array:
        """Whether the tangents leave a larger value than the best seen possible, rounding aside."""
        meet = self.meeting()
        below = self.low.value + self.low.slope * meet
        above = self.high.value - self.high.slope * (self.high.t - self.low.t - meet)
        return jnp.minimum(below, above) - self.value > _rounding(meet) / 4


@dataclasses.dataclass(frozen=True)
class Program:
    """The classes but the top one in descending order of gain; what every fixed t shares.

    The top class goes last and holds nothing. Gains are shifted and scaled to [−1, 0], which changes no optimum: what
    is lost to rounding is then small against the *spread* of the gains, whatever they have in common.
    """

    y: jax.Array
    c: jax.Array
    others: jax.Array
    y_top: jax.Array
    c_top: jax.Array
    budget: jax.Array
    rest: jax.Array
    gain: jax.Array
    present: jax.Array
    restored: Callable[[jax.Array], jax.Array]
    largest: jax.Array
    spread: jax.Array

    @classmethod
    def of(
        cls, y: jax.Array, c: jax.Array, epsilon: jax.Array | float, top: jax.Array | int | None = None
    ) -> "Program":
        """The program around y, (K,), for the gains c, (K,), with a budget of ε/2 to move."""
        top = jnp.argmax(y) if top is None else jnp.asarray(top)
        budget = jnp.asarray(epsilon, y.dtype) / 2
        largest = jnp.max(c)
        # By sixteenths: the difference of two finite numbers may overflow, and its inverse underflow.
        part = largest / 16 - jnp.min(c) / 16
        scaled = (c / 16 - largest / 16) / jnp.where(part > 0, part, 1)
        index = jnp.arange(y.shape[-1])
        others, present = index != top, index < y.shape[-1] - 1
        ordered, restored = _ordering(jnp.where(others, -scaled, jnp.inf))
        rest, gain = ordered(jnp.where(others, y, 0)), ordered(jnp.where(others, scaled, -1))
        return cls(y, scaled, others, y[top], scaled[top], budget, rest, gain, present, restored, largest, 16 * part)

    def answer(self, t: jax.Array) -> jax.Array:
        """The best z with z_top = t, in the order of y; what rounding leaves over goes to the top class."""
        z = self.restored(self._moved(t)[0])
        return jnp.where(self.others, z, jnp.maximum(1 - jnp.sum(z), jnp.max(z)))

    def peak(self, steps: int | None = None) -> Peak:
        """Search the level of the largest value, with at most so many evaluations after the first three."""
        steps = steps or (96 if self.y.dtype == jnp.float64 else 64)
        first = jax.vmap(self._ends)(self._levels())
        (start, _), (_, end), middle = (jax.tree.map(lambda x, i=i: x[i], first) for i in (0, 2, 1))
        index = jnp.argmax(first[0].value)
        best = Peak(first[0].t[index], first[0].value[index], start, end)

        def step(carry: tuple[Peak, jax.Array]) -> tuple[Peak, jax.Array]:
            peak, i = carry
            gap = peak.high.t - peak.low.t
            here = self._ends(peak.low.t + jnp.where(i % 3 == 2, gap / 2, peak.meeting()))
            return _narrowed(peak, here), i + 1

        def unfinished(carry: tuple[Peak, jax.Array]) -> jax.Array:
            return (carry[1] < steps) & carry[0].is_open()

        return jax.lax.while_loop(unfinished, step, (_narrowed(best, middle), jnp.int32(0)))[0]

    def bound(self, peak: Peak) -> jax.Array:
        """An upper bound on the optimum: the dual's value at a mixture of both ends' prices, which has no slope.

        L(t) = c_top t + λ(1 − t) + μ(b − (t − y_top)⁺) + Σ_j max_{0 ≤ z ≤ t} ((c_j − λ)z − μ(z − y_j)⁺) is concave in t
        and nowhere below V for any λ and μ ≥ 0. Its tangents just below and just above the level
        found bound it, and so do those of the kink next to that level.
        """
        bend = peak.low.slope - peak.high.slope
        weight = jnp.clip(jnp.where(bend == 0, 1, -peak.high.slope / jnp.where(bend == 0, 1, bend)), 0, 1)
        down = weight * peak.low.down + (1 - weight) * peak.high.down
        up = jnp.maximum(weight * peak.low.up + (1 - weight) * peak.high.up, down)
        first, _, last = self._levels()

        def around(t: jax.Array) -> jax.Array:
            near = _rounding(t) * t
            below, above = jnp.clip(t - near, first, last), jnp.clip(t + near, first, last)
            (at_below, left, inward), (at_above, _, right) = (self._dual(x, up, down) for x in (below, above))
            outside = jnp.maximum(at_below - left * (below - first), at_above + right * (last - above))
            inside = at_below + inward * (above - below)
            return jnp.maximum(jnp.maximum(outside, inside), jnp.maximum(at_below, at_above))

        levels = jnp.where(self.present, self.rest, self.y_top)
        kink = levels[jnp.argmin(jnp.abs(levels - peak.t))]
        return self.largest + self.spread * jnp.minimum(around(peak.t), around(kink))

    def _dual(self, t: jax.Array, up: jax.Array, down: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """L(t), and its slopes to the left and to the right of t."""
        cheap = jnp.where(self.present, jnp.maximum(self.gain - down, 0), 0)
        dear = jnp.where(self.present, jnp.maximum(self.gain - up, 0), 0)
        value = self.c_top * t + down * (1 - t) + (up - down) * (self.budget - jnp.maximum(t - self.y_top, 0))
        value = value + jnp.sum(cheap * jnp.minimum(self.rest, t) + dear * jnp.maximum(t - self.rest, 0))
        left = self.c_top - jnp.where(t > self.y_top, up, down) + jnp.sum(jnp.where(t > self.rest, dear, cheap))
        right = self.c_top - jnp.where(t >= self.y_top, up, down) + jnp.sum(jnp.where(t >= self.rest, dear, cheap))
        return value, left, right

    def _levels(self) -> jax.Array:
        """Bounds of z_top, from that to which `budget` can be skimmed off the largest classes; and y_top between."""
        sizes = jnp.arange(1, self.y.shape[-1] + 1, dtype=self.y.dtype)
        skimmed = (_cumsum(jnp.sort(self.y, descending=True)) - self.budget) / sizes
        low = jnp.maximum(jnp.max(skimmed), 1 / sizes[-1])
        # The middle entry is a kink of the value at which the optimum often lies.
        return jnp.stack([jnp.minimum(low, self.y_top), self.y_top, jnp.minimum(self.y_top + self.budget, 1)])

    def _moved(self, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, _Sums, _Sums]:
        """Solve the boxed program with z_top = t: z, what is gained and lost, whether the budget ends it, and sums."""
        kept = jnp.minimum(self.rest, t)
        room = jnp.where(self.present, jnp.maximum(t - self.rest, 0), 0)
        # Mass that the caps set free (or, where negative, that the top class asks for).
        free = 1 - t - jnp.sum(kept)
        room_sum, kept_sum = _cumsum(room), _cumsum(kept, reverse=True)
        # Gains fill from the left, losses from the right, until they meet at one class or the budget ends.
        most = jnp.max(jnp.minimum(room_sum, free + kept_sum))
        limit = jnp.maximum(self.budget - jnp.maximum(t - self.y_top, 0), 0)
        gained = jnp.maximum(jnp.minimum(most, limit), jnp.maximum(free, 0))
        lost = gained - free
        before_room, before_kept = room_sum - room, kept_sum - kept
        z = kept + jnp.clip(gained - before_room, 0, room) - jnp.clip(lost - before_kept, 0, kept)
        return z, gained, lost, most > limit, (before_room, room_sum), (before_kept, kept_sum)

    def _ends(self, t: jax.Array) -> tuple[End, End]:
        """The value with z_top = t, and the slopes to the right and to the left of t."""
        z, gained, lost, bound, (before_room, room_sum), (before_kept, kept_sum) = self._moved(t)
        value = self.c_top * t + jnp.sum(self.gain * z)
        small = _rounding(t)
        # Prices of the last unit gained or lost, and of one more; the same class where it is partly full.
        gained_last = jnp.min(jnp.where((room_sum > before_room) & (before_room < gained - small), self.gain, 0))
        gained_next = jnp.max(jnp.where(room_sum > gained + small, self.gain, -1))
        lost_last = jnp.max(jnp.where((kept_sum > before_kept) & (before_kept < lost - small), self.gain, -1))
        lost_next = jnp.min(jnp.where(kept_sum > lost + small, self.gain, 0))
        # Without a binding budget one price must serve both.
        low, high = jnp.maximum(gained_next, lost_last), jnp.minimum(gained_last, lost_next)
        right_down = jnp.where(bound, jnp.minimum(lost_next, gained_last), high)
        right_up = jnp.where(bound, gained_last, high)
        left_down, left_up = jnp.where(bound, lost_last, low), low

        def slope(up: jax.Array, down: jax.Array, paid: jax.Array, roomy: jax.Array) -> jax.Array:
            held = jnp.where(self.present, jnp.maximum(self.gain - jnp.where(roomy, up, down), 0), 0)
            return self.c_top - jnp.where(paid, up, down) + jnp.sum(held)

        near = small * t
        right = slope(right_up, right_down, t >= self.y_top - near, t >= self.rest - near)
        left = slope(left_up, left_down, t > self.y_top + near, t > self.rest + near)
        return End(t, value, right, right_up, right_down), End(t, value, left, left_up, left_down)


def _narrowed(peak: Peak, here: tuple[End, End]) -> Peak:
    """Cut off the side of a level on which the optimum does not lie, or both, and keep the best value."""
    right, left = here
    rises, falls = right.slope > 0, left.slope < 0

    def select(condition: jax.Array, a: End, b: End) -> End:
        return jax.tree.map(lambda x, z: jnp.where(condition, x, z), a, b)

    better = right.value > peak.value
    t, value = jnp.where(better, right.t, peak.t), jnp.where(better, right.value, peak.value)
    return Peak(t, value, select(rises | ~falls, right, peak.low), select(rises, peak.high, left))


def _rounding(x: jax.Array) -> float:
    """How far apart two numbers of size one may be that count as equal."""
    return _ROUNDING * float(jnp.finfo(x.dtype).eps)


def _ordering(key: jax.Array) -> tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]:
    """Two functions that put classes in (stable) ascending order of `key`, and back."""
    size = key.shape[-1]
    if size > COMPARE_UP_TO:
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
    if size > COMPARE_UP_TO:
        return jax.lax.cumsum(x, reverse=reverse)
    ones = jnp.tril(jnp.ones((size, size), x.dtype))
    return jnp.matmul(x, ones if reverse else ones.T, precision="highest")
