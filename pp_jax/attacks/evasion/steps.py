"""The one step that every gradient-based rule is made of, and the direction that it takes."""

import jax
import jax.numpy as jnp

from pp_jax.attacks.evasion.balls import Ball, LInfBall
from pp_jax.types import LogitsFn, Params

LINF = LInfBall()


def log_odds(logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array) -> jax.Array:
    """log p_y − log(1 − p_y) = z_y − log Σ_{k≠y} exp z_k of a class y, a scalar.

    It grows with log p_y, so that its gradient points the way of the (negative) cross-entropy's; but it does not vanish
    where p_y rounds to one.
    """
    label_logit, others = _split(logits_fn, params, image, label)
    return label_logit - jax.nn.logsumexp(others)


def margin(logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array) -> jax.Array:
    """z_y − max_{k≠y} z_k of a class y, a scalar: positive where the network says y, negative where it does not."""
    label_logit, others = _split(logits_fn, params, image, label)
    return label_logit - jnp.max(others)


def direction_towards(logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array) -> jax.Array:
    """A positive multiple of ∇_x log p_y, (H, W, C): the way on which the class y grows likelier."""
    return jax.grad(lambda image: log_odds(logits_fn, params, image, label))(image)


def stepped(image: jax.Array, direction: jax.Array, step_size: jax.Array | float, *, ball: Ball = LINF) -> jax.Array:
    """The image one step of a length along the steepest direction, its pixels kept in [0, 1]; dtype as it was."""
    return jnp.clip(image + step_size * ball.steepest(direction), 0, 1).astype(image.dtype)


def floating(image: jax.Array) -> jax.Array:
    """Pixels in [0, 1], in float32 or wider: uint8 in 255ths, others as they are."""
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 255
    return image.astype(jnp.promote_types(image.dtype, jnp.float32))


def _split(logits_fn: LogitsFn, params: Params, image: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The logit of a class, and those of all classes with −∞ in its place."""
    logits = logits_fn(params, image)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    own = jnp.arange(len(logits)) == label
    return logits[label], jnp.where(own, -jnp.inf, logits)
