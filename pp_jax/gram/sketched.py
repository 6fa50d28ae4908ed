"""An unbiased estimate of the Gram matrix from a few directional derivatives: forward mode, for many classes."""

import jax
import jax.numpy as jnp
from jax import lax

from pp_jax.gram.jacobian import Where, select, trainable
from pp_jax.types import LogitsFn, Params


def sketched(
    logits_fn: LogitsFn,
    params: Params,
    image: jax.Array,
    *,
    directions: int,
    key: jax.Array | None = None,
    seed: int | None = None,
    where: Where = trainable,
    at_once: int = 8,
) -> jax.Array:
    """Estimate of the Gram matrix M = GGᵀ from m random directions in parameter space.

    M̂ = (1/m) Σ_i (G z_i)(G z_i)ᵀ, z_i ~ N(0, I): E M̂ = M, E‖M̂ − M‖_F² = (‖M‖_F² + (tr M)²)/m. Each G z_i is one
    forward-mode derivative, whatever K is; M̂ is symmetric, positive semi-definite and of rank at most m. All images
    meet the same directions, so `functools.partial(sketched, seed=0, directions=64)` answers a query the same way each
    time. It pays where m is well below K.

    Args:
        logits_fn: the surrogate, `logits_fn(params, image) -> (K,)`.
        params: its parameters, a pytree.
        image: one image, (H, W, C).
        directions: m, at least 1.
        key: PRNG key of the directions (`jax.random.key`).
        seed: instead of `key`, its seed.
        where: predicate on parameter paths such as "params/Dense_0/kernel".
        at_once: directions worked on together, at least 1; memory holds as many copies of the parameters.

    Returns:
        M̂, (K, K), in float32 or wider.

    Raises:
        ValueError: if `directions` or `at_once` is below 1, not exactly one of `key` and `seed` is given, or `where`
            picks no parameter.

    Source: Wishart moments for the error; the estimator is Hutchinson's (1990) applied to every entry of GGᵀ.
    """
    if directions < 1 or at_once < 1:
        raise ValueError(f"directions={directions} and at_once={at_once} must be at least 1")
    if (key is None) == (seed is None):
        raise ValueError(f"exactly one of key={key} and seed={seed} must be given")
    key = jax.random.key(0 if seed is None else seed) if key is None else key
    chosen, restore = select(params, where)

    def log_posterior(leaves: list[jax.Array]) -> jax.Array:
        logits = logits_fn(restore(leaves), image)
        return jax.nn.log_softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    def derivative(key: jax.Array) -> jax.Array:
        return jax.jvp(log_posterior, (chosen,), (_direction(key, chosen),))[1]

    rows = lax.map(derivative, jax.random.split(key, directions), batch_size=min(at_once, directions))
    return rows.T @ rows / directions


def _direction(key: jax.Array, leaves: list[jax.Array]) -> list[jax.Array]:
    """Standard normal numbers in the shapes of `leaves`."""
    keys = jax.random.split(key, len(leaves))
    return [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
