"""Defenses that perturb a prediction: `defense(probs, query) -> answer`, one posterior at a time."""

from pp_jax.defenses import diverse, grad2, honeytrace, keyed_swap, misinformation
from pp_jax.defenses.apmsa import APMSA
from pp_jax.defenses.boundary import BDPL
from pp_jax.defenses.cards import Card, Defender, Strength
from pp_jax.defenses.composition import Chain, chain
from pp_jax.defenses.dawn import DAWN
from pp_jax.defenses.distillation import Distillation
from pp_jax.defenses.diverse import EDM
from pp_jax.defenses.emma import EMMA
from pp_jax.defenses.gated import GatedResampled
from pp_jax.defenses.grad2 import GRAD2
from pp_jax.defenses.honeytrace import Honeytrace
from pp_jax.defenses.keyed_swap import KeyedSwap
from pp_jax.defenses.mad import MAD
from pp_jax.defenses.misinformation import AdaptiveMisinformation
from pp_jax.defenses.modelguard import ModelGuardS, ModelGuardW
from pp_jax.defenses.nasty import NastyTeacher
from pp_jax.defenses.pate import PATE
from pp_jax.defenses.queen import QUEEN
from pp_jax.defenses.random_noise import RandomNoise
from pp_jax.defenses.resampled import Resampled
from pp_jax.defenses.retrained import Retrained
from pp_jax.defenses.reverse_sigmoid import DCP, ReverseSigmoid
from pp_jax.defenses.surrogates import Surrogate
from pp_jax.defenses.truncation import HighConfidence, Rounding, Top1, TopK

__all__ = [
    "APMSA",
    "BDPL",
    "DAWN",
    "DCP",
    "EDM",
    "EMMA",
    "GRAD2",
    "MAD",
    "PATE",
    "QUEEN",
    "AdaptiveMisinformation",
    "Card",
    "Chain",
    "Defender",
    "Distillation",
    "GatedResampled",
    "HighConfidence",
    "Honeytrace",
    "KeyedSwap",
    "ModelGuardS",
    "ModelGuardW",
    "NastyTeacher",
    "RandomNoise",
    "Resampled",
    "Retrained",
    "ReverseSigmoid",
    "Rounding",
    "Strength",
    "Surrogate",
    "Top1",
    "TopK",
    "chain",
    "diverse",
    "grad2",
    "honeytrace",
    "keyed_swap",
    "misinformation",
]
