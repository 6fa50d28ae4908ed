"""Structural attacks: a victim's own parameters, from what its responses say of its form; nothing is trained."""

from pp_jax.attacks.structural import hyperparameters
from pp_jax.attacks.structural.asking import LabelAPI
from pp_jax.attacks.structural.boundaries import learn_linear
from pp_jax.attacks.structural.equations import StolenLinear, solve_linear
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
from pp_jax.attacks.structural.scikit import ScikitAPI, TreeAPI

__all__ = [
    "HiddenLayer",
    "LabelAPI",
    "Leaves",
    "Linear",
    "ScikitAPI",
    "StolenHiddenLayer",
    "StolenHyperparameter",
    "StolenLinear",
    "StolenTree",
    "TreeAPI",
    "find_paths",
    "find_paths_top_down",
    "fit_hidden_layer",
    "fit_softmax",
    "hyperparameters",
    "learn_linear",
    "learn_tree",
    "linear_logits",
    "solve_hidden_layer",
    "solve_linear",
    "solve_softmax",
    "steal_head",
    "unknowns",
]
