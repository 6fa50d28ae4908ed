"""Defenses brought to equal cost: the strength at which each loses the same accuracy, or moves responses as far."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import numpy as np

from pp_jax.evaluation import calibration
from pp_jax.evaluation.entries import Entry
from pp_jax.evaluation.setups import Setup, deploy
from pp_jax.training.predicting import predict

Equal = Literal["accuracy", "l1"]

HELD_OUT = 1000
"""Images of the pool, drawn by a key of their own, that L1 is calibrated on."""
ACCURACY_TOLERANCE = 1e-3
"""How far below a loss of accuracy still counts as that loss: 0.1 percentage points."""


class Equalized(NamedTuple):
    """An entry at the strength that was found for it.

    Attributes:
        entry: with that strength.
        target: what it may cost; None where it has no strength, or was asked for as it is.
        met: whether calibration reached the target.
        note: what its name does not say.
    """

    entry: Entry
    target: float | None = None
    met: bool = True
    note: str = ""


def equalize(setup: Setup, entry: Entry, *, equal: Equal, at: float) -> Equalized:
    """Find the strength at which a defense costs a given amount.

    Accuracy is calibrated on the first half of the test images, as the victim knows its training images too well; L1 on
    images of the pool. Strengths are found with the surrogate of seed 0.

    Args:
        setup: victim, pool and test images.
        entry: a defense class with a strength; others are returned as they are.
        equal: what is made equal: the defender's loss of accuracy, or the mean L1 distance of the responses.
        at: the amount: a share in (0, 1], or an L1 distance in (0, 2].

    Returns:
        The entry at that strength; at its full strength where that costs less.

    Raises:
        ValueError: for an amount out of range.
    """
    check_amount(equal, at)
    if entry.undefended:
        return Equalized(entry)
    strength = entry.strength
    if strength is None:
        return Equalized(entry, note="no strength to turn")
    victim = setup.victim_of(entry)
    images, probs, labels = _held_out(setup, victim is not setup.victim, equal)
    options: dict[str, Any] = {}
    if labels is not None:
        options = {"cost": calibration.accuracy_loss(labels), "tolerance": ACCURACY_TOLERANCE}
    found = calibration.calibrate(
        _family(setup, entry),
        probs,
        images,
        target=at,
        low=strength.low,
        high=strength.high,
        key=jax.random.key(0),
        **options,
    )
    # Few digits: the strength names the run, and must not depend on rounding.
    tuned = entry.at(float(f"{found.strength:.4g}"))
    if not found.met and found.strength == strength.high:
        cost = f"loses {100 * found.cost:.1f} points" if equal == "accuracy" else f"mean L1 {found.cost:.2f}"
        return Equalized(tuned, None, True, f"full strength, {cost}")
    note = f"may lose {100 * at:g} points" if equal == "accuracy" else ""
    return Equalized(tuned, at if equal == "l1" else None, found.met, note)


def check_amount(equal: Equal, at: float) -> None:
    """Refuse an amount that cannot be lost.

    Raises:
        ValueError: for a share of accuracy outside (0, 1], or an L1 distance outside (0, 2].
    """
    if equal not in get_args(Equal):
        raise ValueError(f"equal is {equal!r}: must be one of {', '.join(get_args(Equal))}")
    most = 1 if equal == "accuracy" else 2
    if not 0 < at <= most:
        raise ValueError(f"at is {at:g}: must be above 0 and at most {most} where {equal} is made equal")


def _family(setup: Setup, entry: Entry) -> Any:
    """The defense for each strength: made once, its strength replaced where it is a leaf."""
    name = entry.strength.parameter if entry.strength else ""
    made = deploy(setup, entry.at(entry.strength.high) if entry.strength else entry, 0).box.defense
    if dataclasses.is_dataclass(made) and name in {field.name for field in dataclasses.fields(made)}:
        return lambda strength: dataclasses.replace(made, **{name: strength})
    return lambda strength: deploy(setup, entry.at(strength), 0).box.defense


@functools.lru_cache(maxsize=4)
def _held_out(setup: Setup, exposed: bool, equal: Equal) -> tuple[Any, Any, Any]:
    """Images, the victim's clean posteriors of them, and labels where accuracy is calibrated."""
    victim = setup.victim.exposed if exposed and setup.victim.exposed is not None else setup.victim
    if equal == "accuracy":
        half = len(setup.test.images) // 2
        images, labels = setup.test.images[:half], np.asarray(setup.test.labels)[:half]
    else:
        rows = np.asarray(jax.random.permutation(jax.random.key(2**20), len(setup.pool.images)))[:HELD_OUT]
        images, labels = setup.pool.images[rows], None
    return images, predict(victim.network, victim.params, images), labels
