"""Training on soft labels: the same few lines fit a victim to its labels and a thief to stolen answers."""

from pp_jax.training.fitting import State, fit, start
from pp_jax.training.many import Sets, bytes_each, fit_many
from pp_jax.training.privacy import Privacy
from pp_jax.training.recipe import Recipe
from pp_jax.training.resuming import fit_resumably
from pp_jax.training.step import Trainable, make_step, soft_cross_entropy
from pp_jax.training.validation import Best

__all__ = [
    "Best",
    "Privacy",
    "Recipe",
    "Sets",
    "State",
    "Trainable",
    "bytes_each",
    "fit",
    "fit_many",
    "fit_resumably",
    "make_step",
    "soft_cross_entropy",
    "start",
]
