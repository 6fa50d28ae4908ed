"""Structural attacks: parameters or attributes of a victim found exactly, from what its form is known to be."""

from pp_jax.attacks.structural.attributes import Crafted, Meta, kennen_i, kennen_o
from pp_jax.attacks.structural.explanations import explainer, reconstruct_from_gradients
from pp_jax.attacks.structural.population import ATTRIBUTES, Population, train_population
from pp_jax.attacks.structural.relu import StolenTwoLayer, extract_relu
from pp_jax.attacks.structural.two_layer import TwoLayer, of_mlp, parameter_difference, switching_units

__all__ = [
    "ATTRIBUTES",
    "Crafted",
    "Meta",
    "Population",
    "StolenTwoLayer",
    "TwoLayer",
    "explainer",
    "extract_relu",
    "kennen_i",
    "kennen_o",
    "of_mlp",
    "parameter_difference",
    "reconstruct_from_gradients",
    "switching_units",
    "train_population",
]
