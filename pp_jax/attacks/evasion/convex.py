"""Near-optimal evasion of a classifier whose positive class is convex, by K-step MultiLineSearch (Nelson et al.)."""

import math
from typing import Any

import numpy as np

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.evasion.membership import (
    Evaded,
    Membership,
    Oracle,
    bisections,
    check_classes,
    checked_costs,
    checked_pair,
)


def multi_line_search(
    positive: Membership,
    base: Any,
    negative: Any,
    *,
    lower: float,
    epsilon: float = 0.1,
    costs: Any = None,
    steps: int | None = None,
    budget: int | None = None,
) -> Evaded:
    """A negative point whose weighted L1 cost is within 1 + ε of the least, by queries alone.

    A(x) = Σ_d c_d |x_d − x⁰_d|,   MAC = inf {A(x) : x negative},   W = {±e_d / c_d}, 2D directions

    The points of cost C are the hull of the 2D points x⁰ + C w: if all are positive and the positive class is convex,
    every point that costs at most C is positive; if one is negative, MAC ≤ C. So C is searched geometrically between
    bounds C⁻ and C⁺, and a direction that is positive where another is negative is dropped. K-step: of the directions
    that are left one is searched alone for K steps, down to B⁻ (positive) and B⁺ (negative), and only then the others
    are asked about at B⁻: if all are positive, the bounds are B⁻ and B⁺; at the first negative one, C⁺ = B⁻.

    Guarantees, where the positive class is convex and no point that costs at most `lower` is negative: the point is
    negative, `lower ≤ MAC ≤ cost ≤ (1 + ε) · lower` with the `lower` that is returned, up to float64 rounding; and with
    L = ⌈log₂(log(C⁺/C⁻)/log(1 + ε))⌉ queries number at most

        2 + ⌈L/K⌉ (K + 2D − 1) + (2D − 1)(K + 1)   =   O(L + √L · D)   for K = ⌈√L⌉

    (two queries make sure of the classes of `base` and `negative`; the rate is the paper's Theorem, the constants are
    counted here). Where a negative point is cheaper than the given `lower`, the point is still negative and costs at
    most 1 + ε times the larger of both. If the positive class is not convex, the point is negative and nothing is
    known of its cost. Nothing is drawn: the first of the directions that are left is searched.

    Args:
        positive: the victim: whether each of (B, D) points is classified positive; asked about one at a time.
        base: x⁰, the positive point that should be classified negative at least cost, (D,).
        negative: any negative point, (D,).
        lower: C⁻ > 0, a cost within which no point is negative, or beneath which savings do not matter.
        epsilon: ε ≥ 1e-9.
        costs: c, (D,), above 0; 1 by default.
        steps: K ≥ 1; ⌈√L⌉ by default.
        budget: the most queries; no limit by default.

    Returns:
        Point, cost, a lower bound of the MAC, and queries.

    Raises:
        ValueError: for points that are not classified as stated, or numbers out of range.
        BudgetExhausted: at the first query beyond the budget.

    Source: Nelson et al., "Near-optimal evasion of convex-inducing classifiers", AISTATS 2010, and "Query strategies
        for evading convex-inducing classifiers", JMLR 13, 2012. Their search where the *negative* class is convex, by
        random walks, is not part of this library.
    """
    base, negative = checked_pair(base, negative)
    weights = checked_costs(costs, base.size)
    check_range("epsilon", epsilon, low=1e-9, high=math.inf)
    check_range("lower", lower, low=0, high=math.inf, open_low=True)
    if steps is not None:
        check_count("steps", steps, low=1)
    oracle, high = Oracle(positive, budget), float(weights @ np.abs(negative - base))
    check_classes(oracle, base, negative)
    low, best = min(float(lower), high), negative
    steps = steps or max(1, math.isqrt(max(0, bisections(low, high, epsilon) - 1)) + 1)
    left = list(range(2 * base.size))

    def at(direction: int, cost: float) -> np.ndarray:
        point = base.copy()
        point[direction // 2] += (1 - 2 * (direction % 2)) * cost / weights[direction // 2]
        return point

    while remaining := bisections(low, high, epsilon):
        chosen, inner, outer = left[0], low, high
        for _ in range(min(steps, remaining)):
            middle = math.sqrt(inner) * math.sqrt(outer)
            if oracle(point := at(chosen, middle)):
                inner = middle
            else:
                outer, best = middle, point
        if inner == low:  # the whole ball of that cost is known to be positive
            high = outer
            continue
        dropped = {chosen}
        for other in left[1:]:
            if not oracle(point := at(other, inner)):
                left, best, high = [d for d in left if d not in dropped], point, inner
                break
            dropped.add(other)
        else:
            low, high = inner, outer
    return Evaded(best, float(weights @ np.abs(best - base)), low, oracle.queries)
