"""Gram matrices of a surrogate's log-posterior: the only part of MAD that knows a network exists.

A Gram function has the signature `gram(logits_fn, params, image) -> M`, one image, M an operator or a matrix (K, K).
"""

from pp_jax.gram.all_layers import all_layers
from pp_jax.gram.jacobian import jacobian, trainable
from pp_jax.gram.last_layer import identity, last_layer
from pp_jax.gram.operator import Dense, Gram, Identity, LastLayer, as_operator
from pp_jax.gram.sketched import sketched

__all__ = [
    "Dense",
    "Gram",
    "Identity",
    "LastLayer",
    "all_layers",
    "as_operator",
    "identity",
    "jacobian",
    "last_layer",
    "sketched",
    "trainable",
]
