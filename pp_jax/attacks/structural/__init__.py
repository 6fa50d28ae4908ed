"""Structural attacks: parameters or attributes of a victim found exactly, from what its form is known to be."""

from pp_jax.attacks.structural.attributes import Crafted, Meta, kennen_i, kennen_o
from pp_jax.attacks.structural.explanations import explainer, reconstruct
from pp_jax.attacks.structural.population import ATTRIBUTES, Population, population
from pp_jax.attacks.structural.relu import Extraction, extract
from pp_jax.attacks.structural.two_layer import TwoLayer, apart, of_mlp, switching

__all__ = [
    "ATTRIBUTES",
    "Crafted",
    "Extraction",
    "Meta",
    "Population",
    "TwoLayer",
    "apart",
    "explainer",
    "extract",
    "kennen_i",
    "kennen_o",
    "of_mlp",
    "population",
    "reconstruct",
    "switching",
]
