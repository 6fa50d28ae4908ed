"""Run a detector over the streams of many accounts, and set its threshold."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pp_jax.geometry.posteriors import posterior
from pp_jax.types import Detector, Params


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
    return Observed(images, *_observed(network, params, images, batch_size))


@functools.partial(jax.jit, static_argnums=(0, 3))
def _observed(network: Any, params: Params, images: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
    def one(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        return posterior(network, params, image), network.features(params, image)

    return jax.lax.map(one, images, batch_size=min(batch_size, len(images)))


def watch(detector: Detector[Any], seen: Observed, streams: Any) -> jax.Array:
    """The scores of accounts, query by query.

    Args:
        detector: any detector; its leaves may change without a new compilation.
        seen: a pool of images as the victim sees them.
        streams: which image of the pool each account asks about, in order, (A, n) whole numbers.

    Returns:
        Scores, (A, n).

    Raises:
        ValueError: for streams that are no (A, n) whole numbers within the pool.
    """
    rows = np.asarray(streams)
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"streams must be (A, n) whole numbers, not {rows.dtype} of shape {rows.shape}")
    if rows.size and not (rows.min() >= 0 and rows.max() < len(seen.images)):
        raise ValueError(f"streams must be in 0…{len(seen.images) - 1}, not {rows.min()}…{rows.max()}")
    return _watched(detector, seen, jnp.asarray(rows))


@jax.jit
def _watched(detector: Detector[Any], seen: Observed, streams: jax.Array) -> jax.Array:
    def account(stream: jax.Array) -> jax.Array:
        def step(state: Any, row: jax.Array) -> tuple[Any, jax.Array]:
            return detector.update(state, seen.images[row], seen.probs[row], seen.features[row])

        return jax.lax.scan(step, detector.init(), stream)[1]

    return jax.vmap(account)(streams)


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
