"""Images of a pool, each with copies that differ in a pixel: what a defense makes of nearly equal queries."""

import dataclasses
from typing import Any

import jax
import numpy as np

from pp_jax._checks import check_count
from pp_jax.attacks.knockoff import Knockoff, KnockoffState


@dataclasses.dataclass(frozen=True)
class NearCopies:
    """Query images of a pool in random order, each followed by copies with one pixel changed by a 255th.

    The victim answers such copies all but alike; a defense that draws per image does not, and one that gives stored
    responses answers alike to the last bit. `recovery.CopyTest` reads the responses in groups of `copies`.

    Attributes:
        copies: of each image, itself included, at least 2; every one is a query.
        batch_size: images of the pool per `ask`.

    Raises:
        ValueError: for a number out of range.
    """

    copies: int = 2
    batch_size: int = 250

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_count("copies", self.copies, low=2)
        check_count("batch_size", self.batch_size, low=1)

    def capacity(self, pool_size: int) -> float:
        """As many questions as there are images with their copies."""
        return self.copies * pool_size

    def init(self, key: jax.Array, pool: Any) -> KnockoffState:
        """Draw the order of the pool, (N, H, W, C)."""
        return Knockoff(self.batch_size).init(key, pool)

    def ask(self, state: KnockoffState) -> Any:
        """Return the next images of the pool, each with its copies behind it, (B · copies, H, W, C)."""
        images = Knockoff(self.batch_size).ask(state)
        changed = np.repeat(np.asarray(images)[:, None], self.copies, axis=1)
        pixels = changed.reshape(len(changed), self.copies, -1)
        for copy in range(1, self.copies):
            place = (pixels.shape[2] // 2 + copy) % pixels.shape[2]
            old = pixels[:, copy, place]
            pixels[:, copy, place] = old ^ 1 if old.dtype == np.uint8 else old + np.where(old < 0.5, 1, -1) / 255
        return changed.reshape(-1, *changed.shape[2:])

    def tell(self, state: KnockoffState, images: Any, answers: Any) -> KnockoffState:
        """Move on by as many images as were answered with all their copies."""
        del images
        return state._replace(position=state.position + len(answers) // self.copies)
