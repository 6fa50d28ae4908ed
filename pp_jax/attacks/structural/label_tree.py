"""Active learning of decision trees from labels alone: thresholds by bisection, boxes by sampling."""

import jax
import numpy as np

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.structural.asking import Questions, asking, generator
from pp_jax.attacks.structural.leaves import Leaves, StolenTree, border, is_resolved, middle
from pp_jax.serving.blackbox import API
from pp_jax.types import TransferSet


def learn_tree(
    key: jax.Array,
    api: API,
    *,
    features: int,
    budget: int,
    samples: int = 64,
    pairs: int = 4,
    precision: float = 0.0,
    so_far: TransferSet | None = None,
) -> StolenTree:
    """Learn a decision tree from labels, box by box.

    A box is filled up with uniform queries to m. All of one class: a leaf, of which at most ln(1/δ)/m is of another
    class with probability 1 − δ. Otherwise the way from a query to one of another class, one feature after the other,
    changes the label at one feature, by bisection of the way, and at one threshold, by bisection of that feature. Of
    the thresholds found and known the one that tells most about the labels splits the box.

    Guarantees: every threshold is one of the victim's, at precision 0 to the last bit of float32. The tree may split
    elsewhere first than the victim, and knows labels alone: leaves that agree are not told apart.

    Queries: m a box, and log₂ d + log₂(1/precision) a threshold.

    Args:
        key: draws the queries.
        api: images (B, 1, 1, d) in [0, 1] in; class indices (B,) out, or posteriors, of which the argmax is taken.
        features: d.
        budget: queries, at most.
        samples: m, queries in a box.
        pairs: ways that are followed in a box.
        precision: of a threshold; 0 goes on until no float32 number is left between.
        so_far: what the same attack was answered before it failed (`QueriesFailed.transfer`).

    Returns:
        The leaves with their classes and the number of queries.

    Raises:
        ValueError: for parameters out of range; nothing is asked then.
        QueriesFailed: where the budget is spent before every box is pure, or the API responds at random.

    Source: the setting is that of Chandrasekaran, Chaudhuri, Giacomelli, Jha, Yan, "Exploring connections between
        active learning and model extraction", USENIX Security 2020 (trees, labels, chosen queries); they extract trees
        by importance-weighted active learning, from sampled queries. The bisection is this library's.
    """
    rng = generator(key)
    check_count("samples", samples, low=2)
    check_count("pairs", pairs, low=1)
    check_range("precision", precision, low=0, high=0.5)
    with asking(api, features, budget=budget, posteriors=False, so_far=so_far, dtype=np.float32) as questions:
        whole = np.full(features, -np.inf), np.full(features, np.inf)
        waiting = [(*whole, np.zeros((0, features), np.float32), np.zeros(0, int))]
        known: set[tuple[int, float]] = set()
        leaves: list[tuple[np.ndarray, np.ndarray, int]] = []
        while waiting:
            low, high, points, labels = waiting.pop()
            if missing := max(0, samples - len(points)):
                more = _inside(rng, low, high, missing)
                points, labels = np.concatenate([points, more]), np.append(labels, questions.labels(more))
            if len(np.unique(labels)) == 1:
                leaves.append((low, high, int(labels[0])))
                continue
            known |= _thresholds(questions, rng, points, labels, pairs, precision)
            feature, threshold = _best(known, low, high, points, labels)
            left = points[:, feature] <= threshold
            left_high, right_low = high.copy(), low.copy()
            left_high[feature] = right_low[feature] = threshold
            waiting += [(low, left_high, points[left], labels[left]), (right_low, high, points[~left], labels[~left])]
        lows, highs, classes = zip(*leaves, strict=True)
        return StolenTree(Leaves(np.stack(lows), np.stack(highs), np.array(classes)), questions.spent)


def _inside(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """Uniform points of a box within the cube, as float32 numbers with low < x ≤ high."""
    floor = np.where(low < 0, 0, np.nextafter(low.astype(np.float32), np.float32(np.inf)))
    drawn = (floor + rng.random((count, len(low))) * (np.minimum(high, 1) - floor)).astype(np.float32)
    return np.clip(drawn, floor.astype(np.float32), np.minimum(high, 1).astype(np.float32))


def _thresholds(
    questions: Questions,
    rng: np.random.Generator,
    points: np.ndarray,
    labels: np.ndarray,
    pairs: int,
    precision: float,
) -> set[tuple[int, float]]:
    """Features and thresholds at which labels change, on ways between points of different classes."""
    one = rng.integers(0, len(points), pairs)
    other = np.array([rng.choice(np.flatnonzero(labels != labels[at])) for at in one])
    start, end, first = points[one], points[other], labels[one]
    order = np.argsort(rng.random(start.shape), axis=1)
    rank = np.argsort(order, axis=1)
    same, differs = np.zeros(pairs, int), np.full(pairs, start.shape[1])
    while (going := np.flatnonzero(differs - same > 1)).size:
        half = (same[going] + differs[going]) // 2
        found = questions.labels(np.where(rank[going] < half[:, None], end[going], start[going]))
        kept = found == first[going]
        same[going[kept]], differs[going[~kept]] = half[kept], half[~kept]
    feature = order[np.arange(pairs), same]
    way = np.where(rank < same[:, None], end, start)
    inner, outer = start[np.arange(pairs), feature], end[np.arange(pairs), feature]
    while True:
        below, above = np.minimum(inner, outer), np.maximum(inner, outer)
        going = np.flatnonzero(~is_resolved(below, above, precision))
        if not going.size:
            break
        half = middle(below[going], above[going])
        rows = way[going].copy()
        rows[np.arange(len(going)), feature[going]] = half
        kept = questions.labels(rows) == first[going]
        inner[going[kept]], outer[going[~kept]] = half[kept], half[~kept]
    return {(int(at), float(cut)) for at, cut in zip(feature, border(below, above, precision), strict=True)}


def _best(
    known: set[tuple[int, float]], low: np.ndarray, high: np.ndarray, points: np.ndarray, labels: np.ndarray
) -> tuple[int, float]:
    """The known threshold within a box that leaves the least entropy of the labels; it has points on both sides."""
    found: tuple[float, tuple[int, float]] | None = None
    for feature, threshold in sorted(known):
        left = points[:, feature] <= threshold
        if not low[feature] < threshold < high[feature] or left.all() or not left.any():
            continue
        rest = sum(side.sum() * _entropy(labels[side]) for side in (left, ~left))
        if found is None or rest < found[0]:
            found = rest, (feature, threshold)
    if found is None:
        raise ValueError("no threshold tells the labels of a box apart: the API responds at random")
    return found[1]


def _entropy(labels: np.ndarray) -> float:
    """In nats."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-np.sum(shares * np.log(shares)))
