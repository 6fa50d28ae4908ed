"""Active learning of linear classifiers from labels alone: queries are made by bisection towards the boundary."""

from typing import Any

import jax
import numpy as np

from pp_jax._checks import check_count, check_range
from pp_jax.attacks.structural.asking import Questions, asking, generator
from pp_jax.attacks.structural.equations import StolenLinear
from pp_jax.attacks.structural.linear import Linear, with_ones
from pp_jax.serving.blackbox import API
from pp_jax.types import TransferSet

_SEEDS = 64
_PATIENCE = 3


def learn_linear(
    key: jax.Array,
    api: API,
    *,
    features: int,
    classes: int,
    budget: int,
    precision: float = 1e-11,
    so_far: TransferSet | None = None,
) -> StolenLinear:
    """Learn a half-space, or a linear classifier of K classes, from labels.

    Between two queries of different classes i and j bisection finds a point m with (w_i − w_j)·m + b_i − b_j = 0, a
    linear equation. With the last class at zero there are (K − 1)(d + 1) unknowns, and all equations are homogeneous:
    the classifier is their common null vector, by singular value decomposition, its sign that of the labels.

    Queries: log₂(1/precision) an equation, so O(d log 1/precision) for a half-space, which is the order that learning
    a half-space by labels needs at least; about K times that for K classes. Two classes that do not touch within the
    cube are not compared, and need not be: where that leaves the null vector undetermined, one that satisfies all
    labels with the largest margin is taken.

    Args:
        key: draws the points that bisection begins with.
        api: images (B, 1, 1, d) in [0, 1] in; class indices (B,) out, or posteriors, of which the argmax is taken.
        features: d.
        classes: K ≥ 2.
        budget: queries, at most.
        precision: length of the interval that holds a boundary point; no less than the API resolves.
        so_far: what the same attack was answered before it failed (`QueriesFailed.transfer`).

    Returns:
        The classifier, its last class at zero and all parameters of length 1 together (labels do not tell a scale), and
        the number of queries.

    Raises:
        ValueError: for parameters out of range, or a budget that is too small for the equations; nothing is asked then.
        QueriesFailed: where all labels are the same, labels are no argmax of linear functions, or the budget is spent.

    Source: Chandrasekaran, Chaudhuri, Giacomelli, Jha, Yan, "Exploring connections between active learning and model
        extraction", USENIX Security 2020 (query synthesis for half-spaces); the bisection is that of Lowd, Meek,
        "Adversarial learning", KDD 2005. The null vector for K classes is this library's.
    """
    rng = generator(key)
    check_count("features", features, low=1)
    check_count("classes", classes, low=2)
    check_range("precision", precision, low=0, high=0.5, open_low=True)
    rounds = int(np.ceil(np.log2(np.sqrt(features) / precision)))
    unknown = (classes - 1) * (features + 1)
    least = 2 + (unknown - 1) * rounds
    check_count("the query budget", budget, low=1)
    if budget < least:
        raise ValueError(
            f"{unknown - 1} boundary points at precision {precision:g} take {least} queries, which the budget of "
            f"{budget} does not hold; write budget={2 * least}, or a precision of fewer digits"
        )
    with asking(api, features, budget=budget, posteriors=False, so_far=so_far) as questions:
        points, labels = _seeds(questions, rng, features, classes)
        equations = np.zeros((0, unknown))
        rank, idle = 0, 0
        while rank < unknown - 1 and idle < _PATIENCE:
            wanted = unknown - 1 - rank if not idle else max(1, (unknown - 1 - rank) // 2)
            one, other = _pairs(rng, labels, wanted)
            found = _crossings(questions, points[one], points[other], labels[one], labels[other], rounds)
            equations = np.concatenate([equations, _homogeneous(*found, classes)])
            before, rank = rank, int(np.linalg.matrix_rank(equations, tol=_tolerance(equations, precision)))
            idle = idle + 1 if rank == before else 0
        theta = _null_vector(equations, points, labels, classes, precision)
        return StolenLinear(theta, questions.spent)


def _seeds(questions: Questions, rng: Any, features: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform points with their labels, of as many classes as show up."""
    points, labels = np.zeros((0, features)), np.zeros(0, int)
    while not len(points) or (len(np.unique(labels)) < classes and len(points) < 32 * _SEEDS):
        count = min(_SEEDS, questions.left)
        more = rng.random((count, features))
        points, labels = np.concatenate([points, more]), np.concatenate([labels, questions.labels(more)])
        if questions.left == 0:
            break
    if len(np.unique(labels)) < 2:
        raise ValueError(f"all of {len(points)} queries have the label {labels[0]}: there is no boundary to be found")
    if labels.max() >= classes:
        raise ValueError(f"the API responds with class {labels.max()}: write classes={labels.max() + 1} or more")
    return points, labels


def _pairs(rng: Any, labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of two points with different labels, the classes drawn first, so that rare ones have their share."""
    kinds = np.unique(labels)
    members = {kind: np.flatnonzero(labels == kind) for kind in kinds}
    chosen = np.array([rng.choice(kinds, 2, replace=False) for _ in range(count)])
    one, other = (np.array([rng.choice(members[kind]) for kind in side]) for side in chosen.T)
    return one, other


def _crossings(
    questions: Questions, one: np.ndarray, other: np.ndarray, first: np.ndarray, second: np.ndarray, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points between classes on segments (n, d), and the two classes of each; all segments are bisected at once."""
    near, far = np.zeros(len(one)), np.ones(len(one))
    second = second.copy()
    for _ in range(rounds):
        half = 0.5 * (near + far)
        labels = questions.labels(one + half[:, None] * (other - one))
        same = labels == first
        near = np.where(same, half, near)
        far, second = np.where(same, far, half), np.where(same, second, labels)
    half = 0.5 * (near + far)
    return one + half[:, None] * (other - one), first, second


def _homogeneous(points: np.ndarray, first: np.ndarray, second: np.ndarray, classes: int) -> np.ndarray:
    """The equations (θ_i − θ_j)·(m, 1) = 0, rows of unit length, without the columns of the last class."""
    known = with_ones(points)
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    rows = np.zeros((len(points), classes, known.shape[1]))
    rows[np.arange(len(points)), first] += known
    rows[np.arange(len(points)), second] -= known
    return rows[:, :-1].reshape(len(points), -1)


def _tolerance(equations: np.ndarray, precision: float) -> float:
    """Singular values below this are those of points that are off the boundary by `precision`."""
    return max(10 * precision * np.sqrt(equations.size), 1e-12)


def _null_vector(
    equations: np.ndarray, points: np.ndarray, labels: np.ndarray, classes: int, precision: float
) -> Linear:
    """The parameters that satisfy all equations and agree with the labels."""
    _, values, directions = np.linalg.svd(equations, full_matrices=True)
    rank = min(int((values > _tolerance(equations, precision)).sum()), len(directions) - 1)
    basis = directions[rank:]
    tables = [_padded(vector, classes) for vector in basis]
    known = with_ones(points)
    scores = np.stack([known @ table.T for table in tables], axis=2)
    own = scores[np.arange(len(points)), labels][:, None]
    rivals = np.arange(classes)[None, :] != labels[:, None]
    margins = (own - scores)[rivals]
    weights = _separating(margins)
    theta = sum(weight * table for weight, table in zip(weights, tables, strict=True))
    theta = np.asarray(theta) / np.linalg.norm(theta)
    broken = np.mean(np.argmax(known @ theta.T, axis=1) != labels)
    if broken > 0.01:
        raise ValueError(
            f"{broken:.1%} of the labels contradict every linear classifier through the boundary points that were "
            "found: the victim is not linear, or responds at random"
        )
    return Linear(theta[:, :-1], theta[:, -1])


def _separating(margins: np.ndarray) -> np.ndarray:
    """Weights c in [−1, 1]^r of null vectors with margins·c ≥ t for the largest t."""
    from scipy.optimize import linprog

    count = margins.shape[1]
    if count == 1:
        return np.sign(np.sum(np.sign(margins))) * np.ones(1)
    cost = np.append(np.zeros(count), -1.0)
    scale = np.abs(margins).max(axis=1, keepdims=True)
    rows = np.concatenate([-margins / np.maximum(scale, 1e-300), np.ones((len(margins), 1))], axis=1)
    found = linprog(cost, rows, np.zeros(len(margins)), bounds=[(-1, 1)] * count + [(-1, 1)])
    return np.asarray(found.x[:-1])


def _padded(vector: np.ndarray, classes: int) -> np.ndarray:
    """Parameters (K, d + 1) with the last class at zero."""
    table = vector.reshape(classes - 1, -1)
    return np.concatenate([table, np.zeros((1, table.shape[1]))])
