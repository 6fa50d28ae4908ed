"""Where a piecewise linear function bends on a line, from its values alone."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# A slope at the end of an interval is that over this share of it.
_SHARE = 1 / 64
# Intervals this much shorter than the line are given up: another line may tell their kinks apart.
_SHORTEST = 1e-6
# So many intervals of one line that are not linear are no network of a size that can be extracted.
_MOST = 4096

Values = Callable[[np.ndarray], np.ndarray]
"""Places t on a line, (B,), to values, (B, K)."""


class Kinks(NamedTuple):
    """Where a function bends.

    Attributes:
        places: t of each, (m,).
        room: the function is linear for so far on both sides of each, (m,).
        unresolved: how many intervals were given up.
    """

    places: np.ndarray
    room: np.ndarray
    unresolved: int


class _Intervals(NamedTuple):
    """Some intervals and the values at their ends."""

    left: np.ndarray
    right: np.ndarray
    at_left: np.ndarray
    at_right: np.ndarray

    def some(self, which: np.ndarray) -> "_Intervals":
        return _Intervals(*(part[which] for part in self))


def kinks(values: Values, length: float, *, tolerance: float) -> Kinks:
    """All kinks in 0 ≤ t ≤ length that change a value by more than the tolerance, in O(h log h) queries for h of them.

    The tangents at the ends of an interval meet at its kink, if there is one alone; a query there tells. An interval
    whose tangents agree, with each other and with the values, has none; any other is halved.

    Args:
        values: the function.
        length: of the line.
        tolerance: what counts as zero among the values.

    Returns:
        The kinks, in order.

    Raises:
        ValueError: where the function is linear almost nowhere.
    """
    ends = values(np.array([0.0, length]))
    active = _Intervals(np.zeros(1), np.full(1, length), ends[:1], ends[1:])
    places, room, unresolved = [np.empty(0)], [np.empty(0)], 0
    while len(active.left):
        width = active.right - active.left
        step = _SHARE * width
        near = values(np.concatenate([active.left + step, active.right - step]))
        count = len(width)
        rising = (near[:count] - active.at_left) / step[:, None]
        falling = (active.at_right - near[count:]) / step[:, None]
        change, missing = falling - rising, active.at_right - active.at_left - rising * width[:, None]
        bent = np.maximum(np.abs(missing), np.abs(change) * width[:, None]).max(1) > tolerance
        active, width = active.some(bent), width[bent]
        change, missing, rising = change[bent], missing[bent], rising[bent]
        # From the meeting point of the tangents to the right end, the slopes differ by `change`.
        beyond = (change * missing).sum(1) / np.maximum((change**2).sum(1), 1e-300)
        meeting = active.right - beyond
        inner = np.flatnonzero((beyond > 0) & (beyond < width))
        single = np.zeros(len(width), bool)
        if len(inner):
            expected = active.at_left[inner] + rising[inner] * (width - beyond)[inner, None]
            off = np.abs(values(meeting[inner]) - expected)
            off = np.maximum(off, np.abs(change * beyond[:, None] - missing)[inner])
            single[inner] = off.max(1) <= tolerance
        places.append(meeting[single])
        room.append(np.minimum(beyond, width - beyond)[single])
        active, width = active.some(~single), width[~single]
        short = width < _SHORTEST * length
        unresolved += int(short.sum())
        active = _halved(values, active.some(~short))
        if len(active.left) > _MOST:
            raise ValueError(NOT_PIECEWISE)
    found = np.concatenate(places)
    order = np.argsort(found)
    return Kinks(found[order], np.concatenate(room)[order], unresolved)


NOT_PIECEWISE = (
    "the responses are not piecewise linear in the input: must be exact logits or posteriors, in float64, of a network "
    "of ReLU units (rounded, perturbed and float32 responses are not; write with jax.enable_x64(True) for a BlackBox)"
)


def _halved(values: Values, intervals: _Intervals) -> _Intervals:
    """Both halves of each."""
    if not len(intervals.left):
        return intervals
    middle = (intervals.left + intervals.right) / 2
    between = values(middle)
    halves = (
        (intervals.left, middle),
        (middle, intervals.right),
        (intervals.at_left, between),
        (between, intervals.at_right),
    )
    return _Intervals(*(np.concatenate(pair) for pair in halves))
