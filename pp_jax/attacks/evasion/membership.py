"""What the query-only evasions share: a membership oracle that is counted, and searches along a line."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pp_jax.serving.blackbox import Metered

Membership = Callable[[np.ndarray], Any]
"""All that the attacker sees: points (B, D) in, (B,) truth values out: whether each is classified positive."""


class Evaded(NamedTuple):
    """A negative point near a positive one.

    Attributes:
        point: (D,), classified negative.
        cost: of the point.
        lower: what every negative point costs at least, as far as the method proves it under its assumptions.
        queries: that were spent.
    """

    point: np.ndarray
    cost: float
    lower: float
    queries: int


class Oracle:
    """A membership oracle asked about one point at a time, every question counted.

    Args:
        positive: the classifier.
        budget: the most questions; None for no limit.
    """

    def __init__(self, positive: Membership, budget: int | None) -> None:
        self._meter = Metered(positive, 2**62 if budget is None else budget)

    @property
    def queries(self) -> int:
        """Questions so far."""
        return self._meter.spent

    def __call__(self, point: np.ndarray) -> bool:
        """Whether a point is classified positive.

        Raises:
            BudgetExhausted: if no question is left; then none is asked.
            ValueError: for an answer that is not one truth value.
        """
        answer = np.asarray(self._meter(point[None]))
        if answer.shape != (1,) or answer.dtype != np.bool_:
            raise ValueError(
                f"the oracle answered {answer.dtype} of {answer.shape} to (1, D): must be bool of (1,); write "
                "lambda points: np.asarray(model(points)).argmax(1) == label"
            )
        return bool(answer[0])


def checked_pair(base: Any, negative: Any) -> tuple[np.ndarray, np.ndarray]:
    """The positive point that should be left and a known negative one, in float64.

    Raises:
        ValueError: for other than two vectors of one length that are finite and differ.
    """
    first, second = np.asarray(base, np.float64), np.asarray(negative, np.float64)
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise ValueError(f"base and negative have shapes {first.shape} and {second.shape}: must both be (D,), D ≥ 1")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("base and negative must be finite: leave out points with NaN or infinity")
    if (first == second).all():
        raise ValueError("base and negative are one point: must be a positive and a negative one")
    return first, second


def checked_costs(costs: Any, size: int) -> np.ndarray:
    """The cost c_d of changing each feature by one, (D,); one by default.

    Raises:
        ValueError: for another shape, or costs that are not above 0 and finite.
    """
    weights = np.ones(size) if costs is None else np.asarray(costs, np.float64)
    if weights.shape != (size,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"costs must be ({size},), above 0 and finite, not {weights.shape}: one for each feature")
    return weights


def check_classes(oracle: Oracle, base: np.ndarray, negative: np.ndarray) -> None:
    """Ask about both known points: two queries.

    Raises:
        ValueError: if they are not classified as they should be.
    """
    for name, point, wanted in (("base", base, True), ("negative", negative, False)):
        if oracle(point) != wanted:
            found, needed = ("negative", "positive") if wanted else ("positive", "negative")
            raise ValueError(f"{name} is classified {found}: must be {needed}")


def bisections(low: float, high: float, epsilon: float) -> int:
    """L: how many geometric halvings bring high/low to 1 + ε or below."""
    return max(0, math.ceil(math.log2(max(1.0, math.log(high / low) / math.log1p(epsilon))) - 1e-12))


def bisect(reaches: Callable[[float], bool], low: float, high: float, epsilon: float) -> tuple[float, float]:
    """Bring [low, high] to a ratio of at most 1 + ε: `reaches` is false at `low` and true at `high`; `bisections`."""
    for _ in range(bisections(low, high, epsilon)):
        middle = math.sqrt(low) * math.sqrt(high)
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return low, high
