"""Defenses that perturb a prediction: `defense(probs, query) -> answer`, one posterior at a time."""

from pp_jax.defenses.composition import Chain, chain
from pp_jax.defenses.mad import MAD
from pp_jax.defenses.random_noise import RandomNoise
from pp_jax.defenses.reverse_sigmoid import ReverseSigmoid
from pp_jax.defenses.truncation import Rounding, Top1, TopK

__all__ = ["MAD", "Chain", "RandomNoise", "ReverseSigmoid", "Rounding", "Top1", "TopK", "chain"]
