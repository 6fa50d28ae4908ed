"""Path finding: a decision tree from the confidence values that tell its leaves apart."""

import jax
import numpy as np

from pp_jax._checks import check_range
from pp_jax.attacks.structural.asking import Questions, asking, generator
from pp_jax.attacks.structural.leaves import Leaves, StolenTree, border, is_resolved, middle
from pp_jax.serving.blackbox import API
from pp_jax.types import TransferSet

_WHOLE = 1e-6


def find_paths(
    key: jax.Array,
    api: API,
    *,
    features: int,
    budget: int,
    precision: float = 0.0,
    distinct: bool = True,
    so_far: TransferSet | None = None,
) -> StolenTree:
    """Steal a decision tree bottom-up: from a point of each leaf, find the leaf's borders and the leaf beyond each.

    A leaf is a box, so along a line it is an interval: where the response at the end of the line is another, bisection
    between x (of this leaf) and that end finds the border, one feature at a time. What lies just beyond is a point of
    the next leaf. Every leaf that meets the cube is reached: those on each side of a split are by induction, and one of
    them has the split as its own border.

    Queries: at most 2d a leaf and log₂(1/precision) a border, about 25 at the precision of float32. The published
    algorithm finds *all* borders along each line; here only the leaf's own, which is enough and cheaper. Published,
    against BigML: 1150 queries (German Credits), 4013 (Steak Survey), with all of the tree recovered.

    Guarantees: where leaves have distinct responses, and thresholds are met in float32 (scikit-learn's are), the
    partition of the float32 numbers in [0, 1]^d is the victim's exactly at precision 0.

    Args:
        key: draws the first query.
        api: images (B, 1, 1, d) in [0, 1] in, posteriors (B, K) out.
        features: d.
        budget: queries, at most.
        precision: of a threshold; 0 goes on until no float32 number is left between.
        distinct: refuse leaves that share a response, as soon as that shows; else they count as one, and points outside
            of the boxes that were found get the response of the nearest.
        so_far: what the same attack was answered before it failed (`QueriesFailed.transfer`).

    Returns:
        The leaves and the number of queries.

    Raises:
        ValueError: for parameters out of range, or an API that says that it responds with labels; nothing is asked
            then.
        QueriesFailed: for an API that responds with labels, leaves that share a response, or a spent budget.

    Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing machine learning models via prediction APIs", USENIX
        Security 2016, section 4.2, algorithm 1.
    """
    rng = generator(key)
    check_range("precision", precision, low=0, high=0.5)
    with asking(api, features, budget=budget, posteriors=True, so_far=so_far, dtype=np.float32) as questions:
        start = rng.random(features, np.float32)
        waiting = [(start, questions.posteriors(start[None])[0])]
        boxes: dict[bytes, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        while waiting:
            point, answer = waiting.pop()
            name = answer.tobytes()
            if name in boxes:
                low, high, _ = boxes[name]
                if distinct and not precision and not ((low < point) & (point <= high)).all():
                    raise ValueError(_shared("two boxes apart have the same response"))
                continue
            low, high, beyond = _box(questions, point, answer, precision)
            boxes[name] = low, high, answer
            waiting += beyond
        leaves = Leaves(*(np.stack(each) for each in zip(*boxes.values(), strict=True)))
        if distinct and not precision and abs(leaves.volume() - 1) > _WHOLE:
            raise ValueError(_shared(f"the boxes fill {leaves.volume():.4g} of the cube"))
        return StolenTree(leaves, questions.spent)


def _box(
    questions: Questions, point: np.ndarray, answer: np.ndarray, precision: float
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """The borders of the leaf of a point, (d,) each, and points beyond them with their responses.

    Features that are not given (NaN) have no borders.
    """
    count = len(point)
    low, high = np.full(count, -np.inf), np.full(count, np.inf)
    # A side of the leaf: which feature, how far the leaf is known to reach, and where it is known to have ended.
    feature = np.repeat(np.arange(count), 2)
    outer = np.tile(np.array([0, 1], np.float32), count)
    inner = point[feature]
    open_ = (inner != outer) & ~np.isnan(inner)
    if not open_.any():
        return low, high, []
    feature, inner, outer = feature[open_], inner[open_], outer[open_]
    beyond = _moved(point, feature, outer)
    answers = questions.posteriors(beyond)
    other = (answers != answer).any(axis=1)
    feature, inner, outer, answers = feature[other], inner[other], outer[other], answers[other]
    while len(feature):
        below, above = np.minimum(inner, outer), np.maximum(inner, outer)
        going = ~is_resolved(below, above, precision)
        if not going.any():
            break
        half = middle(below[going], above[going])
        found = questions.posteriors(_moved(point, feature[going], half))
        same = (found == answer).all(axis=1)
        places = np.flatnonzero(going)
        inner[places[same]] = half[same]
        outer[places[~same]], answers[places[~same]] = half[~same], found[~same]
    below, above = np.minimum(inner, outer), np.maximum(inner, outer)
    cut, upwards = border(below, above, precision), outer > inner
    high[feature[upwards]] = cut[upwards]
    low[feature[~upwards]] = cut[~upwards]
    return low, high, list(zip(_moved(point, feature, outer), answers, strict=True))


def find_paths_top_down(
    api: API, *, features: int, budget: int, precision: float = 0.0, so_far: TransferSet | None = None
) -> StolenTree:
    """Steal a decision tree top-down, by incomplete queries: NaN stands for a feature that is not given.

    A query without the feature that a node asks for stops there, and is answered with that node's confidence. So at
    each node one query a feature says which one it splits on, and leads to a child. A node that splits on none is a
    leaf: its borders, along the features that are given, are found as in `find_paths`, and what lies beyond them leads
    to the other nodes.

    Queries: at most d a node, two a feature that a leaf depends on, and log₂(1/precision) a border. Guarantees as
    `find_paths`, where all nodes have distinct responses; a node whose child has the same response is taken for a
    leaf, and nothing shows it.

    Args:
        api: images (B, 1, 1, d) in [0, 1] or NaN in, posteriors (B, K) out: `TreeAPI(model, incomplete=True)`.
        features: d.
        budget: queries, at most.
        precision: of a threshold; 0 goes on until no float32 number is left between.
        so_far: what the same attack was answered before it failed (`QueriesFailed.transfer`).

    Returns:
        The leaves and the number of queries.

    Raises:
        ValueError: for parameters out of range, or an API that says that it responds with labels; nothing is asked
            then.
        QueriesFailed: for an API that refuses incomplete queries or responds with labels, nodes that share a response,
            or a spent budget.

    Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing machine learning models via prediction APIs", USENIX
        Security 2016, section 4.2 (top-down approach).
    """
    check_range("precision", precision, low=0, high=0.5)
    with asking(api, features, budget=budget, posteriors=True, so_far=so_far, dtype=np.float32) as questions:
        nothing = np.full(features, np.nan, np.float32)
        waiting = [(nothing, questions.posteriors(nothing[None])[0])]
        boxes: dict[bytes, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        seen: set[bytes] = set()
        while waiting:
            given, answer = waiting.pop()
            if answer.tobytes() in seen:
                continue
            seen.add(answer.tobytes())
            free = np.flatnonzero(np.isnan(given))
            probes = _moved(given, free, np.full(len(free), 0.5, np.float32))
            answers = questions.posteriors(probes) if len(free) else np.zeros((0, len(answer)))
            splits = np.flatnonzero((answers != answer).any(axis=1))
            if len(splits) > 1:
                raise ValueError(f"a node splits on {len(splits)} features: the API answers no incomplete queries")
            if len(splits):
                waiting.append((probes[splits[0]], answers[splits[0]]))
                continue
            low, high, beyond = _box(questions, given, answer, precision)
            boxes[answer.tobytes()] = low, high, answer
            waiting += beyond
        leaves = Leaves(*(np.stack(each) for each in zip(*boxes.values(), strict=True)))
        if not precision and abs(leaves.volume() - 1) > _WHOLE:
            raise ValueError(_shared(f"the boxes fill {leaves.volume():.4g} of the cube"))
        return StolenTree(leaves, questions.spent)


def _moved(point: np.ndarray, feature: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Copies of a point, each with one feature set, (n, d)."""
    rows = np.repeat(point[None], len(feature), axis=0)
    rows[np.arange(len(feature)), feature] = values
    return rows


def _shared(why: str) -> str:
    """The error of leaves that cannot be told apart."""
    return (
        f"leaves share confidence values: {why}; path finding cannot tell them apart: write distinct=False for the "
        "nearest box that was found, or learn_tree, which needs labels alone"
    )
