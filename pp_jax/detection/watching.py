"""Run a detector over the streams of many accounts, and set its threshold."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.geometry.posteriors import posterior
from pp_jax.types import Detector, Params, SummarisingDetector

MEMORY_AT_ONCE = 16 * 2**20
"""Bytes of accounts that are watched together: about what a processor's caches hold."""
STEPS_AT_ONCE = 64


class Observed(NamedTuple):
    """What a detector sees of N images: the victim's view of a pool that accounts draw their queries from.

    Attributes:
        images: (N, H, W, C).
        probs: clean posteriors, (N, K).
        features: inputs of the victim's last layer, (N, F).
    """

    images: jax.Array
    probs: jax.Array
    features: jax.Array


def observe(network: Any, params: Params, images: Any, *, batch_size: int = 250) -> Observed:
    """Ask the victim about images.

    Args:
        network: the victim, `network(params, image) -> (K,)` with `network.features`.
        params: its parameters.
        images: (N, H, W, C).
        batch_size: images at once, to bound memory.
    """
    images = jnp.asarray(images)
    return Observed(images, *_in_batches(functools.partial(_observed, network, params), (images,), batch_size))


@functools.partial(jax.jit, static_argnums=0)
def _observed(network: Any, params: Params, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    def one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        return posterior(network, params, image), network.features(params, image)

    return jax.vmap(one)(images)


def summaries(detector: Detector[Any], seen: Observed, *, batch_size: int = 250) -> Any:
    """What a detector keeps of each image of a pool: computed once, however many accounts ask about it.

    Args:
        detector: any detector; of one that is no `SummarisingDetector` all that it is given.
        seen: the pool as the victim sees it.
        batch_size: images at once, to bound memory.

    Returns:
        A pytree, leaves (N, …).
    """
    rows = Observed(*map(jnp.asarray, seen))
    if not isinstance(detector, SummarisingDetector):
        return tuple(rows)
    return _in_batches(functools.partial(_summarised, detector), tuple(rows), batch_size)


@jax.jit
def _summarised(detector: SummarisingDetector[Any], *rows: jax.Array) -> Any:
    return jax.vmap(detector.summarise)(*rows)


def _in_batches(function: Callable[..., Any], rows: tuple[jax.Array, ...], batch_size: int) -> Any:
    """A mapped function over rows, so many at once; the last batch is filled up, so that one program does for all."""
    count = len(rows[0])
    size = min(batch_size, count)
    places = np.minimum(np.arange(-(-count // size) * size), count - 1).reshape(-1, size)
    parts = [function(*(leaf[place] for leaf in rows)) for place in places]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *parts)


def watch(
    detector: Detector[Any],
    seen: Observed,
    streams: Any,
    *,
    known: Any = None,
    at_once: int = MEMORY_AT_ONCE,
) -> np.ndarray:
    """The scores of accounts, query by query.

    Accounts are watched in step, some at a time, so that their memories together stay within bounds: those of 10,000
    accounts need not fit.

    Args:
        detector: any detector; its leaves may change without a new compilation.
        seen: a pool of images as the victim sees them.
        streams: which image of the pool each account asks about, in order, (A, n) whole numbers.
        known: `summaries(detector, seen)`, where they are at hand.
        at_once: bytes that the accounts of one batch may take, their next queries included.

    Returns:
        Scores, (A, n), float32.

    Raises:
        ValueError: for streams that are no (A, n) whole numbers within the pool.
    """
    rows = np.asarray(streams)
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"streams must be (A, n) whole numbers, not {rows.dtype} of shape {rows.shape}")
    if rows.size and not (rows.min() >= 0 and rows.max() < len(seen.images)):
        raise ValueError(f"streams must be in 0…{len(seen.images) - 1}, not {rows.min()}…{rows.max()}")
    if not rows.size:
        return np.zeros(rows.shape, np.float32)
    pool = summaries(detector, seen) if known is None else known
    accounts, queries = rows.shape
    steps = min(STEPS_AT_ONCE, _power_of_two(queries))
    each = memory(detector) + steps * sum(leaf.nbytes // len(leaf) for leaf in jax.tree.leaves(pool))
    size = min(max(_power_of_two(at_once // each + 1) // 2, 1), max(_power_of_two(accounts), 16))
    # Filled up to whole batches, so that one program does for all; what is beyond the end changes nothing before it.
    padded = np.pad(rows, ((0, -accounts % size), (0, -queries % steps)), mode="edge")
    out = np.empty(padded.shape, np.float32)
    for first in range(0, len(padded), size):
        state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), detector.init())
        for start in range(0, padded.shape[1], steps):
            part = padded[first : first + size, start : start + steps].T
            state, scores = _followed(detector, state, jax.tree.map(lambda leaf, part=part: leaf[part], pool))
            out[first : first + size, start : start + steps] = np.asarray(scores).T
    return out[:accounts, :queries]


def fold(detector: Detector[Any], state: Any, summary: Any) -> tuple[Any, jax.Array]:
    """The memory and the score after a query of which there is a summary, of `summaries`."""
    return (
        detector.fold(state, summary) if isinstance(detector, SummarisingDetector) else detector.update(state, *summary)
    )


@jax.jit
def _followed(detector: Detector[Any], state: Any, queries: Any) -> tuple[Any, jax.Array]:
    """Accounts in step over some queries, leaves (n, A, …): the scan outside, so that what is due is due for all."""
    return jax.lax.scan(lambda state, row: jax.vmap(functools.partial(fold, detector))(state, row), state, queries)


def _power_of_two(count: int) -> int:
    """The smallest that is not below."""
    return 1 << max(count - 1, 0).bit_length()


def memory(detector: Detector[Any]) -> int:
    """Bytes that a detector remembers of one account."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(jax.eval_shape(detector.init)))


def threshold(scores: Any, rate: float) -> float:
    """The threshold that a benign account of n queries ever exceeds with probability at most `rate`.

    t = the ⌈(A + 1)(1 − rate)⌉-th smallest of max_i s_ai, over A benign accounts

    which holds for a further account that is exchangeable with these (split conformal prediction), and for no other
    kind of account.

    Args:
        scores: of benign accounts, (A, n).
        rate: false-alarm rate per account, in (0, 1).

    Returns:
        The threshold; an alarm is a score above it.

    Raises:
        ValueError: for a rate out of range, or too few accounts for it.
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must be above 0 and below 1, not {rate}")
    worst = np.sort(np.max(np.asarray(scores), axis=1))
    place = int(np.ceil((len(worst) + 1) * (1 - rate)))
    if place > len(worst):
        needed = int(np.ceil(1 / rate)) - 1
        raise ValueError(f"a false-alarm rate of {rate:g} needs at least {needed} benign accounts, not {len(worst)}")
    return float(worst[place - 1])


def first_alarm(scores: Any, threshold: float) -> np.ndarray:
    """How many queries each account had sent at its first alarm, (A,) float64; infinity where there was none."""
    alarms = np.asarray(scores) > threshold
    return np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1.0, np.inf)
