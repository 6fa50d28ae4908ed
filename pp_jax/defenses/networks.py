"""What defenses that own a network share: its posterior, and the check that it fits the victim."""

import jax
import jax.numpy as jnp

from pp_jax.types import LogitsFn, Params


def log_posterior(logits_fn: LogitsFn, params: Params, image: jax.Array) -> jax.Array:
    """log softmax(logits_fn(params, image)) of one image, (K,), in float32 or wider."""
    logits = logits_fn(params, image)
    return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def posterior(logits_fn: LogitsFn, params: Params, image: jax.Array) -> jax.Array:
    """softmax(logits_fn(params, image)) of one image, (K,), in float32 or wider."""
    logits = logits_fn(params, image)
    return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))


def check_classes(own: int, victims: int) -> None:
    """Refuse a network that knows another number of classes than the victim.

    Raises:
        ValueError: naming both numbers.
    """
    if own != victims:
        raise ValueError(f"the defense's network knows {own} classes, the victim's posterior has {victims}")
