"""The posterior of a network, and its logarithm."""

import jax
import jax.numpy as jnp

from pp_jax.types import LogitsFn, Params


def posterior(logits_fn: LogitsFn, params: Params, image: jax.Array) -> jax.Array:
    """softmax(logits_fn(params, image)) of one image, (K,), in float32 or wider."""
    return jax.nn.softmax(_logits(logits_fn, params, image))


def log_posterior(logits_fn: LogitsFn, params: Params, image: jax.Array) -> jax.Array:
    """log softmax(logits_fn(params, image)) of one image, (K,), in float32 or wider."""
    return jax.nn.log_softmax(_logits(logits_fn, params, image))


def _logits(logits_fn: LogitsFn, params: Params, image: jax.Array) -> jax.Array:
    """The logits, in float32 or wider: the exponentials of half precision cancel."""
    logits = logits_fn(params, image)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
