"""A gradient bandit over the classes of a pool, flat or as a tree, on the host in float64."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Level(NamedTuple):
    """The nodes of one level; siblings lie side by side.

    Attributes:
        parent: of every node, the node of the level above, (n,), not decreasing.
        first: of every node above, its first child, with n at the end.
    """

    parent: np.ndarray
    first: np.ndarray


class Tree(NamedTuple):
    """The classes of a pool, coarse to fine.

    Attributes:
        levels: from the coarsest to the leaves.
        paths: of every leaf, its node at every level, (A, L).
        leaf: of every image, its leaf, (N,).
    """

    levels: tuple[Level, ...]
    paths: np.ndarray
    leaf: np.ndarray


def grow(classes: np.ndarray) -> Tree:
    """Build the tree from the class indices of the images, (N, L) coarse to fine; a flat set of classes has L = 1."""
    levels, nodes, above = [], [np.zeros(len(classes), np.int64)], 1
    for column in classes.T:
        pairs, node = np.unique(np.stack([nodes[-1], column], axis=1), axis=0, return_inverse=True)
        levels.append(Level(pairs[:, 0], np.searchsorted(pairs[:, 0], np.arange(above + 1))))
        nodes.append(node.reshape(-1))
        above = len(pairs)
    _, example = np.unique(nodes[-1], return_index=True)
    return Tree(tuple(levels), np.stack(nodes[1:], axis=1)[example], nodes[-1])


class Bandit(NamedTuple):
    """What the policy has learnt.

    Attributes:
        preferences: H of every node, one array (n,) a level.
        chosen: how often every node was on the path, one array (n,) a level.
        rewarded: the number of rewards so far.
        total: their sum.
    """

    preferences: tuple[np.ndarray, ...]
    chosen: tuple[np.ndarray, ...]
    rewarded: int
    total: float


def untrained(levels: Sequence[Level]) -> Bandit:
    """No preferences: every node is as likely as its siblings."""
    zeros = [tuple(np.zeros(len(level.parent), dtype) for level in levels) for dtype in (np.float64, np.int64)]
    return Bandit(zeros[0], zeros[1], 0, 0.0)


def softmax(preferences: np.ndarray, live: np.ndarray) -> np.ndarray:
    """π = softmax(H) over the live siblings, zero elsewhere; all zero where none is live."""
    if not live.any():
        return np.zeros(len(preferences))
    top = preferences[live].max()
    weights = np.where(live, np.exp(np.minimum(preferences - top, 0)), 0)
    return weights / weights.sum()


def probabilities(tree: Tree, preferences: Sequence[np.ndarray], left: np.ndarray) -> np.ndarray:
    """The probability of every leaf: the product of a softmax over the live siblings at every level.

    Args:
        tree: the classes.
        preferences: H, one array a level.
        left: images that have not been asked about, a leaf, (A,).

    Returns:
        (A,), zero exactly where a leaf is exhausted; all zero where all are.
    """
    above = np.ones(1)
    for level, h, images in zip(tree.levels, preferences, _per_level(tree, left), strict=True):
        starts, live = level.first[:-1], images > 0
        masked = np.where(live, h, -np.inf)
        top = np.maximum.reduceat(masked, starts)
        weights = np.exp(masked - np.where(np.isfinite(top), top, 0)[level.parent])
        total = np.add.reduceat(weights, starts)
        above = above[level.parent] * weights / np.where(total > 0, total, 1)[level.parent]
    return above


def draw(tree: Tree, preferences: Sequence[np.ndarray], left: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Draw leaves without replacement of images; a leaf that is exhausted on the way drops out at once.

    Args:
        tree: the classes.
        preferences: H, fixed meanwhile.
        left: images that have not been asked about, a leaf, (A,).
        uniforms: numbers in (0, 1), one a draw, (b,).

    Returns:
        Leaves, (b,), or as many as there are images left.
    """
    drawn, left = [np.zeros(0, np.int64)], left.copy()
    while len(uniforms) and left.any():
        ends = np.cumsum(probabilities(tree, preferences, left))
        leaves = np.searchsorted(ends, uniforms * ends[-1], side="right")
        exhausting = np.flatnonzero(ranks(leaves) + 1 == left[leaves])
        leaves = leaves[: exhausting[0] + 1] if len(exhausting) else leaves
        drawn.append(leaves)
        np.subtract.at(left, leaves, 1)
        uniforms = uniforms[len(leaves) :]
    return np.concatenate(drawn)


def ranks(leaves: np.ndarray) -> np.ndarray:
    """How often each entry occurred before, (b,)."""
    order = np.argsort(leaves, kind="stable")
    found = np.empty(len(leaves), np.int64)
    found[order] = np.arange(len(leaves)) - np.searchsorted(leaves[order], leaves[order])
    return found


def learn(tree: Tree, bandit: Bandit, left: np.ndarray, leaves: np.ndarray, rewards: np.ndarray) -> Bandit:
    """The gradient bandit's updates for rewards in the order in which they came.

    r̄ += (r − r̄)/t, and at every node a on the path of the leaf: N_a += 1, H += (r − r̄)/N_a (e_a − π) over a and its
    siblings, π = softmax(H) over the live ones as it is then.

    Args:
        tree: the classes.
        bandit: what was learnt before.
        left: images that had not been asked about before, a leaf, (A,).
        leaves: the leaves asked about, (b,).
        rewards: what they brought, (b,), finite.

    Returns:
        What is known now.

    Source: Orekondy et al. 2019, §4.1; r̄ over all rewards, as in the Adversarial Robustness Toolbox.
    """
    totals = bandit.total + np.cumsum(rewards)
    advantages = rewards - totals / (bandit.rewarded + np.arange(1, len(rewards) + 1))
    preferences, chosen = ([array.copy() for array in arrays] for arrays in (bandit.preferences, bandit.chosen))
    images = _per_level(tree, left)
    for path, advantage in zip(tree.paths[leaves], advantages, strict=True):
        for depth, node in enumerate(path):
            level, h, count, live = tree.levels[depth], preferences[depth], chosen[depth], images[depth]
            above = level.parent[node]
            siblings = slice(level.first[above], level.first[above + 1])
            count[node] += 1
            step = advantage / count[node]
            h[siblings] -= step * softmax(h[siblings], live[siblings] > 0)
            h[node] += step
            live[node] -= 1
    return Bandit(tuple(preferences), tuple(chosen), bandit.rewarded + len(rewards), float(totals[-1]))


def _per_level(tree: Tree, left: np.ndarray) -> list[np.ndarray]:
    """Images left below every node, one fresh array a level."""
    return [np.bincount(nodes, left).astype(np.int64) for nodes in tree.paths.T]
