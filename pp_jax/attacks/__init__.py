"""Attacks: query strategies under one ask/tell contract, and the driver that gives them a budget."""

from pp_jax.attacks.adaptive import AdaptiveKnockoff
from pp_jax.attacks.augment import SignedGradient, TargetedPGD
from pp_jax.attacks.driver import collect
from pp_jax.attacks.jacobian import JacobianAugmentation, jb_self, jb_topk, jbda
from pp_jax.attacks.knockoff import Knockoff
from pp_jax.attacks.online import OnlineTheft, online
from pp_jax.attacks.rewards import Certainty, Diversity, Loss
from pp_jax.attacks.seeking import Seeking
from pp_jax.attacks.spending import QueriesFailed, QueriesStopped

__all__ = [
    "AdaptiveKnockoff",
    "Certainty",
    "Diversity",
    "JacobianAugmentation",
    "Knockoff",
    "Loss",
    "OnlineTheft",
    "QueriesFailed",
    "QueriesStopped",
    "Seeking",
    "SignedGradient",
    "TargetedPGD",
    "collect",
    "jb_self",
    "jb_topk",
    "jbda",
    "online",
]
