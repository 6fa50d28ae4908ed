"""The Gram matrix of the surrogate's last dense layer, in closed form: one forward pass, no backward pass."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pp_jax.gram.operator import Identity, LastLayer
from pp_jax.types import LogitsFn, Params


def last_layer(
    logits_fn: LogitsFn,
    params: Params,
    image: jax.Array,
    *,
    features_fn: Callable[[Params, jax.Array], jax.Array] | None = None,
    bias: bool = False,
) -> LastLayer:
    """Gram matrix over the weights of the last dense layer.

    M = s (I − 1pᵀ)(I − 1pᵀ)ᵀ with p = softmax(logits_fn(params, image)), since ∇_W log p_k = (e_k − p) ⊗ h. The scale
    s = ‖h‖² (+1 with the bias) changes neither an angle nor an oracle's choice, so without `features_fn` it is 1.

    Args:
        logits_fn: the surrogate, `logits_fn(params, image) -> (K,)`.
        params: its parameters.
        image: one image, (H, W, C).
        features_fn: `features_fn(params, image) -> h`, the input of the last layer, (F,), where the scale is wanted.
        bias: whether the bias of that layer counts as a parameter.

    Returns:
        The operator `LastLayer`; `.matrix()` or `jnp.asarray` gives M, (K, K).

    Source: Orekondy et al. 2020, the setting of the released code; the closed form is derived in docs/theory.md.
    """
    logits = logits_fn(params, image)
    p = jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))
    if features_fn is None:
        return LastLayer(p, jnp.ones((), p.dtype))
    features = features_fn(params, image).astype(p.dtype).ravel()
    return LastLayer(p, features @ features + int(bias))


def identity(logits_fn: LogitsFn, params: Params, image: jax.Array) -> Identity:
    """Gram matrix of the ablation without a surrogate, G = I: M = I; the network is not run.

    Args:
        logits_fn: the surrogate, of which only the number of classes is used.
        params: its parameters.
        image: one image, (H, W, C).

    Returns:
        The operator `Identity`.

    Source: Orekondy et al. 2020, ablation "G = I".
    """
    shape = jax.eval_shape(logits_fn, params, image)
    return Identity(jnp.ones(shape.shape, jnp.promote_types(shape.dtype, jnp.float32)))
