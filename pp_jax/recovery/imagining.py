"""Sets of responses that an attacker makes for itself: imagined posteriors, pushed through a defense it considers."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax.recovery.candidates import Candidate, Own
from pp_jax.types import Params, Query

# Of the logits of an imagined set: how sure it is, how its classes differ, and how sureness varies within it.
_SURE, _BIASED, _VARIED = (0.7, 8.0), 2.5, (0.1, 0.7)


class Imagined(NamedTuple):
    """Sets of clean posteriors, and what a defense of each may have kept secret.

    Attributes:
        probs: y, (S, m, K).
        places: where the strength of a set lies in the range of a candidate, in [0, 1], (S,).
        partners: pairs of classes, (S, K).
        keys: of the responses, (m, S).
    """

    probs: Any
    places: Any
    partners: Any
    keys: jax.Array


def imagine(key: jax.Array, sets: int, count: int, classes: int) -> Imagined:
    """Posteriors such as some classifier might give on a pool, none of them from data.

    y_i = softmax(s e^{v g_i} (W h_i + b)),   h_i ~ N(0, I),   g_i ~ N(0, 1)

    with W = I + ρ N(0, 1/K), b ~ N(0, t²), and s, v, t, ρ drawn once for each set: how sure it is, how much that
    varies, how its classes differ, how they hang together. Strengths are spread evenly.

    Args:
        key: randomness of the sets.
        sets: S.
        count: posteriors in a set, m.
        classes: K.
    """
    draw_key, response_key = jax.random.split(key)
    # On the host: a program for draws of every shape would take longer to compile than they take.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(draw_key)))
    draws = rng.random((4, sets, 1, 1))
    sure = _SURE[0] * (_SURE[1] / _SURE[0]) ** draws[0]
    varied = _VARIED[0] + (_VARIED[1] - _VARIED[0]) * draws[1]
    mix = np.eye(classes) + draws[2] * rng.standard_normal((sets, classes, classes)) / np.sqrt(classes)
    bias = _BIASED * draws[3] * rng.standard_normal((sets, 1, classes))
    logits = rng.standard_normal((sets, count, classes)) @ mix + bias
    logits *= sure * np.exp(varied * rng.standard_normal((sets, count, 1)))
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    probs = (odds / odds.sum(axis=2, keepdims=True)).astype(np.float32)
    places = rng.permutation((np.arange(sets) + 0.5) / sets).astype(np.float32)
    partners = np.stack([_pairs(rng, classes) for _ in range(sets)])
    return Imagined(probs, places, partners, jax.random.split(response_key, (count, sets)))


@functools.partial(jax.jit, static_argnames=("candidate", "network"))
def responded(candidate: Candidate, network: Any, surrogate: Params, images: jax.Array, sets: Imagined) -> jax.Array:
    """What one candidate makes of imagined sets, each with a strength and with pairs of classes of its own.

    Args:
        candidate: the defense.
        network: the attacker's architecture.
        surrogate: the attacker's own parameters.
        images: the queries that are answered, (m, H, W, C).
        sets: what is answered.

    Returns:
        Responses, (S, m, K).
    """
    strengths = candidate.low + (candidate.high - candidate.low) * sets.places

    def of_all_sets(image: jax.Array, keys: jax.Array, probs: jax.Array) -> jax.Array:
        # Over the sets inside, over images outside: a surrogate is asked once an image.
        def one(key: jax.Array, probs: jax.Array, partners: jax.Array, strength: jax.Array) -> jax.Array:
            defense = candidate.make(Own(network, surrogate, partners), strength)
            return defense(probs, Query(image, key if defense.random else None))

        return jax.vmap(one)(keys, probs, sets.partners, strengths)

    return jax.vmap(of_all_sets, (0, 0, 1), 1)(images, sets.keys, sets.probs)


def _pairs(rng: np.random.Generator, classes: int) -> np.ndarray:
    """Pairs of classes at random, (K,); with odd K one class is its own partner."""
    order, partners = rng.permutation(classes), np.arange(classes)
    first, second = order[0 : classes - 1 : 2], order[1::2]
    partners[first], partners[second] = second, first
    return partners
