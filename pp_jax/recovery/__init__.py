"""Recovery: attackers who know that a defense is there turn poisoned answers into better targets."""

from pp_jax.recovery.ddae import PUBLISHED, ddae, ddae_plus, shadow_posteriors
from pp_jax.recovery.inversion import invert_known_mad, invert_mad, preimages, purity
from pp_jax.recovery.partial_bayes import partial_bayes
from pp_jax.recovery.simple import nudge, smoothing, top1

__all__ = [
    "PUBLISHED",
    "ddae",
    "ddae_plus",
    "invert_known_mad",
    "invert_mad",
    "nudge",
    "partial_bayes",
    "preimages",
    "purity",
    "shadow_posteriors",
    "smoothing",
    "top1",
]
