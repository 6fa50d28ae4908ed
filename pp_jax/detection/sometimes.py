"""Work that is due at some queries only: skipped, not just masked, where accounts are mapped over."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


def when(due: jax.Array, function: Callable[..., jax.Array], otherwise: jax.Array, *operands: Any) -> jax.Array:
    """`function(*operands)` where it is due, the value `otherwise` elsewhere.

    `lax.cond` under `vmap` evaluates both branches for every account. This evaluates `function` only if it is due for
    any of the accounts; accounts that are in step, query by query, so pay for it at those queries alone.

    Args:
        due: scalar bool.
        function: of the operands and nothing else that is traced; returns the type of `otherwise`.
        otherwise: what there is without it.
        operands: pytrees.
    """

    @custom_vmap
    def chosen(due: jax.Array, otherwise: jax.Array, operands: Any) -> jax.Array:
        return jax.lax.cond(due, lambda: function(*operands), lambda: otherwise)

    @chosen.def_vmap
    def mapped(size: int, batched: Any, due: jax.Array, otherwise: jax.Array, operands: Any) -> tuple[jax.Array, bool]:
        axes = jax.tree.map(lambda each: 0 if each else None, batched)

        def one(due: jax.Array, otherwise: jax.Array, operands: Any) -> jax.Array:
            return jnp.where(due, function(*operands), otherwise)

        def all_of_them() -> jax.Array:
            return jax.vmap(one, in_axes=axes, axis_size=size)(due, otherwise, operands)

        def none_of_them() -> jax.Array:
            return (
                jnp.broadcast_to(otherwise, (size, *otherwise.shape[1:])) if batched[1] else jnp.full(size, otherwise)
            )

        return jax.lax.cond(jnp.any(due), all_of_them, none_of_them), True

    return chosen(due, otherwise, operands)
