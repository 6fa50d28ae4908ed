"""Where an API may be queried, and lines through there: a box of inputs, and what is asked in it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import check_count, check_random_key
from pp_jax.serving.blackbox import Metered

# The largest batch that an API is given.
_BATCH = 1024


class Line(NamedTuple):
    """A segment start + t · direction, 0 ≤ t ≤ length, with a direction of length 1."""

    start: np.ndarray
    direction: np.ndarray
    length: float

    def at(self, places: np.ndarray) -> np.ndarray:
        """The points at some t, (B, d)."""
        return self.start + np.asarray(places)[:, None] * self.direction


@dataclasses.dataclass(frozen=True)
class Box:
    """Inputs of one shape whose numbers lie in [low, high].

    Attributes:
        shape: of an input, such as (H, W, C).
        low: the least value.
        high: the largest.
        points: inputs of the attacker's own, (N, *shape), through which some lines are laid; None for none.

    Raises:
        ValueError: for an empty shape or range, or points of another shape or outside of the box.
    """

    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0
    points: Any = None

    def __post_init__(self) -> None:
        """Check them."""
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape is {self.shape}: must be that of an input, such as (28, 28, 1)")
        if not -np.inf < self.low < self.high < np.inf:
            raise ValueError(f"low and high are {self.low} and {self.high}: must be finite, low < high")
        if self.points is not None:
            points = np.asarray(self.points)
            if points.shape[1:] != self.shape or len(points) < 2:
                raise ValueError(f"points have shape {points.shape}: must be (N, *{self.shape}) with N ≥ 2")
            if not np.all((points >= self.low) & (points <= self.high)):
                raise ValueError(f"points must lie between low={self.low} and high={self.high}; write images / 255")

    @property
    def size(self) -> int:
        """d, the numbers of an input."""
        return int(np.prod(self.shape))

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Random inputs, (count, d), by turns even noise, black and white of some share, and the attacker's own."""
        kinds = 2 if self.points is None else 3
        drawn = rng.uniform(0, 1, (count, self.size))
        shares = rng.uniform(0, 1, (count, 1))
        edges = (rng.uniform(0, 1, drawn.shape) < shares) * (1 - 1e-3) + 1e-3 * drawn
        which = rng.permutation(np.arange(count) % kinds)[:, None]
        drawn = self.low + (self.high - self.low) * np.where(which == 1, edges, drawn)
        if self.points is not None:
            own = np.asarray(self.points, np.float64).reshape(len(self.points), -1)
            drawn = np.where(which == 2, own[rng.integers(0, len(own), count)], drawn)
        return drawn

    def line(self, rng: np.random.Generator, through: np.ndarray | None = None) -> Line:
        """A line through a point, or a random one, towards another, as far as the box reaches on both sides."""
        first, second = self.draw(rng, 2)
        first = first if through is None else through
        if np.array_equal(first, second):  # the same of the attacker's points twice
            second = rng.uniform(self.low, self.high, self.size)
        direction = (second - first) / np.linalg.norm(second - first)
        back, ahead = self.reach(first, -direction), self.reach(first, direction)
        return Line(first - back * direction, direction, back + ahead)

    def reach(self, point: np.ndarray, direction: np.ndarray) -> float:
        """How far the box reaches from a point in a direction."""
        moving = np.abs(direction) > 1e-12 * np.abs(direction).max()
        edge = np.where(direction[moving] > 0, self.high, self.low)
        return max(0.0, float(((edge - point[moving]) / direction[moving]).min()))

    def across(self, rng: np.random.Generator, line: Line, normal: np.ndarray, offset: float) -> np.ndarray:
        """Three points in a row, (3, d), the second on a hyperplane that a line crosses, but elsewhere."""
        ends = line.at(np.array([0.0, line.length]))
        first = self.draw(rng, 1)[0]
        height, heights = first @ normal + offset, ends @ normal + offset
        other = int((heights[1] > 0) != (height > 0))
        share = height / (height - heights[other])
        shares = share + 1e-3 * min(share, 1 - share) * np.array([-1, 0, 1])
        return first + shares[:, None] * (ends[other] - first)

    def inside(self, points: np.ndarray) -> np.ndarray:
        """Points that rounding left outside, on the edge."""
        return np.clip(points, self.low, self.high)


class Questions:
    """An API under a budget, asked about rows of d numbers.

    Args:
        api: inputs (B, *shape) in float64 to whatever it responds.
        box: what may be asked.
        budget: the largest number of queries.
        needed: the least that the attack can do with, as far as is known before.

    Raises:
        ValueError: for a budget below `needed`.
    """

    def __init__(self, api: Callable[[Any], Any], box: Box, budget: int, needed: int) -> None:
        check_count("the query budget", budget, low=1)
        if budget < needed:
            raise ValueError(f"the budget is {budget} queries: must be at least {needed} for inputs {box.shape}")
        self._meter, self._box = Metered(api, budget), box
        self.progress = "nothing was found"

    @property
    def spent(self) -> int:
        """How many queries there were."""
        return self._meter.spent

    def __call__(self, flat: np.ndarray) -> Any:
        """The responses to (B, d), an array, or a tuple of them where the API responds one.

        The API is called with batches of 1, 2, 4, … inputs, so that one which compiles for a size does so seldom.

        Raises:
            ValueError: where the budget has ended.
        """
        if len(flat) > self._meter.left:
            raise ValueError(f"the budget of {self._meter.budget} queries has ended, {self.progress}")
        inputs = self._box.inside(flat).reshape(len(flat), *self._box.shape)
        parts, first = [], 0
        while first < len(inputs):
            size = min(_BATCH, 1 << ((len(inputs) - first).bit_length() - 1))
            parts.append(self._meter(inputs[first : first + size]))
            first += size
        if isinstance(parts[0], tuple):
            return tuple(np.concatenate([np.asarray(one) for one in each]) for each in zip(*parts, strict=True))
        return np.concatenate([np.asarray(part) for part in parts])


def along_lines(search: Any, *, patience: int, max_lines: int, again: int) -> Any:
    """Follow lines until so many in a row show no new unit and the result is exact.

    Args:
        search: has `box`, `rng`, `ask`, `units`, `follow(line) -> bool`, whether it showed a new unit, and `fit() ->
            (result, worst)`, None for a result that is not exact, and where it is worst: the next line goes there.
        patience: lines without a new unit, before a result is tried.
        max_lines: at most so many.
        again: lines without a new unit, before it is tried once more.

    Raises:
        ValueError: where no result is exact after all lines.
    """
    quiet, worst = 0, None
    for _ in range(max_lines):
        quiet = 0 if search.follow(search.box.line(search.rng, worst)) else quiet + 1
        search.ask.progress = f"with {len(search.units.offsets)} units found"
        if quiet < patience:
            continue
        found, worst = search.fit()
        if found is not None:
            return found
        quiet = patience - again
    raise ValueError(
        f"{max_lines} lines found {len(search.units.offsets)} units and no network like the victim's: "
        "must be a network of two layers with ReLU; raise max_lines for many units"
    )


def generator(key: jax.Array) -> np.random.Generator:
    """NumPy's random numbers of a key."""
    check_random_key(key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
