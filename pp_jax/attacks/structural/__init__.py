"""Structural attacks: a victim's own parameters or attributes, from what its responses say of its form."""

from pp_jax.attacks.structural import hyperparameters
from pp_jax.attacks.structural.asking import LabelAPI
from pp_jax.attacks.structural.attributes import Crafted, Meta, kennen_i, kennen_o
from pp_jax.attacks.structural.boundaries import learn_linear
from pp_jax.attacks.structural.equations import StolenLinear, solve_linear
from pp_jax.attacks.structural.explanations import explainer, reconstruct_from_gradients
from pp_jax.attacks.structural.head import steal_head
from pp_jax.attacks.structural.hidden_layer import (
    HiddenLayer,
    StolenHiddenLayer,
    fit_hidden_layer,
    solve_hidden_layer,
    unknowns,
)
from pp_jax.attacks.structural.hyperparameters import StolenHyperparameter
from pp_jax.attacks.structural.label_tree import learn_tree
from pp_jax.attacks.structural.leaves import Leaves, StolenTree
from pp_jax.attacks.structural.linear import Linear, fit_softmax, linear_logits, solve_softmax
from pp_jax.attacks.structural.path_finding import find_paths, find_paths_top_down
from pp_jax.attacks.structural.population import ATTRIBUTES, Population, train_population
from pp_jax.attacks.structural.relu import StolenTwoLayer, extract_relu
from pp_jax.attacks.structural.scikit import ScikitAPI, TreeAPI
from pp_jax.attacks.structural.two_layer import TwoLayer, of_mlp, parameter_difference, switching_units

__all__ = [
    "ATTRIBUTES",
    "Crafted",
    "HiddenLayer",
    "LabelAPI",
    "Leaves",
    "Linear",
    "Meta",
    "Population",
    "ScikitAPI",
    "StolenHiddenLayer",
    "StolenHyperparameter",
    "StolenLinear",
    "StolenTree",
    "StolenTwoLayer",
    "TreeAPI",
    "TwoLayer",
    "explainer",
    "extract_relu",
    "find_paths",
    "find_paths_top_down",
    "fit_hidden_layer",
    "fit_softmax",
    "hyperparameters",
    "kennen_i",
    "kennen_o",
    "learn_linear",
    "learn_tree",
    "linear_logits",
    "of_mlp",
    "parameter_difference",
    "reconstruct_from_gradients",
    "solve_hidden_layer",
    "solve_linear",
    "solve_softmax",
    "steal_head",
    "switching_units",
    "train_population",
    "unknowns",
]
