"""Streams of benign accounts: which images each asks about, in order, as indices into a pool.

All take `key, labels, accounts, queries` and return (accounts, queries) whole numbers; `labels` (N,) are the classes of
the pool's images, of the victim's own distribution. What the images look like (drifted, say) is the pool's affair.
"""

from typing import Any, Protocol

import jax
import numpy as np


class Habit(Protocol):
    """A kind of benign account."""

    def __call__(self, key: jax.Array, labels: Any, accounts: int, queries: int) -> np.ndarray:
        """Return which images each account asks about, (accounts, queries)."""


def uniform(key: jax.Array, labels: Any, accounts: int, queries: int) -> np.ndarray:
    """Each asks about images at random, none of them twice where there are enough."""
    rng, count = _rng(key), len(labels)
    return np.stack([rng.choice(count, queries, replace=queries > count) for _ in range(accounts)])


def skewed(key: jax.Array, labels: Any, accounts: int, queries: int, *, classes: int = 2) -> np.ndarray:
    """Each asks about images of a few classes alone."""
    rng, truth = _rng(key), np.asarray(labels)
    known = np.unique(truth)
    rows = []
    for _ in range(accounts):
        wanted = np.flatnonzero(np.isin(truth, rng.choice(known, min(classes, len(known)), replace=False)))
        rows.append(rng.choice(wanted, queries, replace=queries > len(wanted)))
    return np.stack(rows)


def bursty(key: jax.Array, labels: Any, accounts: int, queries: int, *, length: float = 20.0) -> np.ndarray:
    """Each asks about one class for a while, `length` queries on average, then about another."""
    rng, truth = _rng(key), np.asarray(labels)
    known = np.unique(truth)
    members = {label: np.flatnonzero(truth == label) for label in known.tolist()}
    rows = np.empty((accounts, queries), np.int64)
    for row in rows:
        label = rng.choice(known)
        for place in range(queries):
            if rng.random() < 1 / length:
                label = rng.choice(known)
            row[place] = rng.choice(members[int(label)])
    return rows


def repeated(key: jax.Array, labels: Any, accounts: int, queries: int, *, times: int = 5) -> np.ndarray:
    """Each asks about a few images again and again, each `times` times on average."""
    rng, count = _rng(key), len(labels)
    few = max(1, min(count, -(-queries // times)))
    return np.stack([rng.choice(rng.choice(count, few, replace=False), queries) for _ in range(accounts)])


HABITS: tuple[Habit, ...] = (uniform, skewed, bursty, repeated)


def _rng(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
