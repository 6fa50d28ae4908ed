"""Evasion: what a stolen model is good for. Adversarial examples by its gradients, and by queries to the victim alone.

Evasions are rules for one image under one contract (`Evasion`); `craft` makes the examples of many, `transfer` says how
many of them work on another model, `AdversarialCrossEntropy` trains a network against them. `multi_line_search`,
`evade_linear` and `evade_boolean` need no model: they ask a classifier which side points are on.
"""

from pp_jax.attacks.evasion.acre import LinearWeights, evade_boolean, evade_linear, linear_weights
from pp_jax.attacks.evasion.balls import Ball, L1Ball, L2Ball, LInfBall
from pp_jax.attacks.evasion.convex import multi_line_search
from pp_jax.attacks.evasion.crafting import craft
from pp_jax.attacks.evasion.density import MimicryDescent
from pp_jax.attacks.evasion.gradient import FGSM, PGD, Evasion, RandomSigns
from pp_jax.attacks.evasion.membership import Evaded, Membership
from pp_jax.attacks.evasion.robust import AdversarialCrossEntropy
from pp_jax.attacks.evasion.transfer import Transfer, random_targets, transfer

__all__ = [
    "FGSM",
    "PGD",
    "AdversarialCrossEntropy",
    "Ball",
    "Evaded",
    "Evasion",
    "L1Ball",
    "L2Ball",
    "LInfBall",
    "LinearWeights",
    "Membership",
    "MimicryDescent",
    "RandomSigns",
    "Transfer",
    "craft",
    "evade_boolean",
    "evade_linear",
    "linear_weights",
    "multi_line_search",
    "random_targets",
    "transfer",
]
