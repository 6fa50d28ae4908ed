"""Reverse engineering of a linear classifier by membership queries (ACRE, Lowd and Meek): weights, then evasion."""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from pp_jax._checks import check_range
from pp_jax.attacks.evasion.membership import (
    Evaded,
    Membership,
    Oracle,
    bisect,
    check_classes,
    checked_costs,
    checked_pair,
)

NOT_LINEAR = "the classifier is positive where a linear one would be negative: must be linear, and answer alike again"


class LinearWeights(NamedTuple):
    """What queries tell of a linear classifier that is positive where ⟨w, x⟩ > T.

    Attributes:
        weights: ŵ, (D,), in units of |w_f| of the witness feature f: of the true sign, |ŵ_f| = 1, and for the others
            |w_i| / ((1 + ε)² |w_f|) ≤ |ŵ_i| ≤ |w_i| / |w_f|; 0 only where |w_i| < |w_f| / ratio.
        witness: f, a feature in which alone a positive and a negative point differ.
        queries: that were spent.
    """

    weights: np.ndarray
    witness: int
    queries: int


def linear_weights(
    positive: Membership,
    base: Any,
    negative: Any,
    *,
    epsilon: float = 0.1,
    ratio: float = 1000.0,
    budget: int | None = None,
) -> LinearWeights:
    """The weights of a linear classifier over continuous features, up to a factor, each within (1 + ε)².

    1. *Sign witnesses*: the features of `base` are replaced by those of `negative` one after the other; somewhere on
       the way the class changes with a single feature f, found by bisection in ⌈log₂ D⌉ queries. It gives the sign of
       w_f.
    2. A point of the boundary between the witnesses, within εδ, and from there δ back into the negative side along f,
       δ the distance of the witnesses; one query makes sure of that side.
    3. Along every other feature i the boundary is then |w_f| δ / |w_i| away, on the side that is the sign of w_i: one
       query on each side at the distance δ·ratio·(1 + ε) tells the side, or that the weight counts as zero; a geometric
       line search finds the distance within 1 + ε.

    Queries: 3 + ⌈log₂ D⌉ + ⌈log₂ 1/ε⌉ + (D − 1)(2 + j + L), with j = 1 (more, but few, where a weight is more than
    `ratio` times the witness's) and L = ⌈log₂(log(ratio² (1 + ε)²)/log(1 + ε))⌉: linear in D.

    Args:
        positive: the victim: whether each of (B, D) points is classified positive; asked about one at a time. Its
            features are not bounded.
        base: a positive point, (D,).
        negative: a negative point, (D,).
        epsilon: ε in [1e-9, 1].
        ratio: weights that are smaller than the witness's by more than this count as zero; above 1.
        budget: the most queries; no limit by default.

    Returns:
        Weights, witness and queries.

    Raises:
        ValueError: for points that are not classified as stated, numbers out of range, or a classifier that is not
            linear where this shows.
        BudgetExhausted: at the first query beyond the budget.

    Source: Lowd and Meek, "Adversarial learning", KDD 2005; the witnesses are searched there one feature at a time.
    """
    base, negative = checked_pair(base, negative)
    _check_accuracy(epsilon, ratio)
    oracle = Oracle(positive, budget)
    check_classes(oracle, base, negative)
    return _learned(oracle, base, negative, epsilon, ratio)


def evade_linear(
    positive: Membership,
    base: Any,
    negative: Any,
    *,
    epsilon: float = 0.1,
    costs: Any = None,
    ratio: float = 1000.0,
    budget: int | None = None,
) -> Evaded:
    """A negative point whose weighted L1 cost is within 1 + ε of the least, for a linear classifier.

    A(x) = Σ_d c_d |x_d − x⁰_d|:   MAC = min_d c_d (⟨w, x⁰⟩ − T) / |w_d|

    The cheapest evasion changes one feature, that with the largest |w_d| / c_d. Its weight is learned as in
    `linear_weights`, and the boundary along it found by a line search, each within (1 + ε)^⅓: the factors make 1 + ε.

    Guarantees, where the classifier is linear and the best |w_d| is at least |w_f| / ratio: the point is negative and
    costs at most (1 + ε) MAC, up to float64 rounding; queries are those of `linear_weights`, and of the order of
    log log (C/MAC) + log 1/ε for the last search, C the cost of `negative`.

    Args:
        positive: as for `linear_weights`.
        base: x⁰, the positive point that should be classified negative at least cost, (D,).
        negative: a negative point, (D,).
        epsilon: ε in [1e-9, 1].
        costs: c, (D,), above 0; 1 by default.
        ratio: as for `linear_weights`.
        budget: the most queries; no limit by default.

    Returns:
        Point, cost, lower bound of the MAC, and queries.

    Raises:
        ValueError: for points that are not classified as stated, numbers out of range, or a classifier that is not
            linear where this shows.
        BudgetExhausted: at the first query beyond the budget.

    Source: Lowd and Meek, "Adversarial learning", KDD 2005: linear classifiers with continuous features are
        ACRE (1 + ε)-learnable under linear costs.
    """
    base, negative = checked_pair(base, negative)
    prices = checked_costs(costs, base.size)
    _check_accuracy(epsilon, ratio)
    oracle, each = Oracle(positive, budget), (1 + epsilon) ** (1 / 3) - 1
    check_classes(oracle, base, negative)
    weights = _learned(oracle, base, negative, each, ratio).weights
    best = int(np.argmax(np.abs(weights) / prices))
    sign = -np.sign(weights[best])

    def at(distance: float) -> np.ndarray:
        point = base.copy()
        point[best] += sign * distance
        return point

    high = (1 + each) ** 2 * float(prices @ np.abs(negative - base)) / prices[best] * (1 + 1e-9)
    if oracle(at(high)):
        raise ValueError(NOT_LINEAR)
    low, exponent = high / 2, 1
    while not oracle(at(low)):
        high, exponent = low, 2 * exponent
        low = math.ldexp(low, -exponent)
        if at(low)[best] == base[best]:  # the boundary is nearer than a float64
            return Evaded(at(high), float(prices[best] * high), 0.0, oracle.queries)
    low, high = bisect(lambda distance: not oracle(at(distance)), low, high, each)
    point = at(high)
    return Evaded(point, float(prices[best] * high), float(prices[best] * low / (1 + each) ** 2), oracle.queries)


def evade_boolean(positive: Membership, base: Any, negative: Any, *, budget: int | None = None) -> Evaded:
    """A negative point that differs from x⁰ in at most twice as many features as need be; linear, features 0 and 1.

    Beginning with the known negative point: undo any change that is not needed, and replace any two changes by one, as
    long as the point stays negative.

    Guarantee, where the classifier is linear: the point is negative, and its cost, the number of features that differ,
    is at most 2 MAC. Queries are at most 2 + (C + 1)(C + C² D / 2) for C the cost of `negative`: each pass but the last
    makes it smaller.

    Args:
        positive: the victim: whether each of (B, D) points is classified positive; asked about one at a time.
        base: x⁰, the positive point that should be classified negative at least cost, (D,), zeros and ones.
        negative: a negative point, (D,), zeros and ones.
        budget: the most queries; no limit by default.

    Returns:
        Point, cost, half of it as the lower bound of the MAC, and queries.

    Raises:
        ValueError: for points that are not classified as stated, or features other than 0 and 1.
        BudgetExhausted: at the first query beyond the budget.

    Source: Lowd and Meek, "Adversarial learning", KDD 2005: linear classifiers with Boolean features are
        ACRE 2-learnable under uniform linear costs.
    """
    base, negative = checked_pair(base, negative)
    if not (np.isin(base, (0, 1)).all() and np.isin(negative, (0, 1)).all()):
        raise ValueError("base and negative must be zeros and ones: evade_linear takes continuous features")
    oracle = Oracle(positive, budget)
    check_classes(oracle, base, negative)
    point = negative
    while (cheaper := _cheaper(oracle, base, point)) is not None:
        point = cheaper
    cost = int((point != base).sum())
    return Evaded(point, float(cost), float(math.ceil(cost / 2)), oracle.queries)


def _cheaper(oracle: Oracle, base: np.ndarray, point: np.ndarray) -> np.ndarray | None:
    """A negative point with one change fewer, or None."""
    changed, same = np.flatnonzero(point != base), np.flatnonzero(point == base)
    singles = ((feature,) for feature in changed)
    triples = ((*pair, other) for pair in itertools.combinations(changed, 2) for other in same)
    for features in itertools.chain(singles, triples):
        candidate = point.copy()
        candidate[list(features)] = 1 - candidate[list(features)]
        if (candidate != base).any() and not oracle(candidate):
            return candidate
    return None


def _learned(oracle: Oracle, base: np.ndarray, negative: np.ndarray, epsilon: float, ratio: float) -> LinearWeights:
    """`linear_weights` of points whose classes are known."""
    inside, outside, feature = _witnesses(oracle, base, negative)
    delta = abs(inside - outside)[feature]
    sign = np.sign(inside - outside)[feature]
    high, low = inside[feature], outside[feature]  # positive and negative side of the boundary
    point = outside.copy()
    for _ in range(math.ceil(math.log2(1 / epsilon))):
        point[feature] = (high + low) / 2
        high, low = (point[feature], low) if oracle(point) else (high, point[feature])
    point[feature] = low - sign * delta
    if oracle(point):
        raise ValueError(NOT_LINEAR)
    weights = np.zeros(base.size)
    weights[feature] = sign
    for other in range(base.size):
        if other != feature:
            weights[other] = _relative(oracle, point, other, delta, epsilon, ratio)
    return LinearWeights(weights, feature, oracle.queries)


def _witnesses(oracle: Oracle, base: np.ndarray, negative: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """A positive and a negative point that differ in one feature, and that feature."""
    changed = np.flatnonzero(base != negative)

    def mixed(count: int) -> np.ndarray:
        point = base.copy()
        point[changed[:count]] = negative[changed[:count]]
        return point

    low, high = 0, len(changed)  # so many features of `negative`: positive and negative
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if oracle(mixed(middle)) else (low, middle)
    return mixed(low), mixed(high), int(changed[low])


def _relative(oracle: Oracle, point: np.ndarray, feature: int, delta: float, epsilon: float, ratio: float) -> float:
    """w_i / |w_f| of a feature, from a negative point that the witness feature makes positive at the distance δ."""
    farthest = delta * ratio * (1 + epsilon)

    def reaches(distance: float) -> bool:
        moved = point.copy()
        moved[feature] += distance
        return oracle(moved)

    sign = 1 if reaches(farthest) else -1 if reaches(-farthest) else 0
    if sign == 0:
        return 0.0
    nearest, high = delta / ratio, farthest
    while reaches(sign * nearest):  # a weight that is more than `ratio` times the witness's
        nearest, high = nearest / ratio, nearest
        if point[feature] + nearest == point[feature]:
            raise ValueError(NOT_LINEAR)
    _, high = bisect(lambda distance: reaches(sign * distance), nearest, high, epsilon)
    return sign * delta / high


def _check_accuracy(epsilon: float, ratio: float) -> None:
    """Refuse an accuracy or a ratio out of range."""
    check_range("epsilon", epsilon, low=1e-9, high=1)
    check_range("ratio", ratio, low=1, high=math.inf, open_low=True)
