"""What was answered, kept on the host to be learned from again."""

from typing import Any, NamedTuple

import jax
import numpy as np


class Memory(NamedTuple):
    """Images and their targets, in parts as they were answered; adding makes another memory.

    Attributes:
        images: parts (n, H, W, C).
        targets: the same parts, (n, K).
    """

    images: tuple[np.ndarray, ...] = ()
    targets: tuple[np.ndarray, ...] = ()

    @property
    def size(self) -> int:
        """How many images."""
        return sum(map(len, self.targets))

    def add(self, images: Any, targets: Any, *, capacity: int) -> "Memory":
        """With one more part, and without the oldest parts while the others hold `capacity` images."""
        every = Memory((*self.images, np.asarray(images)), (*self.targets, np.asarray(targets)))
        first, kept = 0, every.size
        while kept - len(every.targets[first]) >= capacity:
            kept -= len(every.targets[first])
            first += 1
        return Memory(every.images[first:], every.targets[first:])

    def draw(self, key: jax.Array, *, steps: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Random images with replacement, (steps, size, H, W, C), and their targets, (steps, size, K)."""
        ends = np.cumsum([len(part) for part in self.targets])
        rows = np.asarray(jax.random.randint(key, (steps * size,), 0, int(ends[-1])))
        parts = np.searchsorted(ends, rows, side="right")
        offsets = rows - np.concatenate([[0], ends])[parts]

        def gathered(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
            found = np.stack([arrays[part][offset] for part, offset in zip(parts, offsets, strict=True)])
            return found.reshape(steps, size, *arrays[0].shape[1:])

        return gathered(self.images), gathered(self.targets)
