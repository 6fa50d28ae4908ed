"""Boxes with a response each: what a decision tree is, and what an attack on one ends with."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

_CHUNK = 1_000_000


@dataclasses.dataclass(frozen=True)
class Leaves:
    """A function that is constant on boxes: x belongs to leaf l iff low_l < x ≤ high_l in every feature.

    A side that nothing was found on is infinite.

    Attributes:
        low: (L, d).
        high: (L, d).
        answers: the leaves' responses, posteriors (L, K) or class indices (L,).
    """

    low: np.ndarray
    high: np.ndarray
    answers: np.ndarray

    def __len__(self) -> int:
        """Return the number of leaves, L."""
        return len(self.low)

    def find(self, features: Any) -> np.ndarray:
        """Return the leaf of each feature vector (n, d), (n,); outside of all boxes the nearest in L1."""
        rows = np.asarray(features, np.float64)
        found = np.zeros(len(rows), int)
        step = max(1, _CHUNK // max(1, self.low.size))
        for first in range(0, len(rows), step):
            part = rows[first : first + step, None, :]
            inside = ((self.low < part) & (part <= self.high)).all(axis=2)
            away = np.maximum(np.maximum(self.low - part, part - self.high), 0).sum(axis=2)
            found[first : first + step] = np.argmin(np.where(inside, -1.0, away), axis=1)
        return found

    def __call__(self, features: Any) -> np.ndarray:
        """Return the responses to feature vectors (n, d): (n, K) or (n,)."""
        return self.answers[self.find(features)]

    def volume(self) -> float:
        """Return the volume of all boxes within [0, 1]^d: 1 where they partition it."""
        sides = np.minimum(self.high, 1) - np.maximum(self.low, 0)
        return float(np.prod(np.maximum(sides, 0), axis=1).sum())


class StolenTree(NamedTuple):
    """What a structural attack on a decision tree ends with.

    Attributes:
        model: the leaves that were found.
        queries: what it cost.
    """

    model: Leaves
    queries: int


def middle(below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """The middles of intervals between float32 numbers, rounded to float32; an end where there is no number between."""
    return (0.5 * (below.astype(np.float64) + above.astype(np.float64))).astype(np.float32)


def is_resolved(below: np.ndarray, above: np.ndarray, precision: float) -> np.ndarray:
    """Whether an interval is as short as wanted, or holds no float32 number besides its ends."""
    return (above.astype(np.float64) - below <= precision) | (np.nextafter(below, np.float32(np.inf)) >= above)


def border(below: np.ndarray, above: np.ndarray, precision: float) -> np.ndarray:
    """Where the threshold is put between a number to its left and one to its right: x ≤ threshold is left."""
    return (
        np.where(np.nextafter(below, np.float32(np.inf)) >= above, below, middle(below, above)) if precision else below
    )
