"""Attackers who know the detector: more identities, benign queries mixed in, and queries chosen by its own score."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax._checks import check_count
from pp_jax.detection.watching import Observed, fold, summaries
from pp_jax.types import Detector


def split(stream: Any, identities: int) -> np.ndarray:
    """One attacker's queries over so many accounts, in turn, (identities, n // identities); a rest is left out.

    Args:
        stream: queries in order, (n, …).
        identities: how many accounts it has.

    Raises:
        ValueError: for no identity, or more of them than queries.
    """
    check_count("identities", identities, low=1)
    rows = np.asarray(stream)
    each = len(rows) // identities
    if each < 1:
        raise ValueError(f"identities must be at most the {len(rows)} queries, not {identities}")
    return np.swapaxes(rows[: each * identities].reshape(each, identities, *rows.shape[1:]), 0, 1)


def mixed(key: jax.Array, stream: Any, benign: Any, share: float) -> np.ndarray:
    """A stream of the same length in which a share of the queries is benign-looking, at random places.

    Args:
        key: randomness, the attacker's.
        stream: what it wants to query, (n,) whole numbers.
        benign: what looks benign, (m,) whole numbers; drawn with repetition.
        share: of the queries, in [0, 1].

    Returns:
        (n,): as many of the wanted queries as fit, in their order.

    Raises:
        ValueError: for a share out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be at least 0 and at most 1, not {share}")
    where, which = jax.random.split(key)
    n = len(stream)
    cover = np.asarray(jax.random.permutation(where, n)) < round(share * n)
    rows = np.asarray(benign)[np.asarray(jax.random.randint(which, (n,), 0, len(benign)))]
    rows[~cover] = np.asarray(stream)[: int((~cover).sum())]
    return rows


def evading(
    key: jax.Array, detector: Detector[Any], seen: Observed, *, queries: int, candidates: int = 16, known: Any = None
) -> np.ndarray:
    """Query by query the image with the lowest score among a few: by an attacker who has the detector itself.

    At step i, of `candidates` images at random, the one whose update has the smallest score. An attacker without the
    victim's features would have to use its own: this is the bound.

    Args:
        key: randomness, the attacker's.
        detector: the very detector.
        seen: the attacker's pool as the victim sees it.
        queries: length of the stream.
        candidates: images that are compared at each step.
        known: `watching.summaries(detector, seen)`, where they are at hand.

    Returns:
        Indices into the pool, (queries,); some may come twice.

    Raises:
        ValueError: for no query or no candidate.
    """
    check_count("queries", queries, low=1)
    check_count("candidates", candidates, low=1)
    known = summaries(detector, seen) if known is None else known
    return np.asarray(_evading(key, detector, queries, candidates, known))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _evading(key: jax.Array, detector: Detector[Any], queries: int, candidates: int, known: Any) -> jax.Array:
    size = len(jax.tree.leaves(known)[0])

    def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        rows = jax.random.randint(key, (candidates,), 0, size)
        states, scores = jax.vmap(functools.partial(fold, detector, state))(
            jax.tree.map(lambda leaf: leaf[rows], known)
        )
        best = jnp.argmin(scores)
        return jax.tree.map(lambda leaf: leaf[best], states), rows[best]

    return jax.lax.scan(step, detector.init(), jax.random.split(key, queries))[1]


def auroc(benign: Any, attack: Any) -> float:
    """The probability that an attacking account's highest score is above a benign account's, ties counting half.

    Args:
        benign: scores of benign accounts, (A, n).
        attack: scores of attacking accounts, (B, n).
    """
    calm, hostile = (np.max(np.asarray(scores), axis=1) for scores in (benign, attack))
    ordered = np.sort(calm)
    below = np.searchsorted(ordered, hostile, side="left") + np.searchsorted(ordered, hostile, side="right")
    return float(np.mean(below) / (2 * len(ordered)))
