"""Families of defenses by one strength each, and the strength at which they cost the same."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from cells import loading
from owners import networks
from owners.defenses import Defense, Name
from owners.networks import Beside
from owners.surrogates import Surrogate
from thieves import theft

if TYPE_CHECKING:
    from steal import Config

HELD_OUT = 1000
"""Images of the pool, drawn by a key of their own, that strengths are calibrated on."""
ACCURACY_TOLERANCE = 1e-3
"""How far below a loss of accuracy still counts as that loss: 0.1 percentage points."""
DISTILLED = Surrogate("distilled", epochs=10)
"""GRAD²'s surrogate, as published."""


class Family(NamedTuple):
    """What is turned to make a defense stronger.

    Attributes:
        parameter: its name in `defenses.Defense`; None where there is nothing to turn.
        low: the weakest value.
        high: the strongest.
        published: the setting that its authors report; None where they report none, or a range.
        surrogate: the published one, where it is not the race's.
        exposed: whether its victim is trained with outlier exposure.
    """

    parameter: str | None
    low: float = 0.0
    high: float = 0.0
    published: dict[str, Any] | None = None
    surrogate: Surrogate | None = None
    exposed: bool = False


_BALL = Family("epsilon", 0.0, 2.0)
FAMILIES: dict[Name, Family] = {
    # The largest ε below 1, from which on labels flip.
    "mad": _BALL._replace(published={"epsilon": 0.99}),
    "mad_argmax": _BALL._replace(published={"epsilon": 0.99}),
    "min_inner": _BALL,
    "least_likely": _BALL,
    "next_class": _BALL,
    # Published as a sweep of β over [0, 1]: its end; γ is MNIST's.
    "reverse_sigmoid": Family("beta", 0.0, 1.0, {"beta": 1.0}),
    "random_noise": Family("radius", 0.0, 400.0),
    # The largest of the published .1, .2 and .5.
    "grad2": _BALL._replace(published={"epsilon": 0.5}, surrogate=DISTILLED),
    "grad2_argmax": _BALL._replace(surrogate=DISTILLED),
    "modelguard_w": _BALL._replace(published={"epsilon": 1.0}),
    "modelguard_s": _BALL._replace(published={"epsilon": 1.0}),
    "dcp": Family("beta", 0.0, 1.0),
    "bdpl": Family("zone", 0.0, 1.0),
    # CIFAR-10's τ: none is published for MNIST.
    "misinformation": Family("tau", 0.0, 1.0, {"tau": 0.7}, exposed=True),
    "edm": Family(None, published={}),
    # Its strength is what the owner loses of genuine answers; where strange queries run out, more of it costs nothing.
    "keyed_swap": Family("share", 0.0, 0.04),
    "always_swapped": Family(None),
    "merged": Family(None),
    # It has no gate: above 1 it would flip the surest of genuine answers, which it cannot tell from others.
    "learned": Family("epsilon", 0.0, 0.99),
}


LOST: tuple[Name, ...] = ("always_swapped", "merged", "learned")
"""Tried, and worse than what came of them: they race where they are named."""


class HeldOut(NamedTuple):
    """What strengths are calibrated on.

    Attributes:
        surrogate: network and parameters of the defender's.
        beside: networks of the defense's own.
        images: some of the pool, or test images.
        probs: the victim's clean posteriors of them.
        labels: of test images.
    """

    surrogate: tuple[Any, Any]
    beside: Beside
    images: Any
    probs: Any
    labels: Any = None


def held_out(like: Config, *, labelled: bool = False) -> HeldOut:
    """Images for the defense of a cell, and its victim and surrogate.

    Args:
        like: the cell.
        labelled: the first half of the test images, where accuracy is to be calibrated: the victim knows its training
            images too well. Otherwise images of the thief's pool, the same for all defenses.
    """
    import jax
    import numpy as np

    from pp_jax import metrics

    loading.prepare(like)
    at = theft.scene(dataclasses.replace(like, defense=Defense("none")))
    beside = networks.beside(like.defense.needs(), like.victim, like.runs, like.data_dir)
    if labelled:
        half = at.test[: len(at.test) // 2]
        images, labels = half.images, half.labels
    else:
        rows = np.asarray(jax.random.permutation(jax.random.key(2**20), len(at.pool)))[:HELD_OUT]
        images, labels = at.pool.images[rows], None
    probs = metrics.predict(at.victim.network, at.victim.params, images)
    return HeldOut(at.surrogate, beside, images, probs, labels)


def calibrated(name: Name, on: HeldOut, *, target: float) -> tuple[Defense, Any]:
    """The member of a family that costs its owner so much, and how it was found.

    Args:
        name: the family.
        on: what it is calibrated on.
        target: the mean L1 distance of the answers, 0 to 2; the share of correct answers that is lost, where what it is
            calibrated on has labels.
    """
    import jax

    from pp_jax import calibration

    family = FAMILIES[name]

    def member(strength: Any) -> Defense:
        changes: dict[str, Any] = {str(family.parameter): strength}
        return dataclasses.replace(Defense(name), **changes)

    options: dict[str, Any] = {}
    if on.labels is not None:
        options = {"cost": calibration.accuracy_loss(on.labels), "tolerance": ACCURACY_TOLERANCE}
    found = calibration.calibrate(
        lambda strength: member(strength).build(*on.surrogate, on.beside),
        on.probs,
        on.images,
        target=target,
        low=family.low,
        high=family.high,
        key=jax.random.key(0),
        **options,
    )
    # Few digits: the strength names the cell, and must not hang on rounding.
    return member(float(f"{found.strength:.4g}")), found


def published(name: Name) -> Defense | None:
    """A family at the setting that its authors report, if they report one."""
    changes = FAMILIES[name].published
    return None if changes is None else dataclasses.replace(Defense(name), **changes)
