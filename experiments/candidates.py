"""Poisons that were tried on the way to the keyed swap and lost, kept for their evidence."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax.numpy as jnp

from pp_jax import simplex
from pp_jax.pytree import pytree

if TYPE_CHECKING:
    import jax

    from pp_jax.novelty import Novelty
    from pp_jax.types import Query


@pytree
@dataclasses.dataclass(frozen=True)
class Merged:
    """Tell strange queries the pair alone: ỹ = (y + y_π)/2 where level(x) < q, else y; no coin.

    It says as little of a strange query as the keyed swap, at half the L1 distance in the worst case. But it shows
    which answers are clean.

    Attributes:
        novelty: the gate; None to count every query as strange.
        partners: π, (K,) whole numbers, each other's.
        share: q.
    """

    novelty: Novelty | None
    partners: jax.Array
    share: jax.Array | float

    random = False

    def __call__(self, probs: jax.Array, query: Query) -> jax.Array:
        """Return the answer for one posterior, (K,)."""
        probs = simplex.working(probs)
        merged = (probs + probs[self.partners]) / 2
        if self.novelty is None:
            return merged
        return jnp.where(self.novelty.level(probs, query.image) < self.share, merged, probs)
