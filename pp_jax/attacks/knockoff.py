"""Knockoff Nets with the random strategy (Orekondy, Schiele, Fritz, CVPR 2019)."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from pp_jax._checks import check_count, check_random_key


class KnockoffState(NamedTuple):
    """The pool, the order in which it is asked about, and how far the attacker has come."""

    pool: Any
    order: np.ndarray
    position: int


@dataclasses.dataclass(frozen=True)
class Knockoff:
    """Ask about images of a public pool in random order, each at most once.

    Attributes:
        batch_size: images per `ask`; the last batch of the pool may be smaller.

    Raises:
        ValueError: for a batch size below 1.
    """

    batch_size: int = 500

    def __post_init__(self) -> None:
        """Check the batch size."""
        check_count("batch_size", self.batch_size, low=1)

    def capacity(self, pool_size: int) -> float:
        """As many questions as there are images."""
        return pool_size

    def init(self, key: jax.Array, pool: Any) -> KnockoffState:
        """Draw the order of the pool, (N, H, W, C)."""
        check_random_key(key)
        return KnockoffState(pool, np.asarray(jax.random.permutation(key, len(pool))), 0)

    def ask(self, state: KnockoffState) -> Any:
        """Return the next images of the pool, (B, H, W, C); empty when every image has been asked about."""
        return state.pool[state.order[state.position : state.position + self.batch_size]]

    def tell(self, state: KnockoffState, images: Any, answers: Any) -> KnockoffState:
        """Move on by as many images as were answered."""
        del images
        return state._replace(position=state.position + len(answers))
