"""Training: one loop over epochs with an exchangeable loss, for a victim on its labels and an attacker on responses."""

from pp_jax.training.adapting import t3a
from pp_jax.training.contracts import Loss, Trainable, WrappingLoss
from pp_jax.training.contrastive import Contrastive
from pp_jax.training.entangled import Entangled, soft_nearest_neighbour
from pp_jax.training.erasing import SelfDistillation
from pp_jax.training.fitting import State, fit, start
from pp_jax.training.losses import OutlierExposure, SoftCrossEntropy, outlier_exposure, soft_cross_entropy
from pp_jax.training.many import Sets, bytes_each, fit_many
from pp_jax.training.privacy import Privacy
from pp_jax.training.recipe import Recipe
from pp_jax.training.resuming import fit_resumably
from pp_jax.training.semi_supervised import FirstClasses, MixMatch, Rotations
from pp_jax.training.step import make_step
from pp_jax.training.tempered import Tempered
from pp_jax.training.validation import Best

__all__ = [
    "Best",
    "Contrastive",
    "Entangled",
    "FirstClasses",
    "Loss",
    "MixMatch",
    "OutlierExposure",
    "Privacy",
    "Recipe",
    "Rotations",
    "SelfDistillation",
    "Sets",
    "SoftCrossEntropy",
    "State",
    "Tempered",
    "Trainable",
    "WrappingLoss",
    "bytes_each",
    "fit",
    "fit_many",
    "fit_resumably",
    "make_step",
    "outlier_exposure",
    "soft_cross_entropy",
    "soft_nearest_neighbour",
    "start",
    "t3a",
]
