"""What an oracle maximises, as a function of three inner products in the attacker's gradient space.

With u = Gᵀy the attacker's clean gradient and v = Gᵀz the poisoned one, everything is said by ⟨u, v⟩ = yᵀMz,
‖v‖² = zᵀMz and ‖u‖² = yᵀMy, M = GGᵀ. Oracles compute those for their candidates and call one of these functions.
"""

import jax
import jax.numpy as jnp

from pp_jax.gram.operator import Gram, as_operator


def cosine(cross: jax.Array, candidate: jax.Array, clean: jax.Array) -> jax.Array:
    """cos∠(u, v) = ⟨u, v⟩ / (‖u‖‖v‖) ∈ [−1, 1] from ⟨u, v⟩, ‖v‖², ‖u‖²; 1 (no deviation) where a gradient is zero."""
    defined = (candidate > 0) & (clean > 0)
    # Two roots: the product of two small squares would underflow.
    norms = jnp.sqrt(jnp.where(defined, candidate, 1)) * jnp.sqrt(jnp.where(defined, clean, 1))
    return jnp.where(defined, jnp.clip(cross / norms, -1, 1), 1)


def angular(cross: jax.Array, candidate: jax.Array, clean: jax.Array) -> jax.Array:
    """H = ‖u/‖u‖ − v/‖v‖‖² = 2 − 2 cos∠(u, v) ∈ [0, 4] (Orekondy et al. 2020, eq. 4); 0 where a gradient is zero.

    Args:
        cross: ⟨u, v⟩ = yᵀMz.
        candidate: ‖v‖² = zᵀMz.
        clean: ‖u‖² = yᵀMy.
    """
    return 2 - 2 * cosine(cross, candidate, clean)


def inner(cross: jax.Array, candidate: jax.Array, clean: jax.Array) -> jax.Array:
    """‖v − u‖² = zᵀMz − 2 yᵀMz + yᵀMy, the unnormalised deviation; arguments as for `angular`."""
    return candidate - 2 * cross + clean


def value(probs: jax.Array, answer: jax.Array, gram: Gram | jax.Array) -> jax.Array:
    """H(ỹ), the angular objective of a response.

    Args:
        probs: clean posterior y, (K,).
        answer: ỹ, (K,).
        gram: M, an operator or a matrix (K, K).

    Returns:
        A scalar in [0, 4]; 0 where Gᵀy = 0 or Gᵀỹ = 0.
    """
    gram = as_operator(gram)
    return angular(gram.inner(answer, probs), gram.quadratic(answer), gram.quadratic(probs))


def deviation(probs: jax.Array, answer: jax.Array, gram: Gram | jax.Array) -> jax.Array:
    """The angle between the clean and the poisoned gradient, in degrees, [0, 180]; arguments as for `value`."""
    return jnp.degrees(jnp.arccos(1 - value(probs, answer, gram) / 2))
