"""Families of defenses by one strength each, and the strength at which they cost the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import theft
from defenses import Defense, Name

if TYPE_CHECKING:
    from steal import Config

HELD_OUT = 1000
"""Images of the pool, drawn by a key of their own, that strengths are calibrated on."""


class Family(NamedTuple):
    """What is turned to make a defense stronger.

    Attributes:
        parameter: its name in `defenses.Defense`.
        low: the weakest value.
        high: the strongest.
    """

    parameter: str
    low: float
    high: float


_BALL = Family("epsilon", 0.0, 2.0)
FAMILIES: dict[Name, Family] = {
    "mad": _BALL,
    "mad_argmax": _BALL,
    "min_inner": _BALL,
    "least_likely": _BALL,
    "next_class": _BALL,
    "reverse_sigmoid": Family("beta", 0.0, 1.0),
    "random_noise": Family("radius", 0.0, 400.0),
    "grad2": _BALL,
    "grad2_argmax": _BALL,
    "modelguard_w": _BALL,
    "dcp": Family("beta", 0.0, 1.0),
    "bdpl": Family("zone", 0.0, 1.0),
}


class HeldOut(NamedTuple):
    """What strengths are calibrated on.

    Attributes:
        surrogate: network and parameters of the defender's.
        images: some of the pool.
        probs: the victim's clean posteriors of them.
    """

    surrogate: tuple[Any, Any]
    images: Any
    probs: Any


def held_out(like: Config) -> HeldOut:
    """Images of a cell's pool, its victim and its surrogate; the same for all families."""
    import jax
    import numpy as np

    from pp_jax import metrics

    at = theft.scene(dataclasses.replace(like, defense=Defense("none")))
    rows = np.asarray(jax.random.permutation(jax.random.key(2**20), len(at.pool)))[:HELD_OUT]
    images = at.pool.images[rows]
    return HeldOut(at.surrogate, images, metrics.predict(at.victim.network, at.victim.params, images))


def calibrated(name: Name, on: HeldOut, *, l1: float) -> tuple[Defense, Any]:
    """The member of a family whose answers to the thief's pool move by a mean L1 distance, and how it was found.

    Args:
        name: the family.
        on: what it is calibrated on.
        l1: the mean distance, 0 to 2.
    """
    import jax

    from pp_jax import calibration

    family = FAMILIES[name]

    def member(strength: Any) -> Defense:
        changes: dict[str, Any] = {family.parameter: strength}
        return dataclasses.replace(Defense(name), **changes)

    found = calibration.calibrate(
        lambda strength: member(strength).build(*on.surrogate),
        on.probs,
        on.images,
        target=l1,
        low=family.low,
        high=family.high,
        key=jax.random.key(0),
    )
    # Few digits: the strength names the cell, and must not hang on rounding.
    return member(float(f"{found.strength:.4g}")), found
