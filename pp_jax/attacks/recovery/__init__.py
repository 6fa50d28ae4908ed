"""Recovery: attackers who know that a defense is there turn poisoned answers into better targets."""

from pp_jax.attacks.recovery.ddae import PUBLISHED, ddae, ddae_plus, shadow_posteriors
from pp_jax.attacks.recovery.inversion import invert_known_mad, invert_mad, preimages, purity
from pp_jax.attacks.recovery.neighbours import fit_between, infer_readings, pairs_from_queries
from pp_jax.attacks.recovery.partial_bayes import partial_bayes
from pp_jax.attacks.recovery.semi import SemiLoss, fit_semi, make_semi_step
from pp_jax.attacks.recovery.semi_losses import FirstClasses, MixMatch, Rotations
from pp_jax.attacks.recovery.simple import nudge, smoothing, top1

__all__ = [
    "PUBLISHED",
    "FirstClasses",
    "MixMatch",
    "Rotations",
    "SemiLoss",
    "ddae",
    "ddae_plus",
    "fit_between",
    "fit_semi",
    "infer_readings",
    "invert_known_mad",
    "invert_mad",
    "make_semi_step",
    "nudge",
    "pairs_from_queries",
    "partial_bayes",
    "preimages",
    "purity",
    "shadow_posteriors",
    "smoothing",
    "top1",
]
