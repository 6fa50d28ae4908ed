"""Attackers whose queries are chosen by what they learn on the way, by name, and what their strategies are made of."""

from __future__ import annotations

from typing import Any

import jax

from pp_jax.attacks import (
    DFAL,
    ActiveThief,
    DFALKCenter,
    Dissector,
    KCenter,
    army_of_thieves,
    jbda_tr,
    swift_thief,
)
from pp_jax.evaluation.attackers import PLAIN, Attacker, AttackerSet, Learner
from pp_jax.evaluation.setups import Setup
from pp_jax.recovery.selecting import HardLabel
from pp_jax.training import Contrastive, Recipe, SelfDistillation, WrappingLoss
from pp_jax.types import LearningStrategy

COPYCAT = Attacker("Copycat CNN", HardLabel())
"""Random images of another domain, and hard labels: no strategy of its own, but a choice of pool and of recovery.

It is the attacker "hard label" by the name of its paper, and a claim of that paper as long as the pool is of another
domain than the victim's data. Source: Correia-Silva et al., IJCNN 2018; published with 22 kinds of augmentation (the
recipe's `augment`) and weights trained on ImageNet (`start`)."""
ACTIVE_ENTROPY = Attacker("ActiveThief, entropy", strategy=ActiveThief())
ACTIVE_KCENTER = Attacker("ActiveThief, k-center", strategy=ActiveThief(KCenter()))
ACTIVE_DFAL = Attacker("ActiveThief, DFAL", strategy=ActiveThief(DFAL()))
ACTIVE_DFAL_KCENTER = Attacker("ActiveThief, DFAL + k-center", strategy=ActiveThief(DFALKCenter()))
ARMY = Attacker("Army of Thieves", strategy=army_of_thieves())
SWIFT = Attacker("SwiftThief", strategy=swift_thief(), learner=Learner(Contrastive()))
DISSECTOR = Attacker("Black-box Dissector", HardLabel(), Dissector(), Learner(SelfDistillation()))
JBDA_TR = Attacker("JBDA-TR", strategy=jbda_tr(None))
"""Its seeds are images of the pool; `experiments.undefended` gives images of the victim's own kind."""

ACTIVE = AttackerSet(
    "active",
    "2026.11",
    (
        PLAIN,
        COPYCAT,
        ACTIVE_ENTROPY,
        ACTIVE_KCENTER,
        ACTIVE_DFAL,
        ACTIVE_DFAL_KCENTER,
        ARMY,
        SWIFT,
        DISSECTOR,
        JBDA_TR,
    ),
)
"""Query strategies beside one another, and the plain attacker, whose queries are random."""


def completed(attacker: Attacker, network: Any, recipe: Recipe | None, budget: int) -> Any:
    """The strategy of an attacker, with the parts that it lacks.

    Raises:
        ValueError: naming the attacker, for a budget that the strategy cannot split.
    """
    strategy = attacker.strategy
    if not isinstance(strategy, LearningStrategy):
        return strategy
    try:
        return strategy.completed(network=network, recipe=recipe, budget=budget)
    except ValueError as error:
        raise ValueError(f"{error} ({attacker.name})") from error


def rehearse(setup: Setup, attacker: Attacker) -> None:
    """Begin an attack without a query, so that what cannot be done is refused before long work.

    Raises:
        ValueError: naming the attacker, for a pool or a network that its strategy or its loss has no use of.
    """
    if attacker.online is not None:
        return
    loss = attacker.learner.loss
    if isinstance(loss, WrappingLoss) and setup.start is not None:
        raise ValueError(f"start is given: must be None for {attacker.name}, whose loss trains more than the network")
    strategy = completed(attacker, setup.network, setup.recipe, setup.budget // attacker.copies)
    try:
        if isinstance(loss, WrappingLoss):
            loss.around(setup.network)
        if isinstance(attacker.strategy, LearningStrategy):
            strategy.init(jax.random.key(0), setup.pool.images)
    except ValueError as error:
        raise ValueError(f"{error} ({attacker.name})") from error
